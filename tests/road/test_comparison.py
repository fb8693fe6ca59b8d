"""The comparison itself: a check that can't fail proves nothing."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.model.tables import tables
from tests.model.traffic import generate
from tests.road.comparison import INTERNAL, KEYS, LOG_TIMES, book_differences, differences, digest
from tests.road.files import VIEWS, connect, model_of, settings_records
from tests.road.harness import running, set_up
from tests.road.run import check, feed, settle, sizes


def test_one_wrong_cell_in_any_column_of_any_table_is_seen(tmp_path: Path) -> None:
    """Whatever column of whatever row is changed, the comparison names it."""
    data, traffic = tmp_path / "data", generate(3, 60)
    with running(data) as service:
        set_up(service, traffic)
        told = feed(service, traffic.deliveries, sizes(1, 10, 20))
        settle(service)
        assert service.stop() == 0
    check(data, traffic, told)
    model, _ = model_of(data, traffic)
    expected = tables(model, settings_records(data))
    with closing(connect(data / VIEWS)) as connection:
        columns = stored_columns(connection)
    for table, column, kind in columns:
        broken = broken_copy(data, table, column, kind)
        found = differences(broken, expected)
        assert any(line.startswith(table) for line in found), (table, column)
        if column not in LOG_TIMES and table != "client_live_counters":
            assert digest(broken) != digest(data), (table, column)
    assert book_differences(data, model) == []
    model.books[0]["duplicate"] += 1
    assert book_differences(data, model) != []


def broken_copy(data: Path, table: str, column: str, kind: str) -> Path:
    """The views with one cell changed."""
    broken = data.with_name("broken")
    broken.mkdir(exist_ok=True)
    shutil.copy(data / VIEWS, broken / VIEWS)
    nothing, more = ("0", "+ 1") if kind == "INTEGER" else ("''", "|| 'x'")
    change = f'coalesce("{column}", {nothing}) {more}'
    key = KEYS[table][-1]
    with closing(sqlite3.connect(broken / VIEWS)) as connection:
        connection.execute(
            f'UPDATE {table} SET "{column}" = {change}'
            f" WHERE id = (SELECT min(id) FROM {table} WHERE client_org_id <> 'org-19')"
            if table not in ("client_organizations", "client_live_counters")
            else f'UPDATE {table} SET "{column}" = {change} WHERE {key} = (SELECT min({key}) FROM {table})'
        )
        connection.commit()
    return broken


def stored_columns(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Every column that the model knows and that is not generated from another."""
    return [
        (table, row[1], row[2])
        for table in KEYS
        for row in connection.execute(f"PRAGMA table_xinfo({table})")
        if row[6] == 0 and row[1] not in INTERNAL.get(table, set())
    ]
