"""Putting a backup back, so that a kill at any point leaves a folder that is right, or that refuses to start.

    plan = plan_of(settings, Path("ledger.tar.gz"), only="")
    plan.blockers()                       # what is in the folder already
    restore(plan, replace=True)

Everything is unpacked and checked in `<data>/restoring` first. Then, with the locks of the log and the views
held:

1. the log's marks become those of the log that is put back: they name another identity than the old files
   have, so those are refused from here on;
2. what is in the way moves to `<data>/before-restore-<time>`, the log's first file first: a log whose first
   file is missing, beside its marks, is refused;
3. the new files move in, the log's first file last.

What was made of the old log goes aside too: the local tables of known ids, which are read back from the
changelog, and what `replay`, `prove` and `trim` have left: a snapshot that waits is of the old log.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from genledger import archive
from genledger.archive import VIEWS, BadArchive, Manifest
from genledger.copies import STORES, TABLE, check, disk_errors, log_of, progress, require_room
from genledger.roles.proofs import RECONCILE_ASIDE, RECONCILED, RESULT, workplace
from genledger.roles.rebuilt import BUILT, HANDED_OVER
from genledger.roles.trimming import RESULT as TRIMMED
from genledger.roles.views import path_of
from projections import schema
from projections.snapshot.make import ASIDE as SNAPSHOT
from projections.stores.lock import FileLock
from streams import clock, faultpoints
from streams.errors import GenledgerError
from streams.log.sqlite.copy import adopt, new_identity, sync
from streams.log.sqlite.lock import Lock
from streams.log.sqlite.opening import by_store
from streams.log.sqlite.store import marks_path
from streams.settings import Settings

Part = Literal["", "views", "log"]

FIRST = next(iter(by_store(TABLE)))
_BESIDE = ("", "-wal", "-shm")


class Plan(msgspec.Struct, frozen=True):
    """What is put back, and where. `log` is None when the log stays as it is, `views` likewise."""

    file: Path
    manifest: Manifest
    data: Path
    log: Path | None
    views: Path | None

    def members(self) -> Sequence[str]:
        """The members of the archive that are put back."""
        return [
            name
            for name in self.manifest.names()
            if (self.log is not None if archive.is_log(name) else self.views is not None)
        ]

    def size_bytes(self) -> int:
        """What they take."""
        wanted = set(self.members())
        return sum(member.size_bytes for member in self.manifest.members if member.name in wanted)

    def in_the_way(self) -> Sequence[Path]:
        """What is there of a ledger, in the order in which it goes aside."""
        found: list[Path] = []
        if self.log is not None:
            stores = [FIRST, *(store for store in STORES if store != FIRST)]
            found += [self.log / f"{store}.db{end}" for store in stores for end in _BESIDE]
            found += [marks_path(self.log / f"{store}.db") for store in stores]
        if self.views is not None:
            found += [self.views.with_name(self.views.name + end) for end in _BESIDE]
        if self.log is not None:
            found.append(self.data / "tables")
        compared = (workplace(self.data / VIEWS).name, RESULT, RECONCILE_ASIDE, RECONCILED)
        trimmed = (SNAPSHOT, "snapshot-", TRIMMED)
        made = (BUILT, HANDED_OVER, *compared, *trimmed)
        found += [path for name in made for path in sorted(self.data.glob(f"{name}*"))]
        return [path for path in found if path.exists()]


def plan_of(settings: Settings, file: Path, only: Part) -> Plan:
    """What restoring a file comes to here; `GenledgerError` when it can't be."""
    with disk_errors(file):
        manifest = archive.read_manifest(file)
    log, views = log_of(settings), path_of(settings)
    has_log = any(archive.is_log(name) for name in manifest.names())
    if has_log and set(manifest.names()) - {VIEWS} != {archive.log_member(store) for store in STORES}:
        raise BadArchive(f"{file} has another set of log files than this genledger: use the one that made it")
    if only != "views" and has_log and log is None:
        raise GenledgerError(f"{file} holds an embedded log, and the log is a cluster's: say --views-only")
    if only == "log" and not has_log:
        raise GenledgerError(f"{file} holds no log")
    if only == "views" and VIEWS not in manifest.names():
        raise GenledgerError(f"{file} holds no views")
    return Plan(
        file,
        manifest,
        Path(settings.data),
        log if only != "views" and has_log else None,
        views if only != "log" else None,
    )


