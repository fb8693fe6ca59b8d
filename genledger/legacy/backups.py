"""A migration's folder, <data>/backups/backup_YYYYMMDD_HHMMSS: what it was made of, and how far it is.

| file            | what                                                                   |
| --------------- | ---------------------------------------------------------------------- |
| `ledger.tar`    | the ledger as it was before, for `genledger restore`                    |
| `records.db`    | every entry of this migration, in order                                |
| `manifest.json` | what, from where, and how much of it is on the log                      |

The manifest is written when all else is there, and after each batch: a folder without one is of a migration
that was killed before it had published anything, and the next one clears it away.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from genledger.output import visible
from streams import clock
from streams.errors import GenledgerError
from streams.settings import Settings

MANIFEST, RECORDS, LEDGER = "manifest.json", "records.db", "ledger.tar"
FORMAT = 1
_NAME = "backup_%Y%m%d_%H%M%S"
_ID = re.compile(r"backup_[0-9]{8}_[0-9]{6}")

State = Literal["publishing", "done", "rolling back", "rolled back"]


class Manifest(msgspec.Struct, kw_only=True):
    """What a migration published, and how far it is."""

    format: int = FORMAT
    id: str
    state: State
    legacy: str
    first_day: str
    last_day: str
    log: str  # the identity of the ledger that it went to
    overlap: str
    left_out: list[tuple[str, str]]  # days of organisations that both systems counted
    records: int
    entries: dict[str, int]  # by margin; "known" for ids
    published: int = 0
    taken_back: int = 0
    organizations_made: list[str] = []
    users_made: int = 0
    newest: dict[str, int] = {}  # the newest offset on `generations`, by partition


class Folder:
    """One migration's files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """What --backup-id names."""
        return self.path.name

    @property
    def records(self) -> Path:
        """Where its entries are."""
        return self.path / RECORDS

    def manifest(self) -> Manifest:
        """As it was written last."""
        try:
            return msgspec.json.decode((self.path / MANIFEST).read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError) as error:
            raise GenledgerError(f"{visible(self.path / MANIFEST)} can't be read: {error}") from None

    def write(self, manifest: Manifest) -> None:
        """Replace it, whole or not at all."""
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        beside = self.path / f"{MANIFEST}.part"
        with beside.open("wb") as file:
            file.write(text + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path / MANIFEST)


def folder_of(settings: Settings) -> Path:
    """Where the migrations' folders are."""
    return Path(settings.data) / "backups"


def every(settings: Settings) -> Sequence[Folder]:
    """Every migration that has published, or was about to; the oldest first."""
    found = sorted(path for path in folder_of(settings).glob("backup_*") if (path / MANIFEST).is_file())
    return [Folder(path) for path in found]


def named(settings: Settings, id: str) -> Folder:
    """The migration of that name."""
    if _ID.fullmatch(id) is None:
        raise GenledgerError(f"{visible(id)} is no backup's name: backup_YYYYMMDD_HHMMSS")
    folder = Folder(folder_of(settings) / id)
    if not (folder.path / MANIFEST).is_file():
        known = ", ".join(one.id for one in every(settings)) or "none"
        raise GenledgerError(f"there is no {id} in {visible(folder_of(settings))}; there are {known}")
    return folder


def begun(settings: Settings) -> Folder:
    """A new folder, after those that were killed before they had published are gone."""
    parent = folder_of(settings)
    for path in parent.glob("backup_*"):
        if _ID.fullmatch(path.name) and not (path / MANIFEST).exists():
            shutil.rmtree(path)
    now_s = clock.now_ms() // 1000
    # The order of their names is that in which they were made, whatever the clock says.
    now_s = max(now_s, *(_began_s(one.id) + 1 for one in every(settings)), 0)
    while (path := parent / f"{datetime.fromtimestamp(now_s, UTC):{_NAME}}").exists():
        now_s += 1
    path.mkdir(mode=0o700)
    return Folder(path)


def _began_s(id: str) -> int:
    try:
        return int(datetime.strptime(id, _NAME).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """One migration at a time."""
    parent = folder_of(settings)
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise GenledgerError(f"another migration is at work in {visible(parent)}") from None
    finally:
        os.close(held)
