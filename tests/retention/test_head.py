"""D of Retention: the head of `usage` goes behind a snapshot, and no figure with it."""

import asyncio
import json
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from genledger.main import run
from genledger.roles.trimming import hour_after, refusal, write_waiting
from projections.rebuild import build as building
from projections.rebuild.build import build
from projections.rebuild.plan import Plan, parts_of
from projections.sender import Sender
from projections.snapshot import chunks, publish
from projections.snapshot import make as making
from projections.snapshot.check import check
from projections.snapshot.make import look, make
from projections.snapshot.package import CHECKED, PUBLISHED, READY, Package, waiting
from projections.stores.influxdb.positions import Kept
from projections.view import Position
from streams import faultpoints, snapshots, times, topics
from streams.errors import LogDamaged, LogMismatch, ViewError
from streams.log.interface import Record
from streams.log.sqlite import trimming
from streams.log.sqlite.log import SqliteLog
from streams.snapshots import Manifest
from tests.rebuild.command import genledger
from tests.retention.head import (
    A_DAY,
    DAYS,
    FIRST_NS,
    KEPT_DAYS,
    PARTITIONS,
    digest_of,
    opened,
    settings_of,
)
from tests.road.harness import running
from tests.road.run import settle

LIVE = "genledger.db"
GONE_DAYS = DAYS - KEPT_DAYS


class Killed(BaseException):
    """What a kill -9 is to the code that it meets."""


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A year's facts, and the live views of them."""
    data = tmp_path_factory.mktemp("head") / "data"
    data.mkdir()

    async def made() -> None:
        async with opened(data) as world:
            await world.days(0, DAYS)
            await world.follow()

    asyncio.run(made())
    return data


@pytest.fixture(scope="module")
def packed(year: Path) -> Path:
    """The same with a snapshot of all but the last hundred days, which waits to be published."""
    data = Path(shutil.copytree(year, year.with_name("packed")))
    settings = settings_of(data)
    outlook = look(settings, KEPT_DAYS, data / LIVE)
    assert abs(outlook.facts - GONE_DAYS * A_DAY) < GONE_DAYS
    assert make(settings, outlook, data / LIVE) is not None
    return data


@pytest.fixture(scope="module")
def trimmed(packed: Path) -> Path:
    """The same with the snapshot published, checked and in force: the facts before it are gone."""
    data = Path(shutil.copytree(packed, packed.with_name("trimmed")))
    on_log(data, publish.go_on)
    assert check(settings_of(data), package_of(data), data / LIVE) == ""
    on_log(data, publish.go_on)
    assert waiting(data) is None
    return data


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a folder, for the test to change."""
    return lambda data: Path(shutil.copytree(data, tmp_path / "data"))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "PIECE_RECORDS", 50)


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on whoever gets to this point a second time is gone."""

    def at(name: str, count: int = 2) -> None:
        assert name in faultpoints.NAMES
        left = [count]

        def reached(point: str) -> None:
            left[0] -= point == name
            if not left[0]:
                raise Killed

        monkeypatch.setattr(faultpoints, "reached", reached)

    return at


def package_of(data: Path) -> Package:
    found = waiting(data)
    assert found is not None
    return found


def on_log(data: Path, work: Callable[[SqliteLog, Path], Any]) -> Any:
    """Do something with the log as its one writer."""

    async def done() -> Any:
        async with opened(data) as world:
            return await work(world.log, data)

    return asyncio.run(done())


async def state(log: SqliteLog, _data: Path) -> tuple[Mapping[int, int], Manifest | None]:
    """Where facts begin, and the snapshot in force."""
    return snapshots.gone(log), await snapshots.newest(log)


def rebuilt(data: Path) -> Mapping[str, str]:
    """The digests of the views made again."""
    settings = settings_of(data)
    build(Plan(settings=settings, parts=parts_of(settings)), data / "again.part").finish(data / "again.db")
    return digest_of(data / "again.db")


def row_of(data: Path, day: int) -> tuple[int, int]:
    """Requests and cost of an organisation's day."""
    name = times.day_of(FIRST_NS + day * times.DAY_NS, "UTC")
    query = """SELECT total_requests, raw_cost_nano FROM client_daily_usage
        WHERE client_org_id = 'org-0' AND usage_date = ?"""
    with closing(sqlite3.connect(data / LIVE)) as connection:
        found: tuple[int, int] = connection.execute(query, (name,)).fetchone()
    return found


