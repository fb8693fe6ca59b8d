"""Questions in SQL, for 3: no Flux there.

>>> literal("it's")
"'it''s'"

Standard SQL's literals know no escapes but the doubled mark, and the names of columns are ours.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from projections.stores.influxdb.server import BadQuestion, Denied, Server
from streams import times

Rows = Callable[[str, int, int, Mapping[str, str]], AsyncIterator[Mapping[str, Any]]]


def rows_of(server: Server) -> Rows:
    """The rows of a measurement in the server's database."""

    async def rows(
        measurement: str, first_ns: int, last_ns: int, tags: Mapping[str, str]
    ) -> AsyncIterator[Mapping[str, Any]]:
        try:
            async for row in server.query_sql(question(measurement, first_ns, last_ns, tags)):
                yield row
        except (BadQuestion, Denied) as error:
            if "not found" not in str(error):  # the first write makes the database, and each table
                raise

    return rows


def question(measurement: str, first_ns: int, last_ns: int, tags: Mapping[str, str]) -> str:
    """Each point as one row. All columns: to name one that no point ever had would be an error. Pure."""
    within = f"time >= '{times.text_of(first_ns)}' AND time < '{times.text_of(last_ns)}'"
    where = "".join(f" AND {name(column)} = {literal(value)}" for column, value in tags.items())
    return f"SELECT * FROM {name(measurement)} WHERE {within}{where}"


def literal(text: str) -> str:
    """A text as SQL has it between its marks."""
    return "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """The name of a table or a column."""
    return '"' + text.replace('"', '""') + '"'
