"""D of Points: whatever is planted in InfluxDB, SQLite or the log is found and named, and --fix restores."""

import asyncio
import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from projections.points import Point, stamp_ns
from projections.reconciling import daybook
from projections.reconciling.desk import Scope
from projections.reconciling.mend import Mended
from projections.reconciling.report import Report
from projections.stores.influxdb.line import line_of, void_line_of
from projections.stores.influxdb.positions import Kept, position_line
from projections.view import START
from streams import fact as facts
from streams import records, topics
from streams.clock import now_ms
from streams.errors import ViewError
from streams.fact import Entry, Fact
from streams.log.interface import Message
from streams.log.partition import partition_of
from streams.log.sqlite.log import open_log
from tests.reconcile.world import COLLIDING, DAYS, World
from tests.road.harness import Service, running, wait_until

NANO = 10**9


def ids(report: Report) -> dict[tuple[str, str], set[str]]:
    """Which ids each cause names, of each store."""
    found: dict[tuple[str, str], set[str]] = {}
    for cell in report.cells:
        for share in cell.causes:
            found.setdefault((share.cause, share.store), set()).update(share.ids)
    return found


def assert_adds_up(report: Report) -> None:
    """What the causes of a cell are off adds up to its difference, figure by figure."""
    for cell in report.cells:
        if cell.log is None:
            continue
        for name, side in (("sqlite", cell.sqlite), ("influxdb", cell.influxdb)):
            if side is None:
                continue
            for figure in ("requests", "prompt_tokens", "total_tokens", "unpriced"):
                parts = sum(share.off[figure] for share in cell.causes if share.store == name)
                assert side[figure] - cell.log[figure] == parts, (cell, name, figure)
            for figure in ("cost", "markup"):
                parts = sum(nano(share.off[figure]) for share in cell.causes if share.store == name)
                assert nano(side[figure]) - nano(cell.log[figure]) == parts, (cell, name, figure)


def nano(text: str) -> int:
    """Exactly, and below zero too."""
    whole, _, fraction = text.lstrip("-").partition(".")
    found = int(whole) * NANO + int(fraction.ljust(9, "0") or 0)
    return -found if text.startswith("-") else found


