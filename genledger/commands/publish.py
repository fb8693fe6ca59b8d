"""`genledger publish`: a file of events onto the log, through the running service.

The work is in `genledger/publisher.py`; here are its options, its progress bar and its report.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from genledger.lines import Position, Source, Tally, open_source
from genledger.options import Json, Service, WrongUse
from genledger.output import print_json, say, visible
from genledger.publisher import Publisher, Rejected, ledger_of

app = App(
    name="publish",
    help_prologue="""Examples:
  genledger publish usage.ndjson
  genledger publish usage.ndjson.gz --source backfill
  genledger publish usage.ndjson --strict --rejects refused.ndjson
  cat usage.ndjson | genledger publish -
""",
)


@app.default
def publish(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    source: Annotated[str, Parameter(help="The source of events that do not name their own.")] = "",
    strict: Annotated[
        bool, Parameter(negative="", show_default=False, help="Refuse events with unknown fields.")
    ] = False,
    rejects: Annotated[
        Path | None,
        Parameter(help="Write refused lines to this file: emptied first, but for a run that goes on."),
    ] = None,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Publish a file of events, one JSON object a line, to the running service.

    Lines that are not taken are named on stderr, nothing of them is kept but
    by --rejects, and the exit code is 1. Unknown fields are left out and named
    at the end. Interrupted, it goes on where it was, if it is the same ledger:
    FILE.genledger-progress remembers. Publishing something twice changes
    nothing: ids count once.

    While no service runs, the lines go onto the log in the data folder, and
    are counted when the service is started. A ledger is never made: only
    `genledger serve` does that.

    Parameters
    ----------
    file
        The file, NDJSON or .gz of it; - for standard input.
    """
    if file != "-" and not Path(file).is_file():
        raise WrongUse(f"{visible(file)} is not a file")
    if rejects is not None and rejects.exists() and Path(file).exists() and rejects.samefile(file):
        raise WrongUse("--rejects must name another file than the one to publish")
    with service.client(offline=True) as client, ExitStack() as stack:
        lines = stack.enter_context(open_source(file, ledger_of(client)))
        earlier = lines.tally
        kept = None if rejects is None else stack.enter_context(_opened(rejects, goes_on=earlier.lines > 0))
        report = stack.enter_context(Report(lines, kept))
        tally = Publisher(client, source, report, strict=strict).publish(lines)
    if json:
        print_json(msgspec.to_builtins(tally) | {"earlier_lines": earlier.lines})
    _sum_up(tally, earlier)
    return 1 if tally.rejected else 0


def _opened(rejects: Path, *, goes_on: bool) -> BinaryIO:
    try:
        return rejects.open("ab" if goes_on else "wb")
    except OSError as error:
        raise WrongUse(f"{visible(rejects)} can't be written: {error.strerror}") from None


def _sum_up(tally: Tally, earlier: Tally) -> None:
    if tally.ignored_lines:
        names = ", ".join(visible(name) for name in tally.ignored_fields)
        lines = f"{tally.ignored_lines} line{'s' if tally.ignored_lines > 1 else ''}"
        say(f"unknown fields were left out of {lines}: {names} (--strict refuses them)")
    say(
        f"{tally.accepted} accepted, {tally.rejected} rejected, {tally.blank} blank, of {tally.lines} lines:"
        f" {tally.lines - earlier.lines} in this run, {earlier.lines} earlier"
    )


class Report:
    """Progress and rejected lines, on stderr, the lines themselves to `kept`. A bar when a person watches."""

    def __init__(self, lines: Source, kept: BinaryIO | None) -> None:
        self._kept = kept
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn(
                "{task.completed}/{task.total} bytes" if lines.size_bytes else "{task.completed} bytes"
            ),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[accepted]} accepted, {task.fields[rejected]} rejected"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("", total=lines.size_bytes, accepted=0, rejected=0)

    def __enter__(self) -> "Report":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def moved(self, position: Position, tally: Tally) -> None:
        """The log has everything up to here."""
        self._progress.update(
            self._task, completed=position.read_bytes, accepted=tally.accepted, rejected=tally.rejected
        )

    def rejected(self, line: Rejected) -> None:
        """A line that was not taken."""
        field = f"{line.field}: " if line.field else ""
        self.say(f"line {line.line}: {field}{line.error}")
        if self._kept is not None and line.text is not None:
            self._kept.write(line.text + b"\n")
            self._kept.flush()  # before the progress file says that this line is dealt with

    def say(self, text: str) -> None:
        """Something a person should know."""
        self._progress.console.print(visible(text), markup=False, highlight=False, soft_wrap=True)
