"""`genledger report`: an organisation's statement of usage for a month, from the views' file."""

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from genledger.client import Client
from genledger.options import Json, Service, WrongUse, url_of
from genledger.output import Format, say, table_text
from streams.errors import GenledgerError, ServiceUnreachable, ViewError
from streams.settings import Settings

if TYPE_CHECKING:
    from projections.report import Statement

app = App(
    name="report",
    help_prologue="""Examples:
  genledger report --org acme --month 2026-11
  genledger report --org acme --month 2026-11 --by user --format csv > acme.csv
""",
)

By = Literal["user", "model", "day"]
STATUS_TIMEOUT_S = 2.0
_MONTH = re.compile(r"2[01][0-9]{2}-(0[1-9]|1[0-2])")


@app.default
def report(
    *,
    org: Annotated[str, Parameter(help="The organisation.")],
    month: Annotated[str, Parameter(help="The month, YYYY-MM, of days as the organisation has them.")],
    by: Annotated[By, Parameter(help="What the lines are.")] = "day",
    format: Annotated[Format, Parameter(help="How to print it.")] = "table",
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Print an organisation's usage of a month, exact to the nano-dollar.

    raw_cost is what the provider asks, markup_cost what the organisation is
    billed; unpriced_requests have no known cost yet and are in neither. It is
    read from the views' file, whether the service runs or not; how current
    that is stands on stderr.
    """
    if _MONTH.fullmatch(month) is None:
        raise WrongUse(f"--month must be such as 2026-11, not {month}")
    found = service.settings()
    currency = _currency(found)  # asked before the rows are read: they are no older than it says
    path = Path(found.data) / "genledger.db"
    if not path.exists():
        raise ViewError(f"there are no views in {found.data}: name the folder with --data")
    statement = asyncio.run(_made(path, org, month, by))
    sys.stdout.write(_text(statement, "json" if json else format))
    say(currency)
    return 0


def _currency(found: Settings) -> str:
    """How far the views are, as the service says; it is not asked about a folder that may not be its own."""
    if found.origin.get("data") == "command line" and not found.url:
        return "As of the views in that folder."
    client = Client(found.url or url_of(found), found.api_key, STATUS_TIMEOUT_S)
    try:
        lag = client.get("/api/v1/status")["lag"]
        waiting = [f"{count} for {role}" for role, count in lag.items() if count]
    except ServiceUnreachable:
        return "As of the views; no service answers: start it to take what waits."
    except (GenledgerError, LookupError, TypeError, AttributeError) as error:
        return f"As of the views; how current they are the service does not tell: {error}"
    finally:
        client.close()
    if waiting:
        return f"Not all is in it yet: records wait, {', '.join(waiting)}."
    return "Up to date: no record waits."


async def _made(path: Path, org: str, month: str, by: By) -> "Statement":
    from projections import report as reports
    from projections.queries import Queries

    queries = await Queries.open(path)
    try:
        return await reports.made(queries, org, month, by)
    finally:
        await queries.close()


def _text(statement: "Statement", format: Format) -> str:
    from projections import report as reports

    if format == "csv":
        return reports.as_csv(statement)
    if format == "json":
        return reports.as_json(statement).decode() + "\n"
    total = {statement.columns[0]: "total", **statement.total}
    return table_text([*statement.lines, total], statement.columns)
