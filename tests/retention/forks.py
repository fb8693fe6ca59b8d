"""Commands of genledger, each a process of its own, forked from one that has imported everything already.

    with Forks() as forks:
        assert forks.run(["serve", "--data", "d"], output, "sweep-begun:1") == -signal.SIGKILL

A start is two thirds imports: where a test kills ten services one after another, that is most of its time.
The fork runs the command's own `main`, on its own files and ports.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.road.harness import clean_environ

# A child that has not ended by then ends itself, by a signal that says so.
ENDS_S = 30


class Forks:
    """The process that forks, one command at a time."""

    def __init__(self, **environ: str) -> None:
        self._environ = {**clean_environ(), **environ}

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", __name__]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=self._environ, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()  # the end of what it is told is its end

    def run(self, arguments: Sequence[str], output: Path, kill_at: str) -> int:
        """Run a command until its end; its exit code, or the signal that ended it, below zero."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([list(arguments), str(output), kill_at]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def main() -> None:
    """Read what is to be run, line by line."""
    import alembic.command  # noqa: F401

    from genledger import main, serve  # noqa: F401

    for line in sys.stdin:
        arguments, output, kill_at = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(arguments, output, kill_at)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(arguments: Sequence[str], output: str, kill_at: str) -> None:
    """Be the command, as the shell would start it."""
    from genledger.main import main
    from streams import faultpoints

    os.setsid()
    signal.alarm(ENDS_S)
    written = os.open(output, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for number, source in enumerate((os.open(os.devnull, os.O_RDONLY), written, written)):
        os.dup2(source, number)
    os.environ[faultpoints.ENVIRONMENT] = kill_at
    faultpoints._countdown = faultpoints._Countdown(kill_at)
    sys.argv = ["genledger", *arguments]
    main()


if __name__ == "__main__":
    main()