def test_a_clean_system_has_no_residue(world: World) -> None:
    """Amendments, voids, zones, unknown costs, balances: three sides agree, and the exit code is 0."""
    done = world.command("reconcile", "--from", DAYS[0], "--to", DAYS[-1], "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    found = json.loads(done.stdout)
    assert (found["clean"], found["counts"], found["cells"]) == (True, {}, [])
    assert found["influxdb"] and found["lag_records"] == 0 and found["compared"] > 20
    assert not list(world.data.glob("reconcile.db*"))
    assert "no difference" in done.stderr


def test_what_is_planted_is_named_by_its_cause_and_fix_restores_it(world: World) -> None:
    """A deleted point, an extra one, changed fields and markups, changed rows: each by its id or its row."""
    points = world.points()
    before = world.rows("SELECT * FROM client_model_daily_usage ORDER BY id")
    plant_points(world, points)
    asyncio.run(put_aside(world, "gen-108"))
    world.change(
        "UPDATE client_model_daily_usage SET raw_cost_nano = raw_cost_nano + 5, total_requests = 99"
        " WHERE client_org_id = 'acme' AND usage_date = '2026-11-18' AND model_name = 'm1'",
        "UPDATE client_model_daily_usage SET markup_cost_nano = markup_cost_nano + 5"
        " WHERE client_org_id = 'west' AND usage_date = '2026-11-18' AND model_name = 'm1'",
        "UPDATE client_daily_usage SET unique_users = 77"
        " WHERE client_org_id = 'west' AND usage_date = '2026-11-17'",
    )
    found = world.compared()
    assert ids(found) == {
        ("missing_point", "influxdb"): {"gen-106"},
        ("refused", "influxdb"): {"gen-108"},
        ("extra_point", "influxdb"): {"nobody's", "gen-101"},
        ("changed_point", "influxdb"): {"gen-107", "gen-103"},
        ("wrong_markup", "influxdb"): {"gen-104"},
        ("opening", "influxdb"): {"acme-2026-11-18-model-m0", "acme-2026-11-18-model-m9"},
        ("changed_row", "sqlite"): set(),
        ("wrong_markup", "sqlite"): set(),
    }
    assert found.counts == {
        "changed_point": 2,
        "changed_row": 2,
        "extra_point": 2,
        "missing_point": 1,
        "opening": 2,
        "refused": 1,
        "wrong_markup": 2,
    }
    assert_adds_up(found)
    details = [text for cell in found.cells for share in cell.causes for text in share.details]
    assert any(text.startswith("gen-107: user is somebody, must be u2") for text in details)
    rows = {(finding.row.table, tuple(finding.row.columns)) for finding in found.findings}
    assert ("client_daily_usage", ("unique_users",)) in rows
    assert all("gen-" in " ".join(finding.blamed.ids) for finding in found.findings)
    fixed, mended = world.fixed()
    assert fixed.clean and fixed.cells == [], fixed
    assert (mended.written, mended.removed, mended.refused) == (7, 2, 0)
    assert world.points() == points
    assert world.rows("SELECT * FROM client_model_daily_usage ORDER BY id") == before


def plant_points(world: World, points: dict[str, Point]) -> None:
    """One of each kind."""
    change = msgspec.structs.replace
    world.remove(points["gen-106"], points["gen-108"])
    moved = change(points["gen-101"], model="another")  # an amendment whose old place was never left
    changed = change(points["gen-107"], user="somebody", prompt_tokens=1)
    marked = change(points["gen-104"], markup_nano=(points["gen-104"].markup_nano or 0) + 1)
    nobody = change(points["gen-105"], request_id="nobody's")
    world.write(*(line_of(point, "time") for point in (moved, changed, marked, nobody)))
    at_ns = stamp_ns(points["gen-103"].time_ns, "gen-103")
    series = line_of(points["gen-103"], "time").partition(b' request_id="')[0]
    world.write(series + b" cost=12345.5 %d" % at_ns)
    world.influxdb.write(
        world.bucket,
        opening_of(world, "m0").replace(b"requests=7i", b"requests=8i")
        + b"\n"
        + opening_of(world, "m9").replace(b"cost_nano=5i", b"cost_nano=6i"),
    )


async def put_aside(world: World, id: str) -> None:
    """As the sender does with a point that InfluxDB did not take."""
    log = await open_log(f"sqlite:///{world.data}/log", topics.topic_table(4))
    try:
        headers = (("reason", records.REFUSED_POINT), ("error", b"it said no"))
        await log.append([Message(topics.REJECTED, partition_of(id.encode(), 4), id.encode(), b"x", headers)])
    finally:
        await log.close()


def opening_of(world: World, row: str) -> bytes:
    """The line of a balance that stands there."""
    from tests.reconcile.world import _lines

    return next(
        line for line in world.asked(_lines) if b"llm_opening" in line and f'row="{row}"'.encode() in line
    )


def test_two_calls_at_one_place_are_named_and_there_is_none_with_the_tag(world: World) -> None:
    """The same tags and nanosecond: InfluxDB has one of them. With the tag both fit."""
    found = world.compared(COLLIDING)
    [cell] = found.cells
    [share] = cell.causes
    assert (share.cause, share.count, len(share.ids)) == ("collision", 1, 1)
    assert share.details[0].count("acme-") == 3 and " and " in share.details[0]
    assert_adds_up(found)
    both = [
        f"acme-{part}" for part in share.details[0].partition(": ")[2].replace("acme-", "").split(" and ")
    ]
    there = world.points()
    [stands] = [there[id] for id in both if id in there]
    world.remove(stands)
    fixed, mended = world.fixed(COLLIDING)
    assert fixed.counts == {"collision": 1} and mended.written == 1, fixed
    fixed, mended = world.fixed(COLLIDING, INFLUXDB_DEDUP="tag")
    assert fixed.clean and mended.written == 1, fixed
    assert both[0] in world.points() and both[1] in world.points()


def test_points_on_their_way_are_lag_and_no_difference(world: World) -> None:
    """What InfluxDB has not come to is told as lag, with its figures, and the exit code is 0."""
    points = world.points()
    late = [point for point in points.values() if point.day == DAYS[1]][-3:]
    world.set_back(1_000_000)
    world.remove(*late)
    # A void of an id on its way may count again by now: it is left to the sender.
    world.write(void_line_of(msgspec.structs.replace(late[0], request_id="gen-31"), "time"))
    found, mended = world.fixed()
    assert (mended, found.voids) == (Mended(0, 0, 0, 0), 1)
    assert found.clean and found.lag_records > 100
    assert found.counts == {"lag": 3}
    assert ids(found) == {("lag", "influxdb"): {point.request_id for point in late}}
    assert_adds_up(found)


def test_anothers_points_in_the_bucket_are_left_alone(world: World) -> None:
    """Points don't say whose they are: where another one writes, nothing is compared or fixed."""
    points, day = world.points(), world.data / "day.db"
    world.write(position_line(7, "b-", Kept(START, START, ""), now_ms()))
    with pytest.raises(ViewError, match=r"other installations write to this bucket, too .* b-"):
        world.fixed()
    with pytest.raises(ViewError, match="other installations"):
        asyncio.run(daybook.from_influx(world.settings(), world.target, Scope(DAYS), day))
    assert world.compared(organization="acme").clean
    world.write(position_line(7, "", Kept(START, START, "another"), now_ms()))
    with pytest.raises(ViewError, match="another ledger's points"):
        world.fixed(organization="acme")
    assert world.points() == points and not day.exists()


def traffic(service: Service, ending: threading.Event, sent: list[int]) -> None:
    """New calls, amendments of the last ones, voids: until it is to end."""
    n = 0
    while not ending.wait(0.02):
        events: list[dict[str, Any]] = []
        for m in range(n, n + 40):
            event = {"id": f"more-{m}", "organization": "acme", "model": f"m{m % 4}", "cost": "0.1"}
            event["created_at"] = f"2026-11-19T{m % 24:02d}:00:00Z"
            events += [event, {**event, "cost": "0.2", "model": "m-other"}]
            events += [{**event, "void": True, "authority": "corrected"}] if m % 3 == 0 else []
        assert service.send([json.dumps(event).encode() for event in events]) == []
        n += 40
        sent[0] += len(events)


@pytest.mark.soak
def test_traffic_that_goes_on_is_no_difference(world: World) -> None:
    """Amendments that move calls, voids that remove them, while it is compared: at most lag."""
    sent, ending = [0], threading.Event()
    with running(world.data, **world.environ) as service:
        sender = threading.Thread(target=traffic, args=(service, ending, sent))
        sender.start()
        try:
            wait_until(lambda: sent[0] > 100, 20, "sending", service)
            begun = sent[0]
            found = world.compared()
            assert sent[0] > begun, "no traffic went on"
        finally:
            ending.set()
            sender.join()
        assert found.clean, found.counts


def test_in_legacy_mode_sqlite_is_compared_with_the_log_only(world: World) -> None:
    """It says so; a changed row is found, and nobody asks InfluxDB."""
    world.change(
        "UPDATE client_user_daily_usage SET total_tokens = total_tokens + 1 WHERE id ="
        " (SELECT id FROM client_user_daily_usage WHERE usage_date = '2026-11-18' LIMIT 1)"
    )
    legacy = {"INFLUXDB_FIRST_ENABLED": "false", "INFLUXDB_URL": "http://127.0.0.1:9"}
    done = world.command("reconcile", "--from", DAYS[0], "--to", DAYS[-1], **legacy)
    assert done.returncode == 3, (done.stdout, done.stderr)
    assert "legacy mode" in done.stderr and "client_user_daily_usage" in done.stdout


def test_what_the_log_itself_marked_up_wrongly_is_named(world: World) -> None:
    """Neither at its own rate nor at the one in force."""
    day = planted_in_the_log(world)
    assert world.command("replay", "--projection", "summaries").returncode == 0
    found = world.compared(day)
    [share] = [share for cell in found.cells for share in cell.causes if share.store == "log"]
    assert share.ids == ["by-itself", "by-the-settings"]
    assert "0.000000131" in share.details[0] and "in force then" in share.details[1]


def planted_in_the_log(world: World) -> str:
    """Two facts of today with a wrong markup."""
    day, created_ms = time.strftime("%Y-%m-%d", time.gmtime()), now_ms()
    entry = Entry("acme", day, day, "m", created_ns=created_ms * 10**6, cost_nano=100)
    own = facts_of(entry, 131, "1.3")
    other = facts_of(entry, 120, "1.2")
    asyncio.run(told(world, {"by-itself": own, "by-the-settings": other}))
    return day


@pytest.mark.soak
def test_the_night_finds_it_and_tells(world: World) -> None:
    """The status, an alarm and the metrics have what the nightly comparison found."""
    planted_in_the_log(world)
    old = {"time_ms": 1, "holds": True, "differences": 0, "seconds": 1.0}
    last = {**old, "days": [], "counts": {}, "compared": 0, "influxdb": True}
    (world.data / "reconcile-last.json").write_text(json.dumps(last))
    at = time.strftime("%H:%M", time.gmtime(time.time() - 120))
    with running(world.data, without=["ledger"], GENLEDGER_RECONCILE_AT=at, **world.environ) as service:
        wait_until(lambda: not service.get("/api/v1/status")["reconciliation"]["holds"], 40, "run", service)
        status = service.get("/api/v1/status")
        assert status["reconciliation"]["counts"]["wrong_markup"] == 2
        wait_until(lambda: "the comparison" in service.get("/api/v1/status")["alarms"], 5, "alarmed", service)
        assert "genledger_reconcile_differences 2.0" in service.request("GET", "/metrics")[1]


def facts_of(entry: Entry, markup_nano: int, rate: str) -> Entry:
    """The entry at a rate."""
    return Entry(
        *("acme", entry.day, entry.today, entry.model), created_ns=entry.created_ns,
        cost_nano=entry.cost_nano, markup_nano=markup_nano, rate=rate,
    )  # fmt: skip


async def told(world: World, entries: dict[str, Entry]) -> None:
    """Put facts on the log that its ledger never decided."""
    log = await open_log(f"sqlite:///{world.data}/log", topics.topic_table(4))
    try:
        for id, entry in entries.items():
            await _told(log, id.encode(), entry)
    finally:
        await log.close()


async def _told(log: Any, id: bytes, entry: Entry) -> None:
    partition = partition_of(id, 4)
    [newest] = await log.read(topics.USAGE, partition, log.end_offset(topics.USAGE, partition) - 1, 1)
    before = facts.decode(newest.value)
    [offset] = await log.append([Message(topics.GENERATIONS, partition, id, b"{}")])
    fact = Fact(
        fate="counted", id=id.decode(), partition=partition, offset=offset, prev=before.offset,
        number=before.number + 1, time_ms=now_ms(), plus=entry,
    )  # fmt: skip
    writer = await log.writer(topics.LEDGER_GROUP, topics.GENERATIONS, partition)
    message = Message(topics.USAGE, partition, id, facts.encode(fact), facts.SCHEMA_HEADERS)
    await writer.commit([message], offset + 1)


_DAYS = """SELECT client_org_id, usage_date, total_requests, total_tokens, raw_cost_nano, markup_cost_nano,
    unpriced_requests, primary_model, unique_users FROM client_daily_usage WHERE total_requests <> 0"""


def rows(path: Path, query: str) -> list[Any]:
    """What stands in a file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_the_summaries_from_influxdb_alone_equal_those_from_the_log(world: World) -> None:
    """Every zone's days, amendments, voids and balances with them: the same digest, and the live rows."""
    influx, log = world.data / "influx.db", world.data / "log.db"
    scope = Scope(DAYS)
    settings = world.settings()
    from_influx = asyncio.run(daybook.from_influx(settings, world.target, scope, influx))
    assert from_influx == daybook.from_log(settings, scope, log)
    live = world.rows(f"{_DAYS} AND usage_date BETWEEN '{DAYS[0]}' AND '{DAYS[-1]}' ORDER BY 1, 2")
    assert rows(influx, f"{_DAYS} ORDER BY 1, 2") == live and len(live) > 9


def test_another_figure_in_one_point_is_another_digest(world: World) -> None:
    """One day, one organisation, by the command; a nano-dollar more in InfluxDB, and they are not equal."""
    path = world.data / "west.db"
    arguments = ("reconcile", "--day", "2026-11-18", "--org", "west", "--into", path, "--rebuild-from")
    done = world.command(*arguments, "influx")
    assert done.returncode == 0, done.stderr
    assert {(row[0], row[1]) for row in rows(path, _DAYS)} == {("west", "2026-11-18")}
    assert world.command(*arguments, "influx").returncode == 2  # it is there already
    path.unlink()
    point = next(p for p in world.points().values() if (p.organization, p.day) == ("west", "2026-11-18"))
    world.write(changed(point))
    scope = Scope(("2026-11-18",), "west")
    other = asyncio.run(daybook.from_influx(world.settings(), world.target, scope, path))
    assert other != done.stdout.strip()


def changed(point: Point) -> bytes:
    """A point with a nano-dollar more."""
    return line_of(msgspec.structs.replace(point, markup_nano=(point.markup_nano or 0) + 1), "time")
