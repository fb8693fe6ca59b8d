"""`genledger publish`: a file of events onto the log, through the running service.

The work is in `genledger/publisher.py`; here are its options, its progress bar and its report.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from genledger.lines import Position, Source, Tally, open_source
from genledger.options import Json, Service, WrongUse
from genledger.output import print_json, say, visible
from genledger.publisher import Publisher, Rejected

app = App(
    name="publish",
    help_prologue="""Examples:
  genledger publish usage.ndjson
  genledger publish usage.ndjson.gz --source backfill
  cat usage.ndjson | genledger publish -
""",
)


@app.default
def publish(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    source: Annotated[str, Parameter(help="The source of events that do not name their own.")] = "",
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Publish a file of events, one JSON object a line, to the running service.

    Lines that are not taken are named on stderr, and the exit code is 1.
    Interrupted, it goes on where it was: FILE.genledger-progress remembers.
    Publishing something twice changes nothing: ids count once.

    Parameters
    ----------
    file
        The file, NDJSON or .gz of it; - for standard input.
    """
    if file != "-" and not Path(file).is_file():
        raise WrongUse(f"{visible(file)} is not a file")
    with service.client(offline=True) as client, ExitStack() as stack:
        lines = stack.enter_context(open_source(file))
        report = stack.enter_context(Report(lines))
        tally = Publisher(client, source, report).publish(lines)
    if json:
        print_json(msgspec.to_builtins(tally))
    say(f"{tally.accepted} accepted, {tally.rejected} rejected, of {tally.lines} lines")
    return 1 if tally.rejected else 0


class Report:
    """Progress and rejected lines, on stderr. The bar is there when a person watches."""

    def __init__(self, lines: Source) -> None:
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

    def say(self, text: str) -> None:
        """Something a person should know."""
        self._progress.console.print(visible(text), markup=False, highlight=False, soft_wrap=True)