def test_with_three_hundred_days_of_facts_gone_the_views_are_the_same_and_amendments_land_right(
    year, trimmed, copy, capsys, monkeypatch
):
    """D: rebuilt from the snapshot they are the live ones; an old day is amended; `prove` says what rests."""
    data = copy(trimmed)
    starts, manifest = on_log(data, state)
    assert manifest is not None
    assert starts == {one.partition: one.offset for one in manifest.vector if one.topic == topics.USAGE}
    assert manifest.facts == sum(starts.values()) + PARTITIONS, "the fact it stands at stays"
    assert digest_of(data / LIVE) == digest_of(year / LIVE)
    before = row_of(data, 10)

    async def amend() -> None:
        async with opened(data) as world:
            first = await world.log.read(topics.USAGE, 0, 0, 1)
            assert first[0].time_ms > (FIRST_NS + (GONE_DAYS - 5) * times.DAY_NS) // times.MS_NS
            await world.told("gen-10-0", 10, organization="org-0", cost="9.5", prompt_tokens=5000)
            await world.follow()

    asyncio.run(amend())
    after = row_of(data, 10)
    assert (after[0], after[1] > before[1]) == (before[0], True)
    monkeypatch.setenv("CLEANUP_RETENTION_DAYS", "60")
    assert run(["prove", "--data", str(data), "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["live_digest"] == found["rebuilt_digest"] != digest_of(year / LIVE)["all"]
    assert found["rests_on"]["digest"] == manifest.digest
    assert f"What {manifest.facts:,} facts from before {text_of(manifest.until_ms)} came to" in told.err
    assert f"digest {manifest.digest}" in told.err
    assert "checked" in told.err
    assert found["records"] < DAYS * A_DAY - manifest.facts + 200


def text_of(ms: int) -> str:
    return times.text_of(ms * times.MS_NS)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_snapshot_with_one_row_changed_is_found_and_nothing_is_deleted(packed, copy, sealed):
    """In a chunk on the log, or before it was sealed: the check says so, and the facts stay."""
    data = copy(packed)
    package = package_of(data)
    manifest = package.manifest
    table, n = "client_daily_usage", 1
    key = snapshots.chunk_key(1, table, n)
    with closing(sqlite3.connect(package.path)) as connection, connection:
        [(value,)] = connection.execute("SELECT value FROM chunks WHERE key = ?", (key,))
        chunk = chunks.decode(value)
        chunk.rows[3][chunk.columns.index("raw_cost_nano")] += 1
        changed = chunks.encode(chunk.columns, chunk.rows)
        assert connection.execute("UPDATE chunks SET value = ? WHERE key = ?", (changed, key)).rowcount == 1
        if sealed:
            hashed = chunks.digest_of(
                row[0]
                for row in connection.execute(
                    "SELECT value FROM chunks WHERE CAST(key AS TEXT) LIKE ? ORDER BY n", (f"1/{table}/%",)
                )
            )
            tables = {**manifest.tables, table: replace(manifest.tables[table], digest=hashed)}
            manifest = replace(manifest, tables=tables)
    package.note(manifest)
    on_log(data, publish.go_on)
    reason = check(settings_of(data), package_of(data), data / LIVE)
    expected = "does not have its digest" if sealed else "the rows of client_daily_usage are not those"
    assert expected in reason
    assert waiting(data) is None
    assert on_log(data, publish.go_on) == ""
    assert on_log(data, state) == ({}, None)


def test_live_views_that_are_not_what_the_log_says_keep_every_fact(packed, copy):
    """The snapshot is not put in force beside views that differ from it: somebody has to look first."""
    data = copy(packed)
    on_log(data, publish.go_on)
    with closing(sqlite3.connect(data / LIVE)) as connection, connection:
        connection.execute(
            "UPDATE client_daily_usage SET total_requests = total_requests + 1 WHERE id ="
            " (SELECT max(id) FROM client_daily_usage)"
        )
    assert "differences. See `genledger prove`" in check(settings_of(data), package_of(data), data / LIVE)
    assert on_log(data, state) == ({}, None)


@pytest.mark.parametrize(
    ("point", "step"),
    [("snapshot-published", READY), ("snapshot-checked", CHECKED), ("snapshot-told", CHECKED)],
)
def test_killed_at_any_step_all_facts_are_there_and_the_next_goes_on(
    packed, copy, kill_at, monkeypatch, small_pieces, point, step
):
    """Half of the rows published, none or all of it told: the old state stands, and the end is the same."""
    data = copy(packed)
    if step == CHECKED:
        as_checked(data)
    monkeypatch.setattr(publish, "CHUNKS_AT_ONCE", 1)
    kill_at(point, 2 if step == READY else 1)
    with pytest.raises(Killed):
        on_log(data, publish.go_on)
    monkeypatch.setattr(faultpoints, "reached", lambda _: None)
    assert package_of(data).path.name == step
    starts, manifest = on_log(data, state)
    assert starts == {}
    assert (manifest is None) == (point != "snapshot-told")
    finish(data)
    starts, manifest = on_log(data, state)
    assert manifest is not None
    assert len(starts) == PARTITIONS


def test_killed_in_the_middle_of_the_deleting_what_is_left_comes_to_the_same_views(
    year, packed, copy, kill_at, monkeypatch, small_pieces
):
    """Some of a partition has gone: a rebuild begins at the snapshot, and the rest goes later."""
    data = copy(packed)
    as_checked(data)
    kill_at("trimming", 3)
    with pytest.raises(Killed):
        on_log(data, publish.go_on)
    monkeypatch.setattr(faultpoints, "reached", lambda _: None)
    starts, manifest = on_log(data, state)
    assert manifest is not None
    assert starts == {0: 150}
    assert rebuilt(data) == digest_of(year / LIVE)
    finish(data)
    starts, _ = on_log(data, state)
    assert starts == {one.partition: one.offset for one in manifest.vector if one.topic == topics.USAGE}


def as_checked(data: Path) -> None:
    """Published, and taken for checked: what the check is worth is another test's matter."""
    on_log(data, publish.go_on)
    package = package_of(data)
    package.note(replace(package.manifest, checked_ms=1))
    package.step(CHECKED)


def finish(data: Path) -> None:
    """Every step that is left."""
    while (found := waiting(data)) is not None:
        if found.path.name == PUBLISHED:
            found.note(replace(found.manifest, checked_ms=1))
            found.step(CHECKED)
        else:
            on_log(data, publish.go_on)


def test_a_second_snapshot_is_made_of_the_first_and_takes_its_place(trimmed, copy):
    """More facts go; the first one's rows are ended; an id that was forgotten meanwhile is in it no more."""
    data = copy(trimmed)

    async def more() -> None:
        async with opened(data) as world:
            await world.forget("gen-20-1", 20)
            await world.days(DAYS, DAYS + 40)
            await world.follow()

    asyncio.run(more())
    before = on_log(data, state)[0]
    settings = settings_of(data)
    outlook = look(settings, 30, data / LIVE)
    assert outlook.former is not None
    assert make(settings, outlook, data / LIVE) is not None
    finish(data)
    starts, manifest = on_log(data, state)
    assert manifest is not None
    assert manifest.number == 2
    assert all(starts[n] > before[n] for n in range(PARTITIONS))

    async def kept(log: SqliteLog, _data: Path) -> dict[bytes, Record]:
        await log.compact(topics.SNAPSHOTS)
        records: list[Record] = []
        while found := await log.read(topics.SNAPSHOTS, 0, records[-1].offset + 1 if records else 0, 100):
            records += found
        return {record.key or b"": record for record in records if record.value is not None}

    found = on_log(data, kept)
    assert set(found) == {snapshots.MANIFEST, *manifest.keys()}
    ids = {
        row[0]
        for n in range(manifest.tables["processed_generations"].chunks)
        for row in chunks.decode(found[snapshots.chunk_key(2, "processed_generations", n)].value or b"").rows
    }
    assert "gen-20-1" not in ids
    assert "gen-20-2" in ids
    assert rebuilt(data) == digest_of(data / LIVE)


def test_live_views_that_are_lost_after_it_come_back(year, trimmed, copy):
    """Nobody has to do anything: they begin with the snapshot's rows, and follow from there."""
    data = copy(trimmed)
    for path in data.glob(LIVE + "*"):
        path.unlink()

    async def again() -> None:
        async with opened(data) as world:
            await world.follow()

    asyncio.run(again())
    assert digest_of(data / LIVE) == digest_of(year / LIVE)
    assert not list(data.glob("snapshot-*"))


def test_facts_that_are_in_no_snapshot_are_missed_with_a_message(year, trimmed, copy):
    """Without a manifest, and beyond one: whoever begins there stops, and says what to do."""
    data = copy(year)

    async def cut(log: SqliteLog, _data: Path) -> None:
        assert await log.trim(topics.USAGE, 1, 100) == 100
        await snapshots.beginning(log)

    with pytest.raises(LogMismatch, match="usage/1 begins at 100, and there is no snapshot"):
        on_log(data, cut)
    shutil.rmtree(data)
    data = copy(trimmed)

    async def beyond(log: SqliteLog, _data: Path) -> None:
        await log.trim(topics.USAGE, 2, log.start_offset(topics.USAGE, 2) + 1)
        await snapshots.beginning(log)

    with pytest.raises(LogMismatch, match="snapshot 1 reaches to"):
        on_log(data, beyond)


def test_a_snapshot_that_lost_rows_is_damaged_to_whoever_begins_from_it(trimmed, copy):
    """A chunk that is not there any more stops a rebuild, rather than leave rows out."""
    data = copy(trimmed)

    async def lose(log: SqliteLog, _data: Path) -> None:
        await log.append([snapshots.ended_message(snapshots.chunk_key(1, "usage_points", 0))])
        await log.compact(topics.SNAPSHOTS)

    on_log(data, lose)
    with pytest.raises(LogDamaged, match="1/usage_points/0 is missing"):
        rebuilt(data)


def test_who_begins_anew_after_it_is_told_from_when_on_there_is_something(trimmed, tmp_path, capsys):
    """An export says from when it has facts; a bucket without points begins behind the snapshot."""
    out = tmp_path / "facts.ndjson"
    assert run(["export", "facts", str(out), "--data", str(trimmed)]) == 0
    header = json.loads(out.read_text().partition("\n")[0])
    starts, manifest = on_log(trimmed, state)
    assert manifest is not None
    assert header["facts_from"] < text_of(manifest.until_ms)
    assert [one["start"] for one in header["partitions"]] == list(starts.values())
    assert "There are facts from" in capsys.readouterr().err

    async def begins(log: SqliteLog, _data: Path) -> list[int]:
        async def read() -> Mapping[int, Any]:
            return {}

        bookmarks: Any = SimpleNamespace(read=read)
        target: Any = SimpleNamespace(dedup="time")
        nobody: Any = None
        sender = Sender(log, target, nobody, bookmarks, nobody, nobody)
        await sender.prepare(range(PARTITIONS))
        return [sender.next_offset(n) for n in range(PARTITIONS)]

    assert on_log(trimmed, begins) == [start + 1 for start in starts.values()]


def test_facts_whose_points_influxdb_may_lack_stay(year, monkeypatch):
    """It reaches no further than the points surely had come a minute ago; nowhere while nobody knows."""
    settings = settings_of(year)
    behind = Position(50, 50, "x", 51)

    class Server:
        def __init__(self, _target: Any) -> None:
            pass

        async def close(self) -> None:
            pass

    async def read_positions(_server: Any, _prefix: str) -> Mapping[int, Kept]:
        return {0: Kept(replace(behind, usage_offset=60), behind, "log")}

    monkeypatch.setattr(making, "target_of", lambda _: object())
    monkeypatch.setattr(making, "Server", Server)
    monkeypatch.setattr(making, "read_positions", read_positions)
    outlook = look(settings, KEPT_DAYS, year / LIVE)
    assert outlook.ends == {0: 50, 1: 0, 2: 0, 3: 0}
    assert {n: outlook.reach[topics.USAGE, n] for n in range(PARTITIONS)} == {0: 50, 1: -1, 2: -1, 3: -1}


@pytest.fixture
def retention_of_sixty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CLEANUP_RETENTION_DAYS", "60")
    yield


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "this is off. To have them go each night, set GENLEDGER_USAGE_KEPT_DAYS to 90 or more"),
        (["--days", "89"], 2, "--days must be at least 90"),
        (["--days", "90", "--at-least", "-1"], 2, "--at-least must be 0 or more"),
        (["--days", "100", "--dry-run"], 0, "would delete about"),
        (["--days", "390", "--at-least", "700"], 0, "all facts are there"),
        (["--days", "4000", "--dry-run"], 0, "nothing to delete"),
    ],
)
def test_the_command_says_what_it_would_do_and_what_it_won_t(
    year, capsys, retention_of_sixty, words, code, said
):
    """Off unless somebody says how many days; never fewer than ids are remembered, and thirty more."""
    assert run(["trim", "--data", str(year), *words]) == code
    assert said in capsys.readouterr().err
    assert on_log(year, state) == ({}, None)


