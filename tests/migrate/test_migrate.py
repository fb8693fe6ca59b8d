"""Issue Points, E: a legacy database of the seeds' tables, brought here, checked, and taken back.

One service for all: each test brings organisations of its own.
"""

import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.migrate.asking import House, days_of, read_back
from tests.migrate.legacy import SECRET, Legacy, make
from tests.road.harness import running


def small(path: Path, name: str) -> Legacy:
    """A file of a few rows."""
    return make(path / "webui.db", organizations=2, users=3, days=3, name=name)


def assert_brought(house: House, legacy: Legacy, name: str = "client") -> None:
    """What counts here is what the model makes of the file, and every id is known."""
    assert house.totals(name) == legacy.totals
    assert house.ids(name) == legacy.ids


def backup_of(out: str) -> str:
    """The migration that a run tells of."""
    return out.partition(":")[0]


def brought_and_taken_back(house: House, legacy: Legacy) -> None:
    """The whole of E on one file."""
    before = house.dump()
    ran = house.bring(legacy)
    assert ran.code == 0, ran.err
    assert_brought(house, legacy)
    compared = house.migrate("--validate-migration", *days_of(legacy), "--json")
    assert compared.code == 0, compared.err
    for table in compared.json()["tables"]:
        assert table["legacy"] == table["here"] and table["differing"] == table["left_out"] == 0
    after, records = house.dump(), house.records
    again = house.bring(legacy)
    assert (again.code, again.out) == (0, ""), again.err
    assert (house.dump(), house.records) == (after, records)
    synced = [read_back(call) for call in legacy.calls]
    house.publish(synced)
    house.publish([event | {"cost": "0.5", "completion_tokens": 9} for event in synced[::3]])
    house.publish([event | {"cost": None, "authority": "reported"} for event in synced[::5]])
    assert house.dump() == after
    taken = house.migrate("--rollback", "--backup-id", backup_of(ran.out))
    assert taken.code == 0, taken.err
    assert house.dump() == before


def test_a_legacy_database_is_brought_checked_and_taken_back(house: House, tmp_path: Path) -> None:
    """Totals equal the model's, a check agrees, a sync changes nothing, a rollback leaves what was there."""
    brought_and_taken_back(house, make(tmp_path / "webui.db", organizations=8, users=3, days=8))


@pytest.mark.soak
def test_a_year_of_twenty_organizations(tmp_path: Path) -> None:
    """The same with a year of 20 organisations of 20 users each."""
    with running(tmp_path / "data") as service:
        legacy = make(tmp_path / "webui.db", organizations=20, users=20, days=365)
        brought_and_taken_back(House(service), legacy)
        service.assert_books_balance(b"opening")


def test_a_killed_run_is_gone_on_with(house: House, tmp_path: Path) -> None:
    """After kill -9 the same command brings the rest, and nothing twice; so with a rollback."""
    legacy = make(tmp_path / "webui.db", organizations=4, users=14, days=10, name="killed")
    before = house.dump()
    assert house.bring(legacy, kill_at="migration-planned").code == -9
    assert house.bring(legacy, kill_at="migration-sent:1").code == -9
    other = house.migrate("--migrate", *days_of(legacy)[:4], "--end-date", legacy.first_day)
    assert other.code == 1 and "has not come to its end" in other.err
    ran = house.bring(legacy)
    assert ran.code == 0 and "going on from" in ran.err
    assert_brought(house, legacy, "killed")
    backup = backup_of(ran.out)
    assert house.migrate("--rollback", "--backup-id", backup, kill_at="migration-sent:1").code == -9
    assert house.migrate("--rollback", "--backup-id", backup).code == 0
    assert house.dump() == before


def test_a_killed_run_can_be_taken_back(house: House, tmp_path: Path) -> None:
    """What the log has of a run that never came to its end goes, too; and the file can be brought again."""
    legacy, before, folders = small(tmp_path, "undone"), house.dump(), house.folders
    assert house.bring(legacy, kill_at="migration-sent").code == -9
    [backup] = house.folders - folders
    assert house.migrate("--rollback", "--backup-id", backup).code == 0
    assert house.dump() == before
    assert house.bring(legacy).code == 0
    assert_brought(house, legacy, "undone")


