"""`genledger replay`: the views made again from the log."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from genledger.options import Data, DryRun, Json, WrongUse, load
from genledger.output import print_json, say, visible
from genledger.progress import Progress
from projections.rebuild.aside import origin_of
from projections.rebuild.plan import Part, Plan, parts_of
from streams import times
from streams.errors import GenledgerError, ViewBusy
from streams.settings import Settings

app = App(
    name="replay",
    help_prologue="""Examples:
  genledger replay
  genledger replay --projection processed
  genledger replay --into november.db --until 2026-12-01T00:00:00Z
""",
)

WAIT_S = 0.2
Topic = Literal["usage", "generations"]


@app.default
def replay(
    *,
    from_topic: Annotated[Topic, Parameter(help="Facts as decided, or events decided anew.")] = "usage",
    until: Annotated[
        str | None, Parameter(help="A log time, such as 2026-12-01T00:00:00Z: nothing after it. With --into.")
    ] = None,
    into: Annotated[
        Path | None, Parameter(help="A new file to rebuild into; the live views stay as they are.")
    ] = None,
    projection: Annotated[
        Part | None,
        Parameter(
            help="Only this part: summaries (and organisations), processed, conflicts, cleanup, points."
        ),
    ] = None,
    data: Data = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Rebuild the views from the log, and put them in the place of the live ones.

    The service may run meanwhile: readers see the old figures until the new
    ones are whole, then those, in one step. Stopped (Ctrl-C, kill -9) and
    begun again it goes on where it was. What is not a view stays untouched.

    With --into the live views are left alone. From `generations` each event is
    decided anew; that goes into a file only, for compaction has removed events
    that the books of the live views still count, and what runs of the retention
    job have forgotten.
    """
    settings = load(data=data)
    plan = Plan(
        settings=settings,
        parts=parts_of(settings) if projection is None else (projection,),
        source=from_topic,
        until_ms=None if until is None else _log_time_ms(until),
    )
    _check(plan, into)
    if dry_run:
        return _tell(plan, into)
    told = _into(plan, into) if into is not None else swapped(plan)
    if json:
        print_json(told)
    return 0


def _check(plan: Plan, into: Path | None) -> None:
    if into is None and plan.until_ms is not None:
        raise WrongUse("--until needs --into: the live views would go on from there at once")
    if into is None and plan.source == "generations":
        raise WrongUse("--from-topic generations needs --into: the books of the live views count all records")
    if into is not None and into.exists():
        raise WrongUse(f"{visible(into)} is there already: name another file, or move it away")
    part = None if into is None else _building(plan, into)
    if part is not None and part.exists() and origin_of(part) is None:
        raise WrongUse(f"{visible(part)} is there, and is no rebuild: move it away, or name another file")
    if into is not None and not into.absolute().parent.is_dir():
        raise WrongUse(f"--into: there is no folder {visible(into.parent)}")


def _tell_beginning(plan: Plan) -> None:
    from projections.rebuild.build import begins

    snapshot = begins(plan)
    if snapshot is not None:
        until = times.text_of(snapshot.until_ms * times.MS_NS)
        say(f"Facts before {until} have gone: the views begin with the rows of snapshot {snapshot.number}.")


def _log_time_ms(text: str) -> int:
    try:
        return times.nanoseconds_of(text) // times.MS_NS
    except ValueError as error:
        raise WrongUse(f"--until {error}") from None


def _into(plan: Plan, into: Path) -> dict[str, object]:
    from projections.rebuild.build import build

    _tell_beginning(plan)
    with Progress("rebuilding", "records") as progress:
        aside = build(plan, into.with_name(into.name + ".part"), lambda p: progress.moved(p.done, p.total))
        aside.finish(into)
    say(f"{progress.done:,} records in {progress.seconds:.1f} s: {into}")
    return {"file": str(into), "records": progress.done, "seconds": round(progress.seconds, 3)}


def swapped(plan: Plan) -> dict[str, object]:
    """Rebuild, and put the rows in the place of the live ones."""
    from genledger.roles.rebuilt import BUILT, HANDED_OVER, refused
    from genledger.roles.views import path_of
    from projections.rebuild.build import build
    from streams.log.backends import is_embedded

    database = path_of(plan.settings)
    if not is_embedded(plan.settings) and not database.exists():
        raise GenledgerError(
            f"there are no views in {plan.settings.data}: run this where the summaries worker keeps them (a"
            " worker that has lost them makes them again by itself), or rebuild with --into"
        )
    handed_over = database.with_name(HANDED_OVER)
    _finish_earlier(plan.settings, database, handed_over)
    _tell_beginning(plan)
    with Progress("rebuilding", "records") as progress:
        aside = build(plan, database.with_name(BUILT), lambda p: progress.moved(p.done, p.total))
        refused(database).unlink(missing_ok=True)
        aside.hand_over(handed_over)
    built_s = progress.seconds
    say(f"{progress.done:,} records rebuilt in {built_s:.1f} s; now they take the place of the live ones")
    _wait_swapped(plan.settings, database, handed_over)
    say(f"done, in {progress.seconds:.1f} s in all")
    return {
        "file": str(database),
        "records": progress.done,
        "rebuilt_seconds": round(built_s, 3),
        "seconds": round(progress.seconds, 3),
    }


def _finish_earlier(settings: Settings, database: Path, handed_over: Path) -> None:
    """What an earlier run has handed over, and nobody has taken yet."""
    if handed_over.exists():
        say("an earlier replay is being taken over: waiting for it")
        _wait_swapped(settings, database, handed_over)


def _wait_swapped(settings: Settings, database: Path, handed_over: Path) -> None:
    """Until the running views have taken it; where none run, it is done here."""
    from genledger.roles.rebuilt import refusal

    while handed_over.exists():
        try:
            asyncio.run(_take_over(settings, database))
        except ViewBusy:
            time.sleep(WAIT_S)
    reason = refusal(database)
    if reason:
        raise GenledgerError(reason)


async def _take_over(settings: Settings, path: Path) -> None:
    from genledger.roles.rebuilt import take_over
    from projections import schema
    from projections.stores.sqlite import Database
    from streams.log.backends import open_log

    schema.upgrade(path)
    database = Database.open(path)
    try:
        log = await open_log(settings, read_only=True)
        try:
            await take_over(database, log)
        finally:
            await log.close()
    finally:
        await database.close()


def _tell(plan: Plan, into: Path | None) -> int:
    from projections.rebuild.build import left

    _tell_beginning(plan)
    records, whole = left(plan, _building(plan, into))
    place = "the live ones" if into is None else str(into)
    say(f"would rebuild {', '.join(plan.parts)} from {plan.source} into {place}: {records:,} records to read")
    if whole > records:
        say(f"an earlier run has read {whole - records:,} of {whole:,} records: it would go on from there")
    return 0


def _building(plan: Plan, into: Path | None) -> Path:
    from genledger.roles.rebuilt import BUILT
    from genledger.roles.views import path_of

    return path_of(plan.settings).with_name(BUILT) if into is None else into.with_name(into.name + ".part")
