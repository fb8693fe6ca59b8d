"""A preloaded library that makes writes or syncs of a real process fail, while it runs.

    shim = Shim.build(tmp_path)
    process = subprocess.Popen([...], env=shim.environment())
    shim.fail("sync", errno.EIO, ".db-wal")     # from now on, fsync and fdatasync of such files
    ...
    shim.heal()
    assert shim.faults()                        # the fault really happened

`write` stands for write, pwrite and pwrite64; `sync` for fsync and fdatasync.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal

_SOURCE = Path(__file__).with_name("shim.c")


class Shim:
    """The library, and the two files by which a test talks with it."""

    def __init__(self, library: Path, directory: Path) -> None:
        self._library = library
        self._control = directory / "shim.control"
        self._log = directory / "shim.log"

    @classmethod
    def build(cls, directory: Path) -> "Shim":
        """Compile it with the machine's C compiler, in a second or so."""
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise RuntimeError("the fault tests need a C compiler (gcc or cc)")
        library = directory / "shim.so"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"], check=True
        )
        return cls(library, directory)

    def environment(self) -> dict[str, str]:
        """The environment of a process that shall have faults."""
        return os.environ | {
            "LD_PRELOAD": str(self._library),
            "SHIM_CONTROL": str(self._control),
            "SHIM_LOG": str(self._log),
        }

    def fail(self, call: Literal["write", "sync"], error: int, path_part: str) -> None:
        """Let such calls on files whose path has that part (with a `$`: that end) fail, until `heal`."""
        self._replace(f"{call} {error} {path_part}\n")

    def heal(self) -> None:
        """Let everything work again."""
        self._replace("")

    def faults(self) -> list[str]:
        """The calls that were made to fail: kind, errno and path of each."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def _replace(self, text: str) -> None:
        fresh = self._control.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._control)