def test_the_nightly_one_is_an_hour_after_the_retention_job():
    """Also across midnight."""
    assert (hour_after("00:05"), hour_after("23:30")) == ("01:05", "00:30")
    assert hour_after("") == "", "left to whoever runs the command"


def snapped(data: Path, days: int = KEPT_DAYS, **overrides: Any) -> None:
    """A whole trim, step by step."""
    settings = settings_of(data, **overrides)
    assert make(settings, look(settings, days, data / LIVE), data / LIVE) is not None
    on_log(data, publish.go_on)
    assert check(settings, package_of(data), data / LIVE) == ""
    on_log(data, publish.go_on)


def followed(data: Path) -> None:
    async def done() -> None:
        async with opened(data) as world:
            await world.follow()

    asyncio.run(done())


def test_a_log_put_back_from_before_keeps_its_facts_from_a_snapshot_that_waits(year, packed, copy):
    """The rows that the waiting one was checked by are on another log: no fact of this one goes."""
    data = copy(packed)
    as_checked(data)
    shutil.rmtree(data / "log")
    shutil.copytree(year / "log", data / "log")
    on_log(data, write_waiting)
    assert waiting(data) is None
    assert "is missing" in refusal(data)
    assert on_log(data, state) == ({}, None)


def test_a_broken_package_is_thrown_away_and_stops_nobody(packed, copy):
    """What can't be read is not retried for ever, and the service goes on."""
    data = copy(packed)
    with closing(sqlite3.connect(package_of(data).path)) as connection, connection:
        connection.execute("UPDATE manifest SET value = ?", (b'{"schema": 1}',))
    on_log(data, write_waiting)
    assert waiting(data) is None
    assert "number" in refusal(data)