def require_free(plan: Plan) -> None:
    """Refuse a folder with a ledger in it."""
    found = plan.in_the_way()
    if found:
        raise GenledgerError(
            f"{plan.data} holds a ledger already ({', '.join(path.name for path in found)}): --replace moves"
            " it aside first, or name another folder with --data"
        )


def restore(plan: Plan, *, replace: bool) -> Path | None:
    """Put it back; where the old files are now, if there were any."""
    with disk_errors(plan.data), ExitStack() as stack:
        _take_locks(plan, stack)
        if not replace:
            require_free(plan)
        staged = plan.data / "restoring"
        shutil.rmtree(staged, ignore_errors=True)
        require_room(plan.data, plan.size_bytes())
        staged.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, staged, ignore_errors=True)
        _unpack(plan, staged)
        faultpoints.reached("restore-unpacked")
        aside = _move_aside(plan, staged)
        _move_in(plan, staged)
        return aside


def _take_locks(plan: Plan, stack: ExitStack) -> None:
    """Nobody writes meanwhile: `LogBusy` or `ViewBusy` when a service runs."""
    plan.data.mkdir(parents=True, exist_ok=True)
    if plan.log is not None:
        plan.log.mkdir(parents=True, exist_ok=True)
        stack.callback(Lock(plan.log).release)
        if plan.log.stat().st_dev != plan.data.stat().st_dev:
            raise GenledgerError(
                f"{plan.log} and {plan.data} are different disks, so nothing can move between them in one"
                " step: restore with --data on the log's disk, then move the files while no service runs"
            )
    if plan.views is not None:
        stack.callback(FileLock(plan.views).release)


def _unpack(plan: Plan, staged: Path) -> None:
    with progress("unpacking", plan.size_bytes()) as moved:
        archive.unpack(plan.file, plan.manifest, staged, plan.members(), moved)
    check(staged)
    if (staged / VIEWS).exists() and (revision := schema.current(staged / VIEWS)) > schema.HEAD:
        raise GenledgerError(f"{plan.file} is of a newer genledger (revision {revision}): upgrade genledger")
    if plan.log is not None:
        adopt(staged / "log", STORES, new_identity())
        sync(staged / "log")
    sync(staged)


def _move_aside(plan: Plan, staged: Path) -> Path | None:
    """Steps 1 and 2: from the first of them on the old log is refused."""
    found = plan.in_the_way()
    aside = _aside(plan.data) if found else None
    if aside is not None:
        (aside / "log").mkdir(parents=True)
        for path in found:
            if path.suffix == ".marks":
                shutil.copy2(path, aside / "log" / path.name)
    if plan.log is not None:
        for store in STORES:
            name = marks_path(Path(f"{store}.db")).name
            (staged / "log" / name).replace(plan.log / name)
        sync(plan.log)
    faultpoints.reached("restore-marked")
    if aside is not None:
        for path in found:
            if path.suffix != ".marks":
                in_log = plan.log is not None and path.parent == plan.log
                path.rename((aside / "log" if in_log else aside) / path.name)
        _sync_all(plan, aside / "log", aside)
    faultpoints.reached("restore-emptied")
    return aside


def _aside(data: Path) -> Path:
    """A folder that is not there yet."""
    time = datetime.fromtimestamp(clock.now_ms() / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"before-restore-{time}{end}" for end in ("", *(f"-{n}" for n in range(2, 100))))
    return next(data / name for name in names if not (data / name).exists())


def _move_in(plan: Plan, staged: Path) -> None:
    """Step 3. As long as the log's first file is missing nothing starts."""
    if plan.views is not None and (staged / VIEWS).exists():
        (staged / VIEWS).rename(plan.views)
    if plan.log is not None:
        for store in STORES:
            if store == FIRST:
                _sync_all(plan)
                faultpoints.reached("restore-placed")
            name = f"{store}.db"
            (staged / "log" / name).rename(plan.log / name)
    _sync_all(plan)


def _sync_all(plan: Plan, *more: Path) -> None:
    for folder in (*more, *([plan.log] if plan.log is not None else []), plan.data):
        sync(folder)
