"""A legacy file by itself: what is wrong with it is named, and what is merely different is taken."""

from pathlib import Path

import pytest

from genledger.legacy import backups
from genledger.legacy.exact import BadCell, nano_of
from genledger.legacy.findings import Findings
from genledger.legacy.migration import tell_overlap
from genledger.legacy.overlap import Overlap
from genledger.legacy.people import wanted_organizations, wanted_users
from genledger.legacy.source import legacy as opened
from genledger.legacy.tables import DAY, MODEL, USER
from streams.errors import GenledgerError
from streams.settings import load
from tests.migrate.legacy import Legacy, make

DAYS = ("2025-01-01", "2025-12-31")
WRONG = {
    "UPDATE client_daily_usage SET raw_cost = -1.5": "raw_cost is negative",
    "UPDATE client_daily_usage SET raw_cost = 9e999": "raw_cost is not a number",
    "UPDATE client_daily_usage SET raw_cost = NULL": "raw_cost is missing",
    "UPDATE client_daily_usage SET raw_cost = 1e11": "raw_cost is more than 64 bits",
    "UPDATE client_daily_usage SET total_tokens = 'many'": "total_tokens is not a number",
    "UPDATE client_daily_usage SET total_tokens = 1.5": "total_tokens is not a whole number",
    "UPDATE client_daily_usage SET client_org_id = x'ff'": "client_org_id is not text",
    "UPDATE client_user_daily_usage SET usage_date = '2025-1-1'": "the day is none such as 2025-01-31",
    "UPDATE client_user_daily_usage SET usage_date = 20250101": "the day is none such as 2025-01-31",
    "UPDATE client_user_daily_usage SET openrouter_user_id = char(10)": "user must not contain control",
    "UPDATE client_model_daily_usage SET model_name = ''": "model_name is missing",
    "UPDATE processed_generations SET id = 'horizon-' || id": "must not begin with horizon-",
    "UPDATE processed_generations SET total_cost = 1000001": "must be at most 1000000 dollars",
    "UPDATE client_organizations SET markup_rate = 5000": "markup_rate is not from 0 to 1000",
    "ALTER TABLE client_daily_usage RENAME COLUMN markup_cost TO charged": "has no column markup_cost",
    "DROP TABLE client_daily_usage": "is not there; the tables are",
}


@pytest.fixture
def file(tmp_path: Path) -> Legacy:
    """A file of a few rows."""
    return make(tmp_path / "webui.db", organizations=2, users=3, days=3)


def looked_at(file: Legacy) -> Findings:
    """All that a check of the file finds."""
    found = Findings()
    with opened(file.path) as source:
        source.check(found)
        if not found.errors:
            source.check_rows(*DAYS, found)
        wanted_organizations(source, found)
        wanted_users(source, found)
    return found


@pytest.mark.parametrize("change", WRONG)
def test_what_is_wrong_is_named_with_its_mend(file: Legacy, change: str) -> None:
    """Each kind once, with the first of its places and what to do."""
    assert looked_at(file).errors == 0
    file.change(change)
    found = [one for one in looked_at(file).all() if one.level == "error"]
    assert any(WRONG[change] in one.what and one.mend for one in found), found


def test_other_names_and_missing_tables_are_taken(file: Legacy) -> None:
    """Columns under names that they are known to have, and tables that need not be there."""
    file.change(
        "ALTER TABLE client_daily_usage RENAME COLUMN total_requests TO requests;"
        "ALTER TABLE client_daily_usage RENAME COLUMN usage_date TO Date;"
        "ALTER TABLE processed_generations RENAME COLUMN total_cost TO cost;"
        "DROP TABLE client_model_daily_usage; DROP TABLE user_client_mapping; DROP TABLE client_organizations"
    )
    assert looked_at(file).errors == 0
    with opened(file.path) as source:
        assert list(source.balances(DAY, *DAYS, Findings()))
        assert list(source.known_ids(*DAYS, Findings()))
        assert not list(source.balances(MODEL, *DAYS, Findings()))


def test_margins_that_disagree_are_said(file: Legacy) -> None:
    """Where the old tables do not add up a person is told, and it is no error."""
    file.change(
        "UPDATE client_daily_usage SET total_tokens = total_tokens + 1 WHERE usage_date = '2025-01-02'"
    )
    found = looked_at(file)
    assert found.errors == 0
    [one] = [one for one in found.all() if "client_user_daily_usage does not add up" in one.what]
    assert one.places == ["client-0 2025-01-02", "client-1 2025-01-02"]


