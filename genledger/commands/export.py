"""`genledger export`: the facts for an auditor outside, straight from the log.

The rows are made in `streams/export.py`, the files in `genledger/export.py`.
"""

import asyncio
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from cyclopts import App, Parameter

from genledger import export as sinks
from genledger.export import Sink
from genledger.options import Data, WrongUse, load
from genledger.output import say, visible
from genledger.progress import Progress
from streams import export as exports
from streams import times
from streams.errors import GenledgerError
from streams.export import Row, Scope
from streams.log.backends import is_embedded, open_log
from streams.settings import Settings
from streams.snapshots import facts_from_ms

app = App(
    name="export",
    help="""What genledger knows, for others to check: the facts on the log.""",
    help_prologue="""Examples:
  genledger export facts acme.ndjson.gz --org acme --month 2026-11
""",
)

READ_RECORDS = 4000
STDOUT = "-"

FileFormat = Literal["ndjson", "parquet"]


@app.command(
    help_prologue="""Examples:
  genledger export facts acme.ndjson.gz --org acme --month 2026-11
  genledger export facts acme.parquet --org acme --month 2026-11
  genledger export facts everything.ndjson.gz
  genledger export facts --org acme --from 2026-11-20T10:00:00Z | head
"""
)
def facts(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = STDOUT,
    /,
    *,
    org: Annotated[str | None, Parameter(help="The organisation; all of them unless given.")] = None,
    month: Annotated[
        str | None, Parameter(help="Facts of days in this month, YYYY-MM, as the organisation has them.")
    ] = None,
    from_: Annotated[
        str | None, Parameter(name="--from", help="Facts from this log time on, 2026-11-01T00:00:00Z.")
    ] = None,
    to: Annotated[str | None, Parameter(help="Facts before this log time.")] = None,
    format: Annotated[
        FileFormat | None,
        Parameter(help="How to write them; by FILE's name unless given, else ndjson."),
    ] = None,
    force: Annotated[
        bool, Parameter(negative="", show_default=False, help="Replace FILE if it is there.")
    ] = False,
    data: Data = None,
) -> int:
    """Export every decision of the ledger that touches an organisation's figures.

    docs/auditing.md says what an auditor does with it, and examples/audit.py
    recomputes a month's statement from it. A month's export has every fact
    with a day in that month, whenever it was logged. The log is read as far as
    it goes now, beside a running service or without one; FILE appears when the
    export is whole.

    Parameters
    ----------
    file
        Where to write it: NDJSON, .gz of it, or .parquet; - for standard output.
    """
    scope = _scope(org, month, from_, to)
    found = format or ("parquet" if file.endswith(".parquet") else "ndjson")
    if found == "parquet" and (file == STDOUT or file.endswith(".gz")):
        raise WrongUse("--format parquet needs a FILE, and packs it itself: name one that ends in .parquet")
    settings = load(data=data)
    if is_embedded(settings) and not any(Path(settings.broker.removeprefix("sqlite:///")).glob("*.db")):
        raise GenledgerError(f"there is no ledger in {settings.data}: name the folder with --data")
    try:
        with sinks.opened(file, force=force) as out:
            count = asyncio.run(_export(settings, scope, out, found, gzipped=file.endswith(".gz")))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise GenledgerError(f"{visible(file)} can't be written: {error.strerror or error}") from None
    say(f"{count} facts{'' if file == STDOUT else f' in {visible(file)}'}")
    return 0


def _scope(org: str | None, month: str | None, from_: str | None, to: str | None) -> Scope:
    """What is asked for; `WrongUse` says what can't be meant."""
    if org == "":
        raise WrongUse("--org must not be empty: leave it out for all organisations")
    if month is not None and (from_ is not None or to is not None):
        raise WrongUse("--month is of days, --from and --to of log times: give the one or the other")
    try:
        if month is not None:
            exports.month_text(month)
    except ValueError as error:
        raise WrongUse(f"--month {error}") from None
    from_ns, to_ns = _time_ns("--from", from_), _time_ns("--to", to)
    if from_ns is not None and to_ns is not None and from_ns >= to_ns:
        raise WrongUse("--to must be after --from")
    return Scope(organization=org or "", month=month or "", from_ns=from_ns, to_ns=to_ns)


def _time_ns(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else times.nanoseconds_of(text)
    except ValueError as error:
        raise WrongUse(f"{option} {error}") from None


async def _export(
    settings: Settings, scope: Scope, out: BinaryIO, format: FileFormat, *, gzipped: bool
) -> int:
    """Read the log to where it ends now, and write what is of the scope; how many facts that were."""
    log = await open_log(settings, read_only=True)
    try:
        ranges = await exports.ranges_of(log)
        from_ms = await facts_from_ms(log, [one.partition for one in ranges])
        if from_ms is not None:
            say(f"There are facts from {times.text_of(from_ms * times.MS_NS)} on: older ones have gone.")
        header = exports.header_of(scope, log.identity, ranges, from_ms)
        total = sum(one.end - one.start for one in ranges)
        with (
            Progress("exporting", "records") as progress,
            _sink(out, header, format, gzipped=gzipped) as sink,
        ):
            async for batch in exports.batches(log, ranges, scope, READ_RECORDS):
                sink.write(batch.rows)
                progress.moved(progress.done + batch.records, total)
        return sink.facts
    finally:
        await log.close()


def _sink(out: BinaryIO, header: Row, format: FileFormat, *, gzipped: bool) -> AbstractContextManager[Sink]:
    return sinks.parquet(out, header) if format == "parquet" else sinks.ndjson(out, header, gzipped=gzipped)