def test_a_view_switched_off_at_a_snapshot_and_on_again_begins_there(year, copy):
    """Facts that it never took have gone: it knows nothing from before, and the service is not stopped."""
    data = copy(year)

    async def on() -> None:
        async with opened(data) as world:
            await world.days(DAYS, DAYS + 5)
            await world.follow()

    async def off(days: int) -> None:
        async with opened(data) as world:
            world.settings = settings_of(data, processed_generations=False)
            await world.days(DAYS + days, DAYS + days + 10)
            await world.follow()

    asyncio.run(on())
    asyncio.run(off(10))
    snapped(data, days=1, processed_generations=False)
    followed(data)
    assert rebuilt(data) == digest_of(data / LIVE)


def test_every_fact_old_enough_the_last_of_each_partition_stays(year, copy):
    """The next of each partition is told from it, and the books go on."""
    data = copy(year)
    snapped(data, days=-2)

    async def ends(log: SqliteLog, _data: Path) -> list[int]:
        return [log.end_offset(topics.USAGE, n) - log.start_offset(topics.USAGE, n) for n in range(4)]

    assert on_log(data, ends) == [1] * PARTITIONS

    async def more() -> None:
        async with opened(data) as world:
            await world.days(DAYS, DAYS + 3)
            await world.told("gen-10-0", 10, organization="org-0", cost="9.5", prompt_tokens=5000)
            await world.follow()

    asyncio.run(more())
    assert rebuilt(data) == digest_of(data / LIVE)
    for path in data.glob(LIVE + "*"):
        path.rename(data / f"old-{path.name}")
    followed(data)
    assert digest_of(data / LIVE) == digest_of(data / f"old-{LIVE}")


