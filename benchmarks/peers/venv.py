"""The peers' own environment, `.venv-bench`, so that what they need never meets what the product needs.

    python = venv.python_with("bytewax")         # raises NotInstalled, with the reason for the table

`make bench` makes it from requirements-bench.lock. GENLEDGER_BENCH_PYTHON names another interpreter.
"""

import functools
import os
import subprocess
from pathlib import Path

from benchmarks import BenchmarkFailed

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-bench" / "bin" / "python"
LOOK_S = 60.0


class NotInstalled(BenchmarkFailed):
    """A peer that is not there: to be shown as such, not as a failure."""


@functools.cache
def python_with(package: str) -> str:
    """The interpreter that has the package."""
    python = os.environ.get("GENLEDGER_BENCH_PYTHON", str(PYTHON))
    if not Path(python).exists():
        raise NotInstalled(f"{package} is not installed: `make bench` installs it")
    command = [python, "-c", f"import {package}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LOOK_S)
    if done.returncode != 0:
        raise NotInstalled(f"{package} can't be installed on this Python")
    return python
