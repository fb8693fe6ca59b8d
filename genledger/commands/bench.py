"""`genledger bench`: how fast it is on this machine."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from streams.errors import GenledgerError

app = App(
    name="bench",
    help_prologue="""Examples:
  genledger bench
  genledger bench -- --help
""",
)


@app.default
def bench(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run the benchmarks of the source tree: `python -m benchmarks`.

    Parameters
    ----------
    arguments
        What the benchmarks take.
    """
    root = Path(__file__).parents[2]
    if not (root / "benchmarks").is_dir():
        raise GenledgerError("the benchmarks come with the source tree, not with the installed package")
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=root, check=False).returncode and 1
