"""`genledger report`: an organisation's statement of usage for a month, from the views' file."""

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from genledger.options import Data, WrongUse, database_of
from genledger.output import Format, table_text

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
_MONTH = re.compile(r"2[01][0-9]{2}-(0[1-9]|1[0-2])")


@app.default
def report(
    *,
    org: Annotated[str, Parameter(help="The organisation.")],
    month: Annotated[str, Parameter(help="The month, YYYY-MM, of days as the organisation has them.")],
    by: Annotated[By, Parameter(help="What the lines are.")] = "day",
    format: Annotated[Format, Parameter(help="How to print it.")] = "table",
    data: Data = None,
) -> int:
    """Print an organisation's usage of a month, exact to the nano-dollar.

    raw_cost is what the provider asks, markup_cost what the organisation is
    billed; unpriced_requests have no known cost yet and are in neither. It is
    read from the views' file, whether the service runs or not.
    """
    if _MONTH.fullmatch(month) is None:
        raise WrongUse(f"--month must be such as 2026-11, not {month}")
    statement = asyncio.run(_made(database_of(data), org, month, by))
    sys.stdout.write(_text(statement, format))
    return 0


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
