"""`genledger trim`: old facts go behind a snapshot of the views."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from genledger.options import Data, DryRun, Json, WrongUse, load
from genledger.output import print_json, say, visible
from genledger.progress import Progress
from projections.snapshot.make import Outlook
from streams import clock, times
from streams.errors import GenledgerError, LogBusy, ViewBusy
from streams.settings import USAGE_KEPT_BEYOND_DAYS, Settings
from streams.topics import DAY_MS

app = App(
    name="trim",
    help_prologue="""Examples:
  genledger trim --dry-run
  genledger trim --days 400
""",
)

DIFFERENT = 3
WAIT_S = 0.2
LOCK = "snapshot"


@app.default
def trim(
    *,
    days: Annotated[
        int | None,
        Parameter(help="Facts younger than so many days stay; GENLEDGER_USAGE_KEPT_DAYS unless given."),
    ] = None,
    at_least: Annotated[
        int, Parameter(help="Do nothing unless so many days of facts would go.", show_default=True)
    ] = 1,
    data: Data = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Put what old facts came to into a snapshot, and delete those facts. Exit code 3 if it does not hold.

    Every row of the views, at the last fact that is old enough, goes onto the
    topic `snapshots`. It is read back from there, the views are rebuilt from it
    and the facts behind it, and compared with the live ones. Only when they are
    equal, the facts before it are deleted. The service may run meanwhile.
    Stopped (Ctrl-C, kill -9) and begun again it goes on where it was.

    A fact is as old as its time on the log, whatever day its call was of.
    Figures stay as they are; what is gone is the history of each old
    generation, and what `prove` and an auditor could reckon again from it.
    docs/retention.md says more.
    """
    from genledger.roles.views import path_of
    from projections.snapshot.make import look
    from projections.stores.lock import FileLock

    settings = load(data=data)
    kept = _days(settings, days, at_least)
    live = path_of(settings)
    if not live.exists():
        raise GenledgerError(f"there are no views in {visible(settings.data)}: run this where they are kept")
    try:
        lock = FileLock(live.with_name(LOCK))
    except ViewBusy:
        raise GenledgerError("another trim is under way: wait for its end") from None
    started_s = clock.monotonic_s()
    try:
        reason = "" if dry_run else _finish(settings, live)
        outlook = look(settings, kept, live)
        if not dry_run and not reason:
            reason = _made(settings, outlook, live) if _is_worth_it(outlook, at_least) else _spared(outlook)
        if dry_run:
            return _foretell(outlook, at_least, json=json)
        return _end(settings, live, reason, started_s, json=json)
    finally:
        lock.release()


def _days(settings: Settings, days: int | None, at_least: int) -> int:
    kept = settings.usage_kept_days if days is None else days
    least = settings.cleanup_retention_days + USAGE_KEPT_BEYOND_DAYS
    if at_least < 0:
        raise WrongUse("--at-least must be 0 or more")
    if kept is None:
        raise WrongUse(
            "facts are kept for ever: this is off. To have them go each night, set GENLEDGER_USAGE_KEPT_DAYS"
            f" to {least} or more; for once, give --days"
        )
    if kept < least:
        raise WrongUse(
            f"--days must be at least {least}: CLEANUP_RETENTION_DAYS and {USAGE_KEPT_BEYOND_DAYS} more"
        )
    return kept


def _is_worth_it(outlook: Outlook, at_least: int) -> bool:
    """Whether enough facts would go: a snapshot is every row again."""
    return outlook.facts > 0 and outlook.until_ms - outlook.from_ms >= at_least * DAY_MS


def _foretell(outlook: Outlook, at_least: int, *, json: bool) -> int:
    goes = _is_worth_it(outlook, at_least)
    until, former = _until(outlook), outlook.former
    went = "" if former is None else times.text_of(former.until_ms * times.MS_NS)
    if json:
        would = {"until": until, "facts": outlook.facts if goes else 0}
        number = 0 if former is None else former.number
        print_json({"would_go": would, "snapshot": number, "went_until": went})
    if former is not None:
        say(f"Facts before {went} went behind snapshot {former.number}.")
    if goes:
        say(f"would delete about {outlook.facts:,} facts from before {until}, behind a snapshot of the views")
    else:
        _spared(outlook)
    return 0


def _spared(outlook: Outlook) -> str:
    """Say that nothing goes, which is no fault: ''."""
    say(f"nothing to delete: there are too few facts that the log took before {_until(outlook)}")
    return ""


def _until(outlook: Outlook) -> str:
    return times.text_of(outlook.until_ms * times.MS_NS)


def _made(settings: Settings, outlook: Outlook, live: Path) -> str:
    """A snapshot made, checked and put in force; '' or why not."""
    from projections.snapshot.make import make

    with Progress("rebuilding", "records") as progress:
        package = make(settings, outlook, live, lambda p: progress.moved(p.done, p.total))
    if package is None:
        return ""
    manifest = package.manifest
    say(f"snapshot {manifest.number}: {manifest.rows:,} rows stand for {manifest.facts:,} facts")
    return _finish(settings, live)


def _finish(settings: Settings, live: Path) -> str:
    """Every step that is left of a snapshot, ours or the service's; '' or why it was thrown away."""
    from genledger.roles.trimming import refusal
    from projections.snapshot.check import check
    from projections.snapshot.package import PUBLISHED, waiting

    told = ""
    while (package := waiting(live.parent)) is not None:
        if package.path.name == PUBLISHED:
            with Progress("checking", "records") as progress:
                reason = check(settings, package, live, lambda what, p: progress.moved(p.done, p.total, what))
            if reason:
                return reason
            continue
        if told != package.path.name:
            told = package.path.name
            say(_STEPS[told])
        try:
            asyncio.run(_write(settings, live.parent))
        except LogBusy:
            time.sleep(WAIT_S)  # the service has the log: it does it
    return refusal(live.parent)


_STEPS = {
    "snapshot-ready.db": "its rows go onto the log",
    "snapshot-checked.db": "it holds: the facts before it go",
}


async def _write(settings: Settings, folder: Path) -> None:
    from genledger.roles.trimming import write_waiting
    from streams.log.backends import open_log

    log = await open_log(settings)
    try:
        await write_waiting(log, folder)
    finally:
        await log.close()


def _end(settings: Settings, live: Path, reason: str, started_s: float, *, json: bool) -> int:
    """Say how it ended, and keep it for the status."""
    from genledger.roles import nightly
    from genledger.roles.trimming import RESULT, Result
    from projections.rebuild.build import begins
    from projections.rebuild.plan import Plan, parts_of

    manifest = begins(Plan(settings=settings, parts=parts_of(settings)))
    result = Result(
        time_ms=clock.now_ms(),
        holds=not reason,
        differences=int(bool(reason)),
        seconds=round(clock.monotonic_s() - started_s, 3),
        snapshot=0 if manifest is None else manifest.number,
        until="" if manifest is None else times.text_of(manifest.until_ms * times.MS_NS),
        facts=0 if manifest is None else manifest.facts,
    )
    nightly.keep_result(live, RESULT, result)
    if json:
        print_json(result)
    if reason:
        say(f"genledger: nothing was deleted: {reason}")
        return DIFFERENT
    if manifest is None:
        say("all facts are there.")
    else:
        say(f"{manifest.facts:,} facts from before {result.until} are behind snapshot {manifest.number}.")
    return 0