def test_few_ids_leave_partitions_empty_or_with_one_fact(tmp_path):
    """Nothing old in one, a single fact in another: what is made of the snapshot comes to the same rows."""
    data = tmp_path / "few"
    data.mkdir()

    async def some(days: range) -> None:
        async with opened(data) as world:
            for day in days:
                world.at(day)
                await world.told(f"gen-{day}", day, organization="org", cost="0.5")
            world.at(DAYS)
            await world.told("gen-3", 3, organization="org", cost="0.7")
            await world.follow()

    asyncio.run(some(range(4)))
    snapped(data)
    starts, manifest = on_log(data, state)
    assert manifest is not None
    assert len(starts) < len([one for one in manifest.vector if one.topic == topics.USAGE]) < PARTITIONS
    assert rebuilt(data) == digest_of(data / LIVE)
    asyncio.run(some(range(DAYS, DAYS + 6)))
    for path in data.glob(LIVE + "*"):
        path.rename(data / f"old-{path.name}")
    followed(data)
    assert rebuilt(data) == digest_of(data / LIVE) == digest_of(data / f"old-{LIVE}")


def test_a_backup_of_it_comes_back_whole(trimmed, tmp_path):
    """Facts and snapshot are in one file of the log: the views go on, and are proven."""
    data, file = tmp_path / "fresh", str(tmp_path / "backup.tar.gz")
    assert run(["backup", file, "--data", str(trimmed)]) == 0
    assert run(["restore", file, "--data", str(data)]) == 0
    followed(data)
    assert on_log(data, state)[0] == on_log(trimmed, state)[0]
    assert rebuilt(data) == digest_of(data / LIVE) == digest_of(trimmed / LIVE)


