"""The legacy file: read in one transaction, and never written.

    with legacy(Path("webui.db")) as source:
        found = Findings()
        source.check(found)
        for balance in source.balances(DAY, "2025-01-01", "2025-12-31", found): ...

What can't be taken is told to the findings, and left out. Rows of one name, which are one row here, come as
one, in the order of organisation, day and name.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from genledger.legacy import entries, exact
from genledger.legacy.entries import KnownId
from genledger.legacy.exact import BadCell, Cell
from genledger.legacy.findings import Findings
from genledger.legacy.tables import (
    NOT_CARRIED,
    ORGANIZATIONS,
    PROCESSED,
    SUMMARIES,
    TABLES,
    USER,
    USERS,
    Table,
    matched,
    missing,
    quoted,
)
from genledger.output import visible
from streams.errors import GenledgerError
from streams.openings import BalanceWire

Cells = Mapping[str, Cell]
_MEND = "correct it in a copy of the file, and name the copy with --from"


class Source:
    """One legacy database, as of one moment."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type <> 'index'")}
        self.names = frozenset(names)
        self.columns: dict[str, Mapping[str, str]] = {}
        for table in TABLES:
            if table.name in names:
                self.columns[table.name] = matched(table, self._column_names(table))

    def _column_names(self, table: Table) -> Sequence[str]:
        found = self._connection.execute("SELECT name FROM pragma_table_info(?)", (table.name,))
        return [row[0] for row in found]

    def has(self, table: Table) -> bool:
        """Whether a table is there with all that it can't do without."""
        return table.name in self.columns and not missing(table, self.columns[table.name])

    def check(self, found: Findings) -> None:
        """Tables, columns, and days that are none."""
        for table in TABLES:
            if table.name not in self.columns:
                self._tell_missing(table, found)
                continue
            for column in missing(table, self.columns[table.name]):
                has = ", ".join(map(visible, self._column_names(table)))
                found.error(
                    table.name,
                    f"has no column {' or '.join(column.names)}: it has {has}",
                    f"in a copy: ALTER TABLE {table.name} RENAME COLUMN ... TO {column.names[0]}",
                )
            if self.has(table) and "day" in self.columns[table.name]:
                self._check_days(table, found)
        for name, why in NOT_CARRIED.items():
            if name in self.names:
                found.note(name, f"is not carried over: {why}")

    def _tell_missing(self, table: Table, found: Findings) -> None:
        if table.required:
            has = ", ".join(sorted(map(visible, self.names))) or "none"
            found.error(table.name, f"is not there; the tables are {has}", "name the right file with --from")
        else:
            found.warn(table.name, "is not there: nothing of it is carried over")

    def _check_days(self, table: Table, found: Findings) -> None:
        day = quoted(self.columns[table.name]["day"])
        wrong = f"typeof({day}) <> 'text' OR date({day}) IS NOT {day}"
        sql = f"SELECT {day} FROM {quoted(table.name)} WHERE {wrong}"
        for (cell,) in self._connection.execute(sql):
            mend = f"in a copy: UPDATE {table.name} SET {day} = date({day})"
            found.error(f"{table.name} {visible(cell)}", "the day is none such as 2025-01-31", mend)

    def rows(self, table: Table, first: str = "", last: str = "") -> Iterator[Cells]:
        """The rows of a table by our fields' names, of these days only."""
        if not self.has(table):
            return
        columns = self.columns[table.name]
        fields = list(columns)
        sql = f"SELECT {', '.join(quoted(columns[field]) for field in fields)} FROM {quoted(table.name)}"
        values: tuple[str, ...] = ()
        if "day" in columns:
            sql += f" WHERE {quoted(columns['day'])} BETWEEN ? AND ?"
            values = (first, last)
        sql += f" ORDER BY {', '.join(self._order(table))}"
        for row in self._connection.execute(sql, values):
            yield dict(zip(fields, row, strict=True))

    def _order(self, table: Table) -> Sequence[str]:
        columns = self.columns[table.name]
        names = [name for name in ("organization", "day", "id") if name in columns]
        if table.margin == "":
            names = ["id"] if table is PROCESSED else names
        order = [
            f"{_text_in_sql(columns[name])} COLLATE BINARY"
            for name in names
            if name != "id" or not table.margin
        ]
        if table.margin == "model":
            order.append(f"{_text_in_sql(columns['model'])} COLLATE BINARY")
        if table.margin == "user":
            user_id = f"CAST({quoted(columns['user_id'])} AS TEXT)"
            user = f"nullif(CAST({quoted(columns['user'])} AS TEXT), '')" if "user" in columns else "NULL"
            order.append(f"coalesce({user}, {user_id}, '') COLLATE BINARY")
        return order or ["1"]

    def balances(self, table: Table, first: str, last: str, found: Findings) -> Iterator[BalanceWire]:
        """The rows of a summary as opening balances, in order; rows of zeros are left out."""
        held: BalanceWire | None = None
        for cells in self.rows(table, first, last):
            try:
                balance = entries.balance_of(table, cells)
                if held is not None and _name(held) == _name(balance):
                    found.warn(_place(table, cells), "has the name of another row: here they are one")
                    held = entries.added(held, balance)
                    continue
            except BadCell as error:
                found.error(_place(table, cells), str(error), _MEND)
                continue
            if held is not None and not entries.is_nothing(held):
                yield held
            held = balance
        if held is not None and not entries.is_nothing(held):
            yield held

    def known_ids(self, first: str, last: str, found: Findings) -> Iterator[KnownId]:
        """The rows of processed_generations, by id."""
        before = ""
        for cells in self.rows(PROCESSED, first, last):
            try:
                row = entries.known_id_of(cells)
            except BadCell as error:
                found.error(_place(PROCESSED, cells), str(error), _MEND)
                continue
            if row.id == before:
                found.error(_place(PROCESSED, cells), "the id stands there twice", _MEND)
                continue
            before = row.id
            yield row

    def days(self, first: str, last: str) -> set[tuple[str, str]]:
        """The days of organisations that any table has a row of."""
        found: set[tuple[str, str]] = set()
        for table in (*SUMMARIES, PROCESSED):
            if self.has(table):
                organization, day = (
                    quoted(self.columns[table.name][name]) for name in ("organization", "day")
                )
                sql = f"""SELECT DISTINCT CAST({organization} AS TEXT) COLLATE BINARY, {day}
                    FROM {quoted(table.name)} WHERE {day} BETWEEN ? AND ?"""
                found.update(self._connection.execute(sql, (first, last)))
        return found

    def check_rows(self, first: str, last: str, found: Findings) -> dict[str, "Sums"]:
        """Every row of these days looked at; what each table adds up to."""
        sums: dict[str, Sums] = {}
        by_day: dict[str, dict[tuple[str, str], list[int]]] = {}
        for table in SUMMARIES:
            total, days = Sums(), by_day.setdefault(table.margin, {})
            for balance in self.balances(table, first, last, found):
                total.add(balance)
                day = days.setdefault((balance.organization, balance.day), [0, 0, 0, 0])
                for n, amount in enumerate(figures(balance)):
                    day[n] += amount
            sums[table.name] = total
        total = Sums()
        for row in self.known_ids(first, last, found):
            total.rows += 1
            total.total_tokens += row.total_tokens
            total.cost_nano += row.cost_nano
        sums[PROCESSED.name] = total
        for table in SUMMARIES[1:]:
            if self.has(table):
                _compare_margins(table, by_day["day"], by_day[table.margin], found)
        return sums

    def organizations(self) -> Iterator[Cells]:
        """The rows of client_organizations."""
        yield from self.rows(ORGANIZATIONS)

    def users(self) -> Iterator[Cells]:
        """The rows of user_client_mapping."""
        yield from self.rows(USERS)


