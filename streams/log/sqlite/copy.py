"""Copies of SQLite files at one moment, while another process writes them; and a log made of such copies.

    with pinned_log(directory, topics) as files:            # every file as it is now, and stays so here
        for name, pinned in files.items():
            pinned.copy_to(target / f"{name}.db", moved)
    check_copies(target, list(files))                       # as thoroughly as before the first write
    adopt(target, list(files), new_identity())              # at the place where it is put back

A copy is read inside one read transaction: a writer goes on meanwhile and never makes it begin again. The
store of the writers is pinned first, those of its sources after it, so each later file holds all that the
earlier ones have taken. What the writers have taken and compaction removed in the moment between would be
missing for an older state of them: then all are pinned again.

A log that is put back is another log, and gets another identity: whoever remembers how far the old one had
come (a half published file, a local table) must not go on from there.
"""

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

import msgspec

from streams.errors import LogDamaged, LogError
from streams.log.interface import TopicSpec
from streams.log.sqlite import marks
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.check import Found, check_mark, inspect
from streams.log.sqlite.opening import WRITERS_STORE, by_store
from streams.log.sqlite.records import Damage
from streams.log.sqlite.schema import RESTORE, connect, log_error
from streams.log.sqlite.store import load_partitions, marks_path
from streams.log.sqlite.transaction import WriterKey, load_progress

STEP_BYTES = 8 << 20
PINS_MAX = 10
_ANY_SIZE = 1 << 62

#: Told of the bytes of each step.
Moved = Callable[[int], None]


class State(msgspec.Struct, frozen=True):
    """What a file of the log holds."""

    found: Found
    commits: int
    taken: Mapping[WriterKey, int | None]


class Pinned:
    """A file as it was when this was made, until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = connect(path, read_only=True)
        try:
            self.connection.execute("BEGIN")
            # The first look is what fixes the moment.
            self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            (self._page_bytes,) = self.connection.execute("PRAGMA page_size").fetchone()
            (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        except sqlite3.Error as error:
            self.connection.close()
            raise log_error(path, error) from error
        self.size_bytes: int = pages * self._page_bytes

    def copy_to(self, target: Path, moved: Moved) -> None:
        """Copy it, in bounded steps, and sync the copy."""
        before_bytes = 0

        def step(_status: int, remaining: int, total: int) -> None:
            nonlocal before_bytes
            now_bytes = (total - remaining) * self._page_bytes
            moved(now_bytes - before_bytes)
            before_bytes = now_bytes

        try:
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                # Nobody reads it before it is whole and synced, and one that is not is thrown away.
                copy.execute("PRAGMA journal_mode = OFF")
                copy.execute("PRAGMA synchronous = OFF")
                self.connection.backup(
                    copy, pages=max(1, STEP_BYTES // self._page_bytes), progress=step, sleep=0
                )
        except sqlite3.Error as error:
            raise log_error(target, error) from error
        sync(target)

    def state(self) -> State:
        """What a file of the log holds."""
        try:
            found = Found(
                dict(self.connection.execute("SELECT name, value FROM meta")),
                load_partitions(self.connection),
            )
            (commits,) = self.connection.execute("SELECT count FROM commits").fetchone()
            progress = load_progress(self.connection)
        except Damage as error:
            raise LogDamaged(f"{self.path}: {error}. {RESTORE}") from error
        except sqlite3.Error as error:
            raise log_error(self.path, error) from error
        return State(found, commits, {key: at.offset for key, at in progress.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


@contextmanager
def pinned_log(directory: Path, topics: Sequence[TopicSpec]) -> Iterator[Mapping[str, Pinned]]:
    """The files of a log by store, all as of now; `LogDamaged` when what was acknowledged is not there."""
    names = copied_stores(topics)
    missing = [name for name in names if not (directory / f"{name}.db").exists()]
    if missing:
        raise LogError(f"{directory}: there is no log here ({', '.join(missing)})")
    for _ in range(PINS_MAX):
        with ExitStack() as stack:
            pins = {name: stack.enter_context(_acknowledged(directory / f"{name}.db")) for name in names}
            if _is_whole({name: pin.state() for name, pin in pins.items()}, topics):
                yield pins
                return
    raise LogError(f"{directory}: compaction got between the copies {PINS_MAX} times: try again")


def copied_stores(topics: Sequence[TopicSpec]) -> Sequence[str]:
    """The stores of a log in the order of copying: the writers' before those of their sources."""
    return sorted(by_store(topics), key=lambda name: name != WRITERS_STORE)


def _acknowledged(path: Path) -> Pinned:
    """A file that holds what its marks say. They are read first: the file only grows."""
    mark = marks.read(marks_path(path))
    pinned = Pinned(path)
    try:
        state = pinned.state()
        check_mark(state.found, state.commits, mark, path)
    except BaseException:
        pinned.connection.close()
        raise
    return pinned


def _is_whole(states: Mapping[str, State], topics: Sequence[TopicSpec]) -> bool:
    """Is nothing compacted away that the writers, as they are here, have not taken?"""
    taken = states[WRITERS_STORE].taken
    for spec in topics:
        for (topic, number), partition in states[spec.store].found.partitions.items():
            if topic == spec.name and spec.taken_by:
                at = taken.get((spec.taken_by, topic, number)) or 0
                if partition.compacted_below > at:
                    return False
    return True


def check_copies(directory: Path, names: Sequence[str]) -> Mapping[str, State]:
    """Copies are sound as a whole, and in order: what the writers have taken is in the other files."""
    states = {}
    bounds = Bounds(quick_check_bytes=_ANY_SIZE)
    for name in names:
        path = directory / f"{name}.db"
        if inspect(path, (), bounds) is None:
            raise LogDamaged(f"{path}: the copy is empty")
        with Pinned(path) as pinned:
            states[name] = pinned.state()
    if len({state.found.meta["identity"] for state in states.values()}) != 1:
        raise LogDamaged(f"{directory}: the copies belong to different logs")
    ends = ends_of(states)
    for (group, topic, number), offset in states[WRITERS_STORE].taken.items():
        if offset is not None and offset > ends[topic, number]:
            raise LogDamaged(
                f"{directory}: {group} has taken {topic}/{number} up to {offset}, and its copy ends at"
                f" {ends[topic, number]}"
            )
    return states


def ends_of(states: Mapping[str, State]) -> dict[tuple[str, int], int]:
    """The next offset of every partition."""
    return {
        place: partition.next
        for state in states.values()
        for place, partition in state.found.partitions.items()
    }


def new_identity() -> str:
    """The identity of a log that was not there before."""
    return uuid.uuid4().hex


def adopt(directory: Path, names: Sequence[str], identity: str) -> None:
    """Make copies a log of their own: its identity, and marks that say what each file must have."""
    for name in names:
        path = directory / f"{name}.db"
        try:
            with closing(connect(path, read_only=False)) as connection:
                connection.execute("UPDATE meta SET value = ? WHERE name = 'identity'", (identity,))
        except sqlite3.Error as error:
            raise log_error(path, error) from error
        with Pinned(path) as pinned:
            state = pinned.state()
        partitions = sorted(state.found.partitions.values(), key=lambda partition: partition.id)
        ends = tuple(partition.next for partition in partitions)
        beside = marks.Marks(marks_path(path))
        try:
            beside.write(marks.Mark(identity, state.commits, ends))
        finally:
            beside.close()
        for file in (path, marks_path(path)):
            sync(file)


def sync(path: Path) -> None:
    """What a file or a folder holds outlives a power failure."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
