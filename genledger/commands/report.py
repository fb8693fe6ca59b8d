"""`genledger report`: an organisation's statement of usage for a month."""

import re
from calendar import monthrange
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from genledger.options import Service, WrongUse
from genledger.output import Format, print_json, print_rows
from streams import money

app = App(
    name="report",
    help_prologue="""Examples:
  genledger report --org acme --month 2026-11
  genledger report --org acme --month 2026-11 --by user --format csv > acme.csv
""",
)

By = Literal["day", "user", "model"]
# What the rows are grouped by: the route that has them, and the column that names them.
SOURCES: Mapping[By, tuple[str, str]] = {
    "day": ("/api/v1/usage/daily", "usage_date"),
    "user": ("/api/v1/usage/users", "user_id"),
    "model": ("/api/v1/usage/models", "model_name"),
}
COUNTS = ("total_requests", "total_tokens", "unpriced_requests")
AMOUNTS = ("raw_cost", "markup_cost")
FIGURES = (*COUNTS, *AMOUNTS)
_MONTH = re.compile(r"(2[01][0-9]{2})-(0[1-9]|1[0-2])")


@app.default
def report(
    *,
    org: Annotated[str, Parameter(help="The organisation.")],
    month: Annotated[str, Parameter(help="The month, YYYY-MM, of days as the organisation has them.")],
    by: Annotated[By, Parameter(help="What the rows are.")] = "day",
    format: Annotated[Format, Parameter(help="How to print it.")] = "table",
    service: Service = Service(),
) -> int:
    """Print an organisation's usage of a month, exact to the nano-dollar.

    raw_cost is what the provider asks, markup_cost what the organisation is
    billed; unpriced_requests have no known cost yet and are in neither.
    """
    first, last = days_of(month)
    route, column = SOURCES[by]
    with service.client() as client:
        found = client.get(route, **{"org": org, "from": first, "to": last})
    rows, total = statement(found["rows"], column, by)
    if format == "json":
        print_json({"organization": org, "month": month, "by": by, "rows": rows, "total": total})
    else:
        print_rows([*rows, {by: "total", **total}], [by, *FIGURES], format)
    return 0


def days_of(month: str) -> tuple[str, str]:
    """A month's first and last day."""
    match = _MONTH.fullmatch(month)
    if match is None:
        raise WrongUse(f"--month must be such as 2026-11, not {month}")
    _, days = monthrange(int(match.group(1)), int(match.group(2)))
    return f"{month}-01", f"{month}-{days:02d}"


def statement(
    rows: Iterable[Mapping[str, Any]], column: str, by: By
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a view summed by one column, and their total; money as decimal text again."""
    sums: dict[str, dict[str, int]] = {}
    total = dict.fromkeys(FIGURES, 0)
    for row in rows:
        group = sums.setdefault(str(row[column] or ""), dict.fromkeys(FIGURES, 0))
        for name in FIGURES:
            value = nano_of(row[name]) if name in AMOUNTS else int(row[name])
            group[name] += value
            total[name] += value
    return [{by: key, **_texts(sums[key])} for key in sorted(sums)], _texts(total)


def nano_of(text: str) -> int:
    """A sum's decimal text as nano-dollars: sums may be larger than one generation can be."""
    return int(Decimal(text).scaleb(9))


def _texts(figures: Mapping[str, int]) -> dict[str, Any]:
    return {name: money.text_of(value) if name in AMOUNTS else value for name, value in figures.items()}
