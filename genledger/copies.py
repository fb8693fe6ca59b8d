"""A backup in the making: what is copied, in which order, and what is checked before it gets its name.

    manifest = back_up(settings, Path("ledger.tar.gz"))

The views are pinned first, then the ledger's file, then that of its sources: each copy holds all that the
earlier ones have taken. A folder beside the archive, FILE.part, holds the copies meanwhile. What a kill
leaves is that folder, and the next backup to the same file clears it away.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from genledger import archive
from genledger.archive import VIEWS, LogPart, Manifest, Moved, ViewsPart
from genledger.progress import Progress
from genledger.roles.views import path_of
from projections import schema
from streams import clock, faultpoints, topics
from streams.errors import GenledgerError, ViewError
from streams.log.backends import is_embedded
from streams.log.sqlite.copy import Pinned, State, check_copies, copied_stores, ends_of, pinned_log, sync
from streams.log.sqlite.opening import directory_of
from streams.settings import Settings

TABLE = topics.topic_table()
STORES = copied_stores(TABLE)
_COPY, _ARCHIVE = "copy", "archive"


def back_up(settings: Settings, file: Path) -> Manifest:
    """Write a backup, checked, under its name; `GenledgerError` when there is no ledger, or no room."""
    _require_ledger(settings)
    with disk_errors(file), _work_folder(file) as work:
        folder = work / _COPY
        (folder / "log").mkdir(parents=True)
        taken_ms = _copy_all(settings, folder)
        manifest = _manifest(folder, taken_ms)
        faultpoints.reached("backup-copied")
        total_bytes = sum(member.size_bytes for member in manifest.members)
        with progress("writing", total_bytes) as moved:
            packed = file.name.endswith(archive.PACKED)
            archive.write(work / _ARCHIVE, manifest, folder, moved, packed=packed)
        faultpoints.reached("backup-written")
        (work / _ARCHIVE).replace(file)
        sync(file.parent)
    return manifest


def log_of(settings: Settings) -> Path | None:
    """The folder of the log; None when it is a cluster's."""
    return directory_of(settings.broker) if is_embedded(settings) else None


def _require_ledger(settings: Settings) -> None:
    log = log_of(settings)
    if log is not None and not any((log / f"{store}.db").exists() for store in STORES):
        raise GenledgerError(f"there is no ledger in {settings.data}: name its folder with --data")
    if log is None and not path_of(settings).exists():
        raise GenledgerError(
            f"there are no views in {settings.data}, and the log is the cluster's: run this where the"
            " summaries are, or name their folder with --data"
        )


@contextmanager
def _work_folder(file: Path) -> Iterator[Path]:
    """FILE.part, ours alone, and gone afterwards."""
    work = file.with_name(file.name + ".part")
    work.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as stack:
        held = os.open(work, os.O_RDONLY)
        stack.callback(os.close, held)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GenledgerError(f"another backup is writing {file}") from None
        strange = {entry.name for entry in work.iterdir()} - {_COPY, _ARCHIVE}
        if strange:
            raise GenledgerError(f"{work} is in the way: it holds {', '.join(sorted(strange))}")
        _clear(work)
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        yield work


def _clear(work: Path) -> None:
    """Away with what a killed backup has left."""
    shutil.rmtree(work / _COPY, ignore_errors=True)
    (work / _ARCHIVE).unlink(missing_ok=True)


def _copy_all(settings: Settings, folder: Path) -> int:
    """Copy everything as of one moment; which moment."""
    log, views = log_of(settings), path_of(settings)
    with ExitStack() as stack:
        pins: dict[str, Pinned] = {}
        if views.exists():
            pins[VIEWS] = stack.enter_context(Pinned(views))
        if log is not None:
            found = stack.enter_context(pinned_log(log, TABLE))
            pins |= {archive.log_member(store): pin for store, pin in found.items()}
        taken_ms = clock.now_ms()
        total_bytes = sum(pin.size_bytes for pin in pins.values())
        # The copies and the archive, which may not get smaller than they are.
        require_room(folder, 2 * total_bytes)
        moved = stack.enter_context(progress("copying", total_bytes))
        for name, pin in pins.items():
            pin.copy_to(folder / name, moved)
    return taken_ms


def require_room(folder: Path, needed_bytes: int) -> None:
    """Refuse before the disk is full."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise GenledgerError(f"{folder}: {needed_bytes} bytes are needed, {free_bytes} are free: make room")


def _manifest(folder: Path, taken_ms: int) -> Manifest:
    log, views = check(folder)
    names = [*([VIEWS] if views else []), *([archive.log_member(store) for store in STORES] if log else [])]
    return Manifest(
        format=archive.FORMAT,
        genledger=version("genledger"),
        time=datetime.fromtimestamp(taken_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        log=log,
        views=views,
        members=[archive.member_of(folder, name) for name in names],
    )


def check(folder: Path) -> tuple[LogPart | None, ViewsPart | None]:
    """What a folder's copies are; an error unless each is sound, and none ahead of what it is made of."""
    views = _check_views(folder / VIEWS) if (folder / VIEWS).exists() else None
    if not (folder / archive.log_member(STORES[0])).exists():
        return None, views
    states = check_copies(folder / "log", STORES)
    ends = ends_of(states)
    if views is not None:
        _check_order(views.positions, ends)
    return LogPart(_identity(states), {f"{topic}/{n}": end for (topic, n), end in ends.items()}), views


def _identity(states: Mapping[str, State]) -> str:
    return next(iter(states.values())).found.meta["identity"]


def _check_views(path: Path) -> ViewsPart:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as connection:
            damage = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
            made = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'positions'").fetchone()
            sql = 'SELECT projection, "partition", usage_offset FROM positions'
            rows: Sequence[tuple[str, int, int]] = connection.execute(sql).fetchall() if made else []
    except sqlite3.DatabaseError as error:
        raise ViewError(f"{path}: {error}") from None
    if damage != ["ok"]:
        raise ViewError(f"{path} is damaged: {'; '.join(map(str, damage))}")
    return ViewsPart(schema.current(path), {f"{name}/{number}": at for name, number, at in rows})


def _check_order(positions: Mapping[str, int], ends: Mapping[tuple[str, int], int]) -> None:
    for place, at in positions.items():
        name, _, number = place.rpartition("/")
        topic = name if name in topics.SETTINGS_TOPICS else topics.USAGE
        end = ends.get((topic, int(number)), 0)
        if at >= end:
            raise ViewError(
                f"{name} has taken record {at} of {topic}/{number}, and the log's copy ends at {end}"
            )


@contextmanager
def progress(what: str, total_bytes: int) -> Iterator[Moved]:
    """Shows how far something is that tells of the bytes of each step."""
    with Progress(what, "bytes") as bar:
        yield lambda step_bytes: bar.moved(bar.done + step_bytes, total_bytes)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What a disk refuses, as a message; of `path` where the error names none."""
    try:
        yield
    except OSError as error:
        raise GenledgerError(f"{error.filename or path}: {error.strerror or error}") from error


def as_json(manifest: Manifest) -> object:
    """A manifest as `--json` prints it."""
    return msgspec.to_builtins(manifest)
