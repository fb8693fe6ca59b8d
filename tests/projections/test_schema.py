"""The tables' revisions."""

import logging
import sqlite3
from contextlib import closing

import pytest

from projections import schema
from projections.stores.lock import FileLock
from streams.errors import SchemaMismatch, ViewBusy

REVISIONS = [
    *("20250725_000", "20250725_001", "20250725_002"),
    *("20261121_003", "20261121_004", "20261121_005", "20261122_006", "20261122_007"),
]


def tables(path):
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        return [row[0] for row in found]


def test_every_revision_goes_up_and_down(tmp_path, caplog):
    """Each step up adds what the step down takes away, and the way is logged."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "new folder" / "100%.db"
    assert schema.current(path) == ""
    made = {}
    for revision in REVISIONS:
        assert schema.upgrade(path, revision) == revision == schema.current(path)
        made[revision] = tables(path)
    assert schema.check(path) == []
    for revision in reversed(REVISIONS[:-1]):
        assert schema.downgrade(path, revision) == revision
        assert tables(path) == made[revision]
    assert schema.downgrade(path, "base") == ""
    assert "20261121_003 -> 20261121_004" in caplog.text


def test_upgrading_again_changes_nothing(path):
    """A second upgrade is safe and leaves the tables as they are."""
    before = tables(path)
    assert schema.upgrade(path) == schema.HEAD
    assert tables(path) == before


def test_history_ends_at_the_head_that_opening_asks_for():
    """The revisions form one line, and its end is what the writer demands."""
    history = schema.history()
    assert [step.id for step in history] == REVISIONS
    assert [step.down for step in history] == ["", *REVISIONS[:-1]]
    assert history[-1].id == schema.HEAD


def test_a_failing_upgrade_changes_nothing(tmp_path):
    """A table that stands in the way stops the upgrade, and what it had made is gone again."""
    path = tmp_path / "genledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE processed_generations (id TEXT)")
    before = tables(path)
    with pytest.raises(SchemaMismatch, match=r"nothing was changed.*processed_generations"):
        schema.upgrade(path)
    assert tables(path) == before


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DROP TABLE books", "table books is missing"),
        ("DROP INDEX idx_processed_at", "index idx_processed_at of processed_generations is missing"),
        (
            "ALTER TABLE client_daily_usage DROP COLUMN unique_users",
            "column client_daily_usage.unique_users is missing",
        ),
    ],
)
def test_check_names_what_is_missing(path, damage, problem):
    """A table, column or index that went missing is named."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
    assert schema.check(path) == [problem]


def test_check_says_which_revision_is_missing(tmp_path):
    """Tables of an older revision, or none, are a problem that says what to run."""
    path = tmp_path / "genledger.db"
    assert "genledger db upgrade" in schema.check(path)[0]
    schema.upgrade(path, "20250725_001")
    assert "20250725_001" in schema.check(path)[0]


def test_stamp_is_refused_when_the_tables_are_not_like_it(tmp_path):
    """A revision can only be claimed by tables that are like it; a refusal says which one they are like."""
    path = tmp_path / "genledger.db"
    with pytest.raises(SchemaMismatch, match=r"like revision base, not like head.*client_organizations is"):
        schema.stamp(path, "head")
    assert schema.current(path) == ""
    schema.upgrade(path)
    for wrong in ("20250725_002", "base"):
        with pytest.raises(SchemaMismatch, match=f"like revision {schema.HEAD}, not like {wrong}"):
            schema.stamp(path, wrong)
    assert schema.current(path) == schema.HEAD
    assert schema.stamp(path, "head") == schema.HEAD


def _mark(path, revision):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()


@pytest.mark.parametrize(
    ("real", "said"),
    [
        ("20261121_004", "20250725_001"),
        ("20261121_003", "20261121_004"),
        ("20250725_001", "20261121_004"),
    ],
)
def test_a_file_with_a_wrong_stamp_is_mended_by_the_command_that_upgrade_names(tmp_path, real, said):
    """Neither up nor down goes on from a stamp that is not true; the refusal says what works."""
    path = tmp_path / "genledger.db"
    schema.upgrade(path, real)
    _mark(path, said)
    for change in (schema.upgrade, lambda path: schema.downgrade(path, "base")):
        with pytest.raises(SchemaMismatch, match=f"run `genledger db stamp {real}`"):
            change(path)
    assert schema.stamp(path, real) == real
    assert schema.upgrade(path) == schema.HEAD


def test_damaged_tables_are_like_no_revision(path):
    """A stamp on tables that lost something is refused, and says what."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX idx_processed_at")
    assert schema.like(path) is None
    with pytest.raises(SchemaMismatch, match=r"like no revision, not like head \(index idx_processed_at"):
        schema.stamp(path, "head")


@pytest.mark.parametrize("change", [schema.upgrade, schema.downgrade, schema.stamp])
def test_a_revision_that_there_is_not_is_refused_before_anything(tmp_path, change):
    """The refusal names those there are; no file is made."""
    path = tmp_path / "genledger.db"
    with pytest.raises(SchemaMismatch, match=r"no revision 20250725_009: they are 20250725_000"):
        change(path, "20250725_009")
    assert not path.exists()


def test_a_database_of_a_newer_genledger_is_left_alone(path):
    """An unknown revision is refused before anything is touched."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '20990101_000'")
        connection.commit()
    with pytest.raises(SchemaMismatch, match="upgrade genledger"):
        schema.upgrade(path)
    with pytest.raises(SchemaMismatch, match="upgrade genledger"):
        schema.require_head(path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    """What is not SQLite is neither opened nor overwritten."""
    path = tmp_path / "genledger.db"
    path.write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(SchemaMismatch, match="not a views' database"):
        schema.upgrade(path)
    assert path.read_bytes().startswith(b"not a database")


def test_tables_are_not_changed_under_a_running_service(path):
    """While a service writes the file, an upgrade is refused."""
    lock = FileLock(path)
    with pytest.raises(ViewBusy):
        schema.upgrade(path)
    lock.release()
    schema.upgrade(path)