def test_without_a_service_the_files_are_opened(house: House, tmp_path: Path) -> None:
    """What is published on the files counts once the service runs, and so does what is taken back."""
    legacy, before = small(tmp_path, "offline"), house.dump()
    house.service.stop()
    ran = house.bring(legacy, offline=True)
    assert ran.code == 0 and "no service runs" in ran.err, ran.err
    compared = house.migrate("--validate-migration", *days_of(legacy), offline=True)
    assert compared.code == 1 and "to read yet" in compared.err
    more = house.bring(
        make(tmp_path / "more.db", organizations=1, users=1, days=3, name="more"), offline=True
    )
    assert more.code == 1 and "nobody has decided yet" in more.err, more.err
    house.service.start()
    house.settle()
    assert_brought(house, legacy, "offline")
    assert house.migrate("--rollback", "--backup-id", backup_of(ran.out)).code == 0
    assert house.dump() == before


def test_the_backup_is_a_backup(house: House, tmp_path: Path) -> None:
    """What a migration copied first restores the views byte for byte, with no trace of the migration."""
    legacy, before = small(tmp_path, "copied"), house.dump()
    ran = house.bring(legacy)
    assert ran.code == 0
    file = house.service.data / "backups" / backup_of(ran.out) / "ledger.tar"
    assert house.run("restore", str(file), "--data", str(tmp_path / "again")).code == 0
    assert house.dump(tmp_path / "again") == before


def test_what_was_counted_here_is_not_added_twice(house: House, tmp_path: Path) -> None:
    """Days that both systems counted are refused by name, or left out, as it is said."""
    legacy, folders = small(tmp_path, "both"), house.folders
    call = legacy.calls[0]
    house.publish([read_back(call, authority="reported")])
    named = f"{call.organization} {call.day} (1 requests, 1 of the file's ids)"
    for policy in ("refuse", "add"):
        refused = house.bring(legacy, "--overlap", policy)
        assert refused.code == 1 and named in refused.err, refused.err
    assert house.folders == folders
    ran = house.bring(legacy, "--overlap", "skip")
    assert ran.code == 0 and f"{named}: is left out" in ran.err
    day = (call.organization, call.day)
    expected = {name: row for name, row in legacy.totals["day"].items() if name[:2] != day}
    assert house.totals("both")["day"] == expected | {(*day, ""): house.totals("both")["day"][*day, ""]}
    assert house.totals("both")["day"][*day, ""][0] == 1
    assert house.migrate("--validate-migration", *days_of(legacy)).code == 0


def test_a_call_on_the_other_side_of_midnight_is_found_by_its_id(house: House, tmp_path: Path) -> None:
    """An id of the file that counts here on another day makes the file's day one that both counted."""
    legacy = small(tmp_path, "night")
    call = legacy.calls[-1]
    house.publish([read_back(call, authority="reported", created_at="2025-03-01T00:00:00Z")])
    refused = house.bring(legacy)
    assert refused.code == 1
    assert f"{call.organization} {call.day} (0 requests, 1 of the file's ids)" in refused.err


def test_a_day_that_was_shared_without_a_call_in_both(house: House, tmp_path: Path) -> None:
    """With --overlap add the file's total is added to what was counted here, and taken back from it."""
    legacy = small(tmp_path, "shared")
    call = legacy.calls[0]
    house.publish([read_back(call, id="after-the-switch", authority="reported", cost="1")])
    before = house.totals("shared")
    assert house.bring(legacy).code == 1
    ran = house.bring(legacy, "--overlap", "add")
    assert ran.code == 0, ran.err
    name = (call.organization, call.day, "")
    theirs, ours = legacy.totals["day"][name], house.totals("shared")["day"][name]
    assert (ours[0], ours[2]) == (theirs[0] + 1, theirs[2] + 1_000_000_000)
    assert house.migrate("--validate-migration", *days_of(legacy)).code == 0
    assert house.bring(legacy, "--overlap", "add").out == ""
    assert house.migrate("--rollback", "--backup-id", backup_of(ran.out)).code == 0
    assert house.totals("shared") == before


