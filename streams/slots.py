"""A folder for each ledger worker: several may share a data folder, but never a table's files.

    slot = take_slot(Path("data"))
    slot.folder                # "ledger-0/seen" under data/tables
    slot.release()

The first folder that nobody holds is taken, so that a restarted worker finds the table it left.
"""

from dataclasses import dataclass
from pathlib import Path

from streams.errors import LogBusy, LogError
from streams.log.sqlite.lock import Lock

SLOTS_MAX = 64


@dataclass(frozen=True, slots=True)
class Slot:
    """Held until released or until the process ends, however it ends."""

    folder: str
    lock: Lock

    def release(self) -> None:
        """Let another worker have it."""
        self.lock.release()


def take_slot(data: Path) -> Slot:
    """The first free slot of a data folder."""
    for number in range(SLOTS_MAX):
        name = f"ledger-{number}"
        directory = data / "tables" / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return Slot(f"{name}/seen", Lock(directory))
        except LogBusy:
            continue
        except OSError as error:
            raise LogError(f"{directory} can't be used: {error.strerror}") from None
    raise LogError(f"{data} has {SLOTS_MAX} ledger workers already: give this one another --data")
