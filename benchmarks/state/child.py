"""A measurement in a process of its own: its memory is its own, and nothing is warm from before.

figures = child.run("benchmarks.state.known_ids", plan)      # here
child.main(sys.argv[1], Plan, measure)                       # at the end of that module
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks import BenchmarkFailed
from benchmarks.bench import Figures

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 900.0

PlanT = TypeVar("PlanT")


def run(module: str, plan: Any, python: str = sys.executable, timeout_s: float = TIMEOUT_S) -> Figures:
    """Start the module on a plan; its figures. Whatever it says besides goes into the error."""
    command = [python, "-m", module, msgspec.json.encode(plan).decode()]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkFailed(f"{module} is not through after {timeout_s:g} s") from None
    if done.returncode != 0:
        raise BenchmarkFailed(f"{module} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    figures: Figures = msgspec.json.decode(done.stdout.splitlines()[-1], type=Figures)
    return figures


def main(text: str, kind: type[PlanT], measure: Callable[[PlanT], Figures]) -> None:
    """Do what the plan says and print the figures, as the last line."""
    print(msgspec.json.encode(measure(msgspec.json.decode(text, type=kind))).decode(), flush=True)


def memory_bytes(name: str, process: int | str = "self") -> int:
    """What the kernel says of a process: VmRSS now, VmHWM at its most."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        text = ""
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise BenchmarkFailed("the kernel does not tell how much memory a process has")
    return int(found[1]) * 1024