def test_a_row_that_was_corrected_takes_the_place_of_the_older(house: House, tmp_path: Path) -> None:
    """A second migration publishes what is new only; taken back, the first one's rows count again."""
    legacy = small(tmp_path, "mended")
    first = house.bring(legacy)
    before = house.totals("mended")
    legacy.change("UPDATE client_daily_usage SET raw_cost = raw_cost + 0.1 WHERE client_org_id = 'mended-0'")
    wrong = house.migrate("--validate-migration", *days_of(legacy))
    assert wrong.code == 3 and "client_daily_usage mended-0 2025-01-01: " in wrong.out
    second = house.bring(legacy)
    assert second.code == 0 and "(0 known, 3 day, 0 user, 0 model)" in second.out, second.out
    assert house.totals("mended") == legacy.totals
    early = house.migrate("--rollback", "--backup-id", backup_of(first.out))
    assert early.code == 1 and "roll it back first" in early.err
    assert house.migrate("--rollback", "--backup-id", backup_of(second.out)).code == 0
    assert house.totals("mended") == before


def test_people_are_made_and_their_keys_are_not(house: House, tmp_path: Path) -> None:
    """Organisations and mappings that are missing are made; a provider's key in the file stays there."""
    legacy = small(tmp_path, "people")
    there = {"id": "people-1", "markup": "2", "timezone": "Pacific/Auckland"}
    house.service.post("/api/v1/organizations", there)
    said = house.bring(legacy, "--dry-run")
    assert said.code == 0 and "organisations to be made: people-0; users to be mapped: 6" in said.err
    assert house.ids("people") == {}
    ran = house.bring(legacy)
    assert ran.code == 0 and "--provider-key env:NAME" in ran.err
    assert_brought(house, legacy, "people")  # days as the file has them, in whatever timezone
    zero, one = (house.service.get(f"/api/v1/organizations/people-{n}") for n in (0, 1))
    assert (zero["markup"], zero["monthly_limit"], zero["name"]) == ("1.3", "100.5", "Client 0")
    assert (one["markup"], zero["provider_key"]) == ("2", None)
    rows = house.service.get("/api/v1/usage/users?org=people-0&from=2025-01-01&to=2025-12-31")["rows"]
    assert {(row["openrouter_user_id"], row["user_id"]) for row in rows} == {
        (f"u-{n}", f"person-{n}") for n in range(3)
    }
    assert SECRET not in ran.err + ran.out + said.err
    for path in house.service.data.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_file_that_is_wrong_is_refused_before_anything_is_published(house: House, tmp_path: Path) -> None:
    """The row, what is wrong with it and how to mend it are said."""
    legacy, folders = small(tmp_path, "wrong"), house.folders
    legacy.change("UPDATE client_daily_usage SET raw_cost = -1.5 WHERE usage_date = '2025-01-02'")
    checked = house.migrate("--validate-only", "--from", str(legacy.path))
    assert checked.code == 3 and "wrong-0 2025-01-02" in checked.err and "-> " in checked.err
    ran = house.bring(legacy)
    assert ran.code == 1 and "raw_cost is negative" in ran.err
    assert house.folders == folders and house.ids("wrong") == {}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--migrate", "--rollback"),
        ("--rollback",),
        ("--migrate", "--start-date", "2025-02-30", "--end-date", "2025-03-01"),
        ("--migrate", "--start-date", "2025-03-02", "--end-date", "2025-03-01"),
    ],
)
def test_wrong_use_is_exit_code_2(house: House, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """What can't be meant is said, and nothing is done."""
    file = ("--from", str(small(tmp_path, "wrong").path))
    assert house.migrate(*arguments, *file).code == 2


def test_the_seeds_script_is_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Deployment plans that name the script go on working."""
    script = Path(__file__).parents[2] / "scripts" / "migrate_to_influxdb_first.py"
    with pytest.raises(SystemExit) as ended, patch.object(sys, "argv", [str(script), "--help"]):
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "genledger migrate --validate-only" in capsys.readouterr().out
