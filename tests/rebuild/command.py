"""The commands, as somebody types them."""

import subprocess
from pathlib import Path

from tests.road.harness import COMMAND, clean_environ

TIMEOUT_S = 60.0


def genledger(
    *arguments: object, kill_at: str = "", timeout_s: float = TIMEOUT_S, **environ: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(
        [str(COMMAND), *map(str, arguments)],
        env={**clean_environ(), "KILL_AT_FOR_TESTS": kill_at, **environ},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def replayed(data: Path, *arguments: object, **environ: str) -> str:
    """`genledger replay`, which must succeed; what it said."""
    done = genledger("replay", "--data", data, *arguments, **environ)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stderr
