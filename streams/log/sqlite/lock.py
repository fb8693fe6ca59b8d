"""One process writes a log: the lock on its directory.

with_lock = Lock(Path("data/log"))      # LogBusy when another process has it
with_lock.release()
"""

import fcntl
import os
from pathlib import Path

from streams.errors import LogBusy


class Lock:
    """Held until released or until the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        path = directory / "lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise LogBusy(
                f"{directory}: process {holder} has this log open for writing. "
                f"Send the command to the running service, or stop it first"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)
