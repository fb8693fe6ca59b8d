"""One writing process for each database file, held by a lock that ends with its process.

lock = FileLock(Path("data/genledger.db"))
...
lock.release()
"""

import fcntl
import os
from pathlib import Path

from streams.errors import ViewBusy


class FileLock:
    """Taken when made; `ViewBusy` when another process has it."""

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise ViewBusy(
                f"{database} is being written by another process: stop it, or send this through it"
            ) from None

    def release(self) -> None:
        """Let another process write. Calling it again does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