def test_a_rebuild_whose_facts_go_while_it_reads_says_so_and_begins_again(year, packed, copy, monkeypatch):
    """It is told that nothing is missing; and the next one begins with the snapshot."""
    data = copy(packed)
    brought = building.bring

    def late(*args: Any) -> None:
        monkeypatch.setattr(building, "bring", brought)
        as_checked(data)
        finish(data)
        brought(*args)

    monkeypatch.setattr(building, "bring", late)
    with pytest.raises(ViewError, match="went behind a snapshot while they were read: begin again"):
        rebuilt(data)
    assert rebuilt(data) == digest_of(year / LIVE)


def test_what_an_earlier_run_has_rebuilt_beyond_where_the_views_stand_is_no_snapshot(year, copy):
    """A run that was killed, and views that were put back since: it begins again."""
    data = copy(year)
    settings = settings_of(data)
    outlook = look(settings, KEPT_DAYS, data / LIVE)
    plan = Plan(settings=settings, parts=parts_of(settings), until_ms=outlook.until_ms - 1)
    build(plan, data / making.ASIDE).close()
    less = replace(outlook, reach={place: min(reach, 20) for place, reach in outlook.reach.items()})
    with pytest.raises(ViewError, match="begin again"):
        make(settings, less, data / LIVE)
    assert make(settings, less, data / LIVE) is not None
    assert {one.offset for one in package_of(data).manifest.vector} == {20}


@pytest.mark.soak
def test_beside_a_running_service_facts_go_and_it_starts_again_without_its_views(year, copy):
    """The command makes and checks, the service writes; traffic goes on, and lost views are no loss."""
    data = copy(year)
    words = ("trim", "--data", data, "--days", KEPT_DAYS, "--json")
    with running(data, CLEANUP_ENABLED="false") as service:
        done = genledger(*words, CLEANUP_RETENTION_DAYS="60")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["snapshot"] == 1
        assert digest_of(data / LIVE) == digest_of(year / LIVE)
        again = {"id": "gen-10-1", "organization": "org-1", "model": "m-1", "cost": "3", "total_tokens": 9999}
        assert service.send([json.dumps(again).encode()]) == []
        settle(service)
        assert service.stop() == 0, service.tail()
    assert not list(data.glob("snapshot-*"))
    before = digest_of(data / LIVE)
    for path in data.glob(LIVE + "*"):
        path.unlink()
    with running(data, CLEANUP_ENABLED="false") as service:
        settle(service)
        assert service.stop() == 0, service.tail()
    assert digest_of(data / LIVE) == before


@pytest.mark.soak
def test_the_command_killed_in_the_deleting_goes_on_when_it_is_run_again(year, copy):
    """By kill -9, not an error: the file that waits says which step is next, and nothing is done twice."""
    data = copy(year)
    words = ("trim", "--data", data, "--days", KEPT_DAYS)
    killed = genledger(*words, kill_at="trimming:2", CLEANUP_RETENTION_DAYS="60")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    starts, _ = on_log(data, state)
    assert 0 < len(starts) < PARTITIONS
    done = genledger(*words, CLEANUP_RETENTION_DAYS="60")
    assert done.returncode == 0, done.stderr
    assert len(on_log(data, state)[0]) == PARTITIONS
    assert genledger("prove", "--data", data).returncode == 0
