"""What anyone may ask of the views: read-only, parametrised, every answer bounded.

    queries = await Queries.open(Path("data/genledger.db"))
    page = await queries.usage("daily", organization="acme", first="2026-11-01", last="2026-11-30")
    page.rows[0]["raw_cost"]         # '0.0123': money is decimal text, made from the integers

A connection of its own, opened read-only, one statement a question: a reader never holds the writer up,
nor sees half a batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import aiosqlite
import msgspec
import orjson

from projections import raw, runs
from projections.books import Read
from projections.cleanup import Piece
from streams import times
from streams.errors import SchemaMismatch, ViewError
from streams.money import text_of

Kind = Literal["daily", "users", "models"]
By = Literal["user", "model", "day"]
Row = dict[str, Any]

ROWS_MAX = 10_000
STATEMENT_ROWS_MAX = 100_000
BUSY_TIMEOUT_S = 5
DAY_S = 86_400

_FIGURES = (
    "total_tokens, total_requests, raw_cost_nano AS raw_cost, markup_cost_nano AS markup_cost,"
    " prompt_tokens, completion_tokens, unpriced_requests, created_at, updated_at"
)
_USAGE: Mapping[Kind, tuple[str, str, str]] = {
    "daily": ("client_daily_usage", "primary_model, unique_users", "client_org_id"),
    "users": (
        "client_user_daily_usage",
        "user_id, openrouter_user_id",
        "client_org_id, openrouter_user_id",
    ),
    "models": ("client_model_daily_usage", "model_name, provider", "client_org_id, model_name"),
}
_LIVE = """SELECT client_org_id, "current_date", today_tokens, today_requests,
    today_raw_cost_nano AS today_raw_cost, today_markup_cost_nano AS today_markup_cost,
    today_unpriced_requests, timezone, last_updated FROM client_live_counters"""
_MONEY = ("raw_cost", "markup_cost", "today_raw_cost", "today_markup_cost", "total_cost")
_TODAY = (
    "today_tokens",
    "today_requests",
    "today_raw_cost",
    "today_markup_cost",
    "today_unpriced_requests",
)
# The table, the columns that name a line, and those that a line is grouped by.
_STATEMENT: Mapping[By, tuple[str, str, str]] = {
    "day": ("client_daily_usage", "usage_date AS day", "usage_date"),
    "model": ("client_model_daily_usage", "model_name AS model", "model_name"),
    "user": (
        "client_user_daily_usage",
        "openrouter_user_id AS user, max(user_id) AS user_id",
        "openrouter_user_id",
    ),
}
_SUMMED = (
    ("requests", "total_requests"),
    ("unpriced_requests", "unpriced_requests"),
    ("prompt_tokens", "prompt_tokens"),
    ("completion_tokens", "completion_tokens"),
    ("total_tokens", "total_tokens"),
    ("raw_cost_nano", "raw_cost_nano"),
    ("markup_cost_nano", "markup_cost_nano"),
)
# A month's sum may be more than 64 bits though no row is: its two halves are summed apart, and joined here.
_HALF = 1_000_000_000
_SUMS = ", ".join(
    f"sum({column} / {_HALF}) AS {name}_high, sum({column} % {_HALF}) AS {name}_low"
    for name, column in _SUMMED
)


# The fields of a row of `usage`, in order.
COLUMNS: Mapping[Kind, Sequence[str]] = {
    kind: [
        text.rpartition(" ")[2] for text in f"id, client_org_id, usage_date, {names}, {_FIGURES}".split(", ")
    ]
    for kind, (_, names, _) in _USAGE.items()
}


_CONFLICTS = """SELECT generation_id AS id, holder_org_id AS holder, claimant_org_id AS claimant, times,
    taken_over, created_at AS first_at, updated_at AS last_at FROM generation_conflicts"""
_RECENT_CONFLICTS = """SELECT count(*) AS recent, count(nullif(taken_over, 0)) AS taken_over
    FROM generation_conflicts WHERE updated_at >= ?"""


class Page(msgspec.Struct, frozen=True):
    """Rows, and whether there were more than an answer may hold."""

    rows: Sequence[Row]
    truncated: bool = False


_BOOKS = """SELECT "partition", fate, records, 0 AS next_offset FROM books
    UNION ALL SELECT "partition", '', records, source_offset + 1 FROM positions
    WHERE projection = 'summaries' ORDER BY 1, 2"""


class Queries:
    """A reader of one views' database."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> "Queries":
        """Open a database read-only; `ViewError` when there is none."""
        try:
            connection = await aiosqlite.connect(
                read_only(path), uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S
            )
        except aiosqlite.OperationalError as error:
            raise ViewError(f"{path} can't be opened: {error}") from None
        connection.row_factory = aiosqlite.Row
        return cls(connection)

    async def usage(
        self, kind: Kind, organization: str = "", first: str = "", last: str = "", limit: int = ROWS_MAX
    ) -> Page:
        """Summary rows of one organisation or of all, from a day to another, both included."""
        query, values = usage_query(kind, organization, first, last, limit)
        rows = [_with_money(row) for row in await self._all(query, values)]
        return Page(rows[:limit], len(rows) > limit)

    async def live(self, now_ms: int, organization: str = "") -> Page:
        """Live counters as they are now: zeros where the organisation's day has passed."""
        where, values = (" WHERE client_org_id = ?", (organization,)) if organization else ("", ())
        rows = await self._all(f"{_LIVE}{where} ORDER BY client_org_id LIMIT {ROWS_MAX + 1}", values)
        return Page([live_row(row, now_ms) for row in rows[:ROWS_MAX]], len(rows) > ROWS_MAX)

    async def books(self) -> tuple[Mapping[int, Mapping[str, int]], Mapping[int, Read]]:
        """For each partition, how many records had which fate, and what the summaries have read.

        One statement, so that both are of the same moment.
        """
        fates: dict[int, dict[str, int]] = {}
        read: dict[int, Read] = {}
        for row in await self._all(_BOOKS):
            if row["fate"]:
                fates.setdefault(row["partition"], {})[row["fate"]] = row["records"]
            else:
                read[row["partition"]] = Read(row["records"], row["next_offset"])
        return fates, read

    async def conflicts(
        self, organization: str = "", first: str = "", last: str = "", limit: int = ROWS_MAX
    ) -> Page:
        """Ids that two organisations claimed, the latest first, of one of the two or of all; days in UTC."""
        query, values = conflicts_query(organization, first, last, limit)
        rows = [_conflict(row) for row in await self._all(query, values)]
        return Page(rows[:limit], len(rows) > limit)

    async def conflicts_since(self, time_s: int) -> tuple[int, int]:
        """How many ids were claimed by another organisation since then, and how many of them taken over."""
        [row] = await self._all(_RECENT_CONFLICTS, (time_s,))
        return row["recent"], row["taken_over"]

    async def cleanup_runs(self, limit: int = runs.LIMIT) -> Page:
        """The newest runs of the retention job, each as it stands."""
        found = [row["run"] for row in await self._all(runs.NEWEST, (min(limit, runs.LIMIT_MAX) + 1,))]
        return Page(await self._told(found[:limit]), len(found) > limit)

    async def cleanup_run(self, run: str) -> Row | None:
        """One run of the retention job; None when the views know of none."""
        found = await self._told([run])
        return found[0] if found else None

    async def _told(self, names: Sequence[str]) -> list[Row]:
        asked = orjson.dumps(names).decode()
        pieces: dict[str, list[Piece]] = {name: [] for name in names}
        for row in await self._all(runs.PIECES, (asked,)):
            pieces[row.pop("run")].append(Piece(**row))
        parts: dict[str, dict[str, Row]] = {name: {} for name in names}
        counts = dict.fromkeys(names, 0)
        most = runs.ORGANIZATIONS_MAX // max(1, len(names))
        for row in await self._all(runs.ORGANIZATIONS, (asked, most)):
            parts[row["run"]][row["client_org_id"]] = runs.part_of(row)
            counts[row["run"]] = row["organizations"]
        return [runs.told_of(run, pieces[run], parts[run], counts[run]) for run in names if pieces[run]]

    async def cleanup_latest(self, limit: int) -> Sequence[Row]:
        """The newest rows of the audit, the newest first."""
        return await self._all(runs.LATEST, (limit,))

    async def cleanup_at_hand(self) -> Row:
        """What a night that was missed is told by: ids, the oldest day, since when, the last success."""
        [at_hand] = await self._all(runs.AT_HAND)
        [succeeded] = await self._all(runs.SUCCEEDED)
        return at_hand | succeeded

    async def positions(self) -> Sequence[Row]:
        """How far each view has come in each partition."""
        query = 'SELECT projection, "partition", usage_offset, source_offset FROM positions ORDER BY 1, 2'
        return await self._all(query)

    async def processed(self, id: str) -> Row | None:
        """A generation's row, with its cost as text; None when there is none."""
        query = """SELECT id, client_org_id, generation_date, processed_at, total_cost_nano AS total_cost,
            total_tokens FROM processed_generations WHERE id = ?"""
        rows = await self._all(query, (id,))
        return _with_money(rows[0]) if rows else None

    async def points(self, asked: raw.Asked) -> raw.Page:
        """Raw points of one organisation, in the order of their days and times."""
        until: raw.Place | None = None
        if asked.model:
            # Few of many rows may be this model's: a page looks at a bounded number of them.
            found = await self._all(*raw.edge_query(asked))
            until = (found[0]["usage_date"], found[0]["time_ns"], found[0]["id"]) if found else None
        rows = await self._all(*raw.points_query(asked, until))
        page = raw.paged(rows, asked, until)
        return raw.Page([_with_money(dict(row)) for row in page.rows], page.next)

    async def statement(self, organization: str, month: str, by: By) -> Sequence[Row]:
        """One organisation's month, summed by user, model or day, in integer nano-dollars."""
        query, values = statement_query(organization, month, by)
        rows = await self._all(query, values)
        if len(rows) > STATEMENT_ROWS_MAX:
            raise ViewError(f"more than {STATEMENT_ROWS_MAX} lines: ask by day or by model")
        return [_joined(row) for row in rows]

    async def close(self) -> None:
        """Let go of the file."""
        await self._connection.close()

    async def _all(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        try:
            async with self._connection.execute(query, values) as cursor:
                return [dict(row) for row in await cursor.fetchall()]
        except aiosqlite.OperationalError as error:
            if "no such" in str(error):
                raise SchemaMismatch(f"{error}: run `genledger db upgrade`") from error
            raise ViewError(f"the views can't be read: {error}") from error


def read_only(path: Path) -> str:
    """The URI that opens a database for reading; `ViewError` when there is none."""
    if not path.is_file():
        raise ViewError(f"{path} can't be opened: there is no such file")
    return f"{path.resolve().as_uri()}?mode=ro"


def usage_query(kind: Kind, organization: str, first: str, last: str, limit: int) -> tuple[str, list[Any]]:
    """The statement behind `usage`, and its values."""
    table, names, order = _USAGE[kind]
    conditions = ["usage_date >= ?", "usage_date <= ?"]
    values: list[Any] = [first or "0000", last or "9999"]
    if organization:
        conditions.insert(0, "client_org_id = ?")
        values.insert(0, organization)
    query = (
        f"SELECT id, client_org_id, usage_date, {names}, {_FIGURES} FROM {table}"
        f" WHERE {' AND '.join(conditions)} ORDER BY usage_date, {order} LIMIT ?"
    )
    return query, [*values, min(limit, ROWS_MAX) + 1]


def conflicts_query(organization: str, first: str, last: str, limit: int) -> tuple[str, list[Any]]:
    """The statement behind `conflicts`, and its values."""
    query = f"{_CONFLICTS} WHERE updated_at >= ? AND created_at <= ?"
    values: list[Any] = [_first_s(first), _last_s(last)]
    if organization:
        # Each half by an index of its own: nobody is in conflict with himself.
        query = f"{query} AND holder_org_id = ? UNION ALL {query} AND claimant_org_id = ?"
        values = [*values, organization] * 2
    order = "ORDER BY last_at DESC, id, holder, claimant"
    return f"{query} {order} LIMIT ?", [*values, min(limit, ROWS_MAX) + 1]


def _first_s(day: str) -> int:
    return times.midnight_ns(day, "UTC") // times.SECOND_NS if day else 0


def _last_s(day: str) -> int:
    return _first_s(day) + DAY_S - 1 if day else 2**62


def _conflict(row: Row) -> Row:
    row["taken_over"] = bool(row["taken_over"])
    for name in ("first_at", "last_at"):
        row[name] = times.text_of(row[name] * times.SECOND_NS)
    return row


def statement_query(organization: str, month: str, by: By) -> tuple[str, list[Any]]:
    """The statement behind `statement`, and its values. A month is YYYY-MM."""
    times.date_text(f"{month}-01")
    table, names, group = _STATEMENT[by]
    query = (
        f"SELECT {names}, {_SUMS} FROM {table} WHERE client_org_id = ? AND usage_date >= ?"
        f" AND usage_date <= ? GROUP BY {group} ORDER BY {group} LIMIT ?"
    )
    return query, [organization, f"{month}-01", f"{month}-31", STATEMENT_ROWS_MAX + 1]


def _joined(row: Row) -> Row:
    for name, _ in _SUMMED:
        row[name] = row.pop(f"{name}_high") * _HALF + row.pop(f"{name}_low")
    return row


def live_row(row: Mapping[str, Any], now_ms: int) -> Row:
    """A counter as it reads now: yesterday's figures are not today's."""
    shown = dict(row)
    today = times.day_of(now_ms * times.MS_NS, row["timezone"])
    if today > row["current_date"]:
        shown |= {"current_date": today} | dict.fromkeys(_TODAY, 0)
    return _with_money(shown)


def _with_money(row: Row) -> Row:
    for name in _MONEY:
        if row.get(name) is not None:
            row[name] = text_of(row[name])
    return row