class Sums:
    """What a table adds up to."""

    __slots__ = ("cost_nano", "markup_nano", "requests", "rows", "total_tokens")

    def __init__(self) -> None:
        self.rows = self.requests = self.total_tokens = self.cost_nano = self.markup_nano = 0

    def add(self, balance: BalanceWire) -> None:
        """One more row."""
        self.rows += 1
        self.requests += balance.requests
        self.total_tokens += balance.total_tokens
        self.cost_nano += balance.cost_nano
        self.markup_nano += balance.markup_nano


def figures(balance: BalanceWire) -> tuple[int, int, int, int]:
    """What is compared of a row: requests, tokens, cost, marked-up cost."""
    return (balance.requests, balance.total_tokens, balance.cost_nano, balance.markup_nano)


def _name(balance: BalanceWire) -> tuple[str, str, str]:
    return (balance.organization, balance.day, balance.user or balance.model)


def _place(table: Table, cells: Cells) -> str:
    names = [cells.get(field) for field in ("organization", "day", table.key or "id") if field in cells]
    if table is USER and not cells.get("user"):
        names.append(cells.get("user_id"))
    return " ".join([table.name, *(visible(name)[:80] for name in names if name not in (None, ""))])


def _compare_margins(
    table: Table,
    days: Mapping[tuple[str, str], list[int]],
    rows: Mapping[tuple[str, str], list[int]],
    found: Findings,
) -> None:
    """The same money by day, and by user or model: where the tables disagree, a person should know.

    Less than a micro-dollar for a row is what adding REALs gives: no difference.
    """
    for key in sorted(days.keys() | rows.keys()):
        one, other = days.get(key, [0, 0, 0, 0]), rows.get(key, [0, 0, 0, 0])
        near = one[:2] == other[:2] and all(
            abs(a - b) < 1000 for a, b in zip(one[2:], other[2:], strict=True)
        )
        if not near:
            place = f"{visible(key[0])} {key[1]}"
            what = f"{table.name} does not add up to client_daily_usage: each is carried as it is"
            found.warn(place, what)


@contextmanager
def legacy(path: Path) -> Iterator[Source]:
    """Open a legacy database, read only."""
    if not path.is_file():
        raise GenledgerError(f"{visible(path)} is not a file: name the legacy database with --from")
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.text_factory = _text
            connection.execute("BEGIN")
            yield Source(connection, path)
    except sqlite3.DatabaseError as error:
        raise GenledgerError(f"{visible(path)} can't be read as a SQLite database: {error}") from None


def _text_in_sql(column: str) -> str:
    return f"CAST({quoted(column)} AS TEXT)"


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def day_text(text: str, option: str) -> str:
    """A day as an option has it."""
    try:
        return exact.day_of(text, option)
    except BadCell as error:
        raise GenledgerError(str(error)) from None