def test_rows_of_one_name_are_one_row(file: Legacy) -> None:
    """The application's two users behind one provider's user are one row here, as they always are."""
    file.change("UPDATE client_user_daily_usage SET openrouter_user_id = 'u-0'")
    found = Findings()
    with opened(file.path) as source:
        rows = list(source.balances(USER, *DAYS, found))
    assert {row.user for row in rows} == {"u-0"} and len(rows) == len(file.totals["day"])
    assert sum(row.requests for row in rows) == sum(row[0] for row in file.totals["day"].values())


def test_names_that_differ_by_case_stay_apart(file: Legacy) -> None:
    """Also where the old column compares without case: here they are two organisations."""
    file.change(
        "DROP TABLE client_daily_usage; CREATE TABLE client_daily_usage (client_org_id TEXT COLLATE NOCASE,"
        " usage_date TEXT, total_tokens, total_requests, raw_cost REAL, markup_cost REAL);"
        "INSERT INTO client_daily_usage SELECT column1, '2025-01-02', 1, 1, 0.5, 0.5 FROM"
        " (VALUES ('ACME'), ('acme'), ('ACME'), ('acme'))"
    )
    with opened(file.path) as source:
        rows = list(source.balances(DAY, *DAYS, Findings()))
        named = {name for name, _ in source.days(*DAYS)}
    assert [(row.organization, row.requests) for row in rows] == [("ACME", 2), ("acme", 2)]
    assert {"ACME", "acme"} <= named


@pytest.mark.parametrize("cell", ["1e999999", "-1e999999", "1e99999999999999999999"])
def test_a_number_of_a_million_digits_is_told(cell: str) -> None:
    """Text that SQLite left as it was: too much, and nobody writes it out."""
    with pytest.raises(BadCell):
        nano_of(cell)


def test_a_clock_that_was_set_back_leaves_migrations_in_their_order(tmp_path: Path) -> None:
    """The later one's name sorts after the earlier one's: a rollback goes by it."""
    settings = load({}, tmp_path / "none.toml", data=str(tmp_path))
    earlier = backups.Folder(backups.folder_of(settings) / "backup_29990101_000000")
    earlier.path.mkdir(parents=True)
    (earlier.path / backups.MANIFEST).touch()
    assert backups.begun(settings).id == "backup_29990101_000001"


def test_without_a_providers_user_the_applications_names_the_row(file: Legacy) -> None:
    """An empty openrouter_user_id is no user of its own where the application knows who it was."""
    file.change("UPDATE client_user_daily_usage SET openrouter_user_id = ''")
    with opened(file.path) as source:
        assert {row.user for row in source.balances(USER, *DAYS, Findings())} <= {
            f"person-{n}" for n in range(3)
        }


def test_money_without_requests_is_carried_and_nothing_is_not(file: Legacy) -> None:
    """A correction that somebody booked by hand is money, too; a row of zeros says nothing."""
    file.change(
        "UPDATE client_daily_usage SET total_requests = 0, total_tokens = 0;"
        "UPDATE client_daily_usage SET raw_cost = 0, markup_cost = 0 WHERE usage_date = '2025-01-02'"
    )
    with opened(file.path) as source:
        rows = list(source.balances(DAY, *DAYS, Findings()))
    assert {row.day for row in rows} == {"2025-01-01", "2025-01-03"}
    assert all(row.requests == 0 < row.cost_nano for row in rows)


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    """Another file's name, or none, is an error with its path."""
    (tmp_path / "a.db").write_bytes(b"not a database at all" * 100)
    for name in ("a.db", "none.db"):
        with pytest.raises(GenledgerError, match=name), opened(tmp_path / name):
            pass


def test_the_file_is_never_written(file: Legacy) -> None:
    """Not a byte of it, whatever is asked."""
    before = file.path.read_bytes()
    looked_at(file)
    assert file.path.read_bytes() == before
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["webui.db"]


def test_days_that_both_counted_are_errors_warnings_or_both() -> None:
    """By what was said: refused, left out, or added; an id in both can't be added."""
    both = Overlap({("acme", "2025-01-01"): 3, ("acme", "2025-01-02"): 1}, {("acme", "2025-01-02"): 1})
    errors = []
    for policy in ("refuse", "skip", "add"):
        found = Findings()
        tell_overlap(both, policy, found)
        errors.append(found.errors)
    assert errors == [2, 0, 1]
