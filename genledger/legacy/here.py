"""What the views hold here: days' own requests, ids, rows to be compared, and how far each view has come.

    with views(settings) as here:
        here.requests("2025-01-01", "2025-12-31")["acme", "2025-01-31"]

The database is opened read-only, on the machine where it is: on a cluster that of the summaries.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

import orjson

from genledger.legacy.tables import Table
from genledger.output import visible
from genledger.roles.views import path_of
from projections import schema
from streams.errors import GenledgerError
from streams.settings import Settings

IDS_AT_ONCE = 500
VIEWS = ("summaries", "processed")
_NAMES = {"": "''", "user": "openrouter_user_id", "model": "model_name"}

# Organisation, day, user or model; requests, tokens, cost, marked-up cost.
Line = tuple[str, str, str, int, int, int, int]


class Here:
    """A reader of the views."""

    def __init__(self, connection: sqlite3.Connection, settings: Settings) -> None:
        self._connection = connection
        self._views = VIEWS if settings.processed_generations else VIEWS[:1]

    @property
    def has_ids(self) -> bool:
        """Whether processed_generations is kept."""
        return "processed" in self._views

    def requests(self, first: str, last: str) -> Mapping[tuple[str, str], int]:
        """How many requests each organisation's day has."""
        sql = """SELECT client_org_id, usage_date, total_requests FROM client_daily_usage
            WHERE usage_date BETWEEN ? AND ?"""
        return {(org, day): requests for org, day, requests in self._connection.execute(sql, (first, last))}

    def known(self, ids: Iterable[str]) -> Mapping[str, tuple[str, str, int | None, int]]:
        """Of these ids those that have a row: organisation, day, cost, tokens."""
        sql = """SELECT id, client_org_id, generation_date, total_cost_nano, total_tokens
            FROM processed_generations WHERE id IN (SELECT value FROM json_each(?))"""
        found = self._connection.execute(sql, (orjson.dumps(list(ids)).decode(),))
        return {row[0]: tuple(row[1:]) for row in found}

    def lines(self, table: Table, first: str, last: str) -> Iterator[Line]:
        """The rows of a summary that are of something, in order."""
        name = _NAMES[table.key]
        sql = f"""SELECT client_org_id, usage_date, {name}, total_requests, total_tokens, raw_cost_nano,
            markup_cost_nano FROM {table.name} WHERE usage_date BETWEEN ? AND ?
            AND (total_requests <> 0 OR total_tokens <> 0 OR raw_cost_nano <> 0 OR markup_cost_nano <> 0)
            ORDER BY client_org_id, usage_date, {name}"""
        yield from self._connection.execute(sql, (first, last))

    def behind(self, newest: Mapping[int, int]) -> int:
        """How many records of these places the slowest view has yet to read."""
        sql = 'SELECT projection, "partition", source_offset FROM positions'
        at = {(name, partition): offset for name, partition, offset in self._connection.execute(sql)}
        return max(
            (
                sum(max(0, offset - at.get((view, partition), -1)) for partition, offset in newest.items())
                for view in self._views
            ),
            default=0,
        )


@contextmanager
def views(settings: Settings) -> Iterator[Here]:
    """Open the views; an error when they are not on this machine, or of another version."""
    path = path_of(settings)
    if not path.exists():
        raise GenledgerError(
            f"there are no views in {visible(settings.data)}: start `genledger serve` there once, name the"
            " folder with --data, and on a cluster run this where the summaries are"
        )
    schema.require_head(path)
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
        yield Here(connection, settings)
