"""The retention job's leader: when a run begins, when it does not, and what becomes of an interrupted one."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from genledger import main
from genledger.commands.status import cleaned_of
from genledger.roles.cleanup import LONG_MS, Cleanup, NotNow, course_of, new_run
from genledger.roles.gateway import status_of
from genledger.roles.undecided import Outage, decided_to, oldest_waiting_ms
from genledger.watch import Watch
from streams import records, retention, settings, topics
from streams.clock import now_ms
from streams.errors import LogUnavailable
from streams.known import Horizon
from streams.log.interface import Message, Record
from streams.retention import Stand
from streams.sweeper import Count
from tests.ledger.sim import event
from tests.ledger.test_ledger_log import PARTITIONS
from tests.retention.test_sweeper import DAY_NS, TODAY_NS, House, house, names
from tests.road.harness import Service, running, wait_until

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
NOON, NIGHT = 12 * HOUR_MS, 300_000


class Leader:
    """A leader over a house's ledger, on a clock that a test sets: `at` is the time of the house's day."""

    def __init__(self, it: House, log: Any = None, **given: Any) -> None:
        self.it = it
        self.cleanup = Cleanup(
            settings.load({}, None, **given), log or it.road.log, self, lambda: it.clock() - NOON + self.at
        )
        self.at = NOON
        self.away = ""

    async def stands(self) -> Sequence[Stand]:
        if self.away:
            raise LogUnavailable(self.away)
        return self.it.sweeper.stands()

    async def count(self, cutoff_ns: int) -> Mapping[str, Count]:
        return await self.it.sweeper.count(cutoff_ns)

    async def look(self, day: int, at: int) -> None:
        """As the leader does, at a time of a day, when it is to ask again; then all is decided."""
        self.it.clock.day, self.at = day, at
        self.cleanup._ask_at_s = 0.0
        await self.cleanup.look()
        await self.it.road.quiet()

    def runs(self) -> set[str]:
        return {stand.run for stand in self.it.sweeper.stands()} - {""}


@asynccontextmanager
async def led(data: Path, **given: Any) -> AsyncIterator[Leader]:
    """A house with an id of its first noon, and its leader."""
    async with house(data) as it:
        await it.post("gen-1", ago=0)
        yield Leader(it, **given)


def stand(partition: int, run: str, phase: Any, started_ms: int = 5, **more: Any) -> Stand:
    return Stand(partition, run, phase, started_ms=started_ms, **more)


def test_the_newest_run_of_all_partitions_is_the_one() -> None:
    """One that is still swept anywhere is running; one partition's failure is the run's."""
    assert course_of([Stand(0), Stand(1)]) is None
    ended = course_of([stand(0, "b", "ended", 9, published=3), stand(1, "b", "ended", 8, published=4)])
    assert ended and (ended.run.run, ended.state, ended.started_ms, ended.published) == ("b", "ended", 8, 7)
    swept = course_of([stand(0, "b", "ended"), stand(1, "b", "started"), stand(2, "b", "failed")])
    assert swept and (swept.state, swept.going, swept.absent) == ("running", (1,), ())
    failed = course_of([stand(0, "b", "ended"), stand(1, "b", "failed")])
    assert failed and failed.state == "failed"


def test_a_run_that_some_partitions_lack_has_not_begun_everywhere() -> None:
    """The partitions of the run before are named, and the beginning is what it was."""
    day_ns = 10 * DAY_NS
    found = course_of(
        [
            stand(0, "b", "ended", 9, cutoff_ns=day_ns, horizon_ns=12 * day_ns, days=9),
            stand(1, "a", "ended", 4),
            Stand(2),
        ]
    )
    assert found and (found.state, found.absent) == ("running", (1, 2))
    assert found.run == retention.plan(19 * DAY_NS // 10**6, 9, 3, "b")


def test_a_runs_name_is_one_that_the_log_takes() -> None:
    """It says when it began; two of one second differ."""
    names = {new_run(1_795_219_500_000) for _ in range(20)}
    assert len(names) > 1
    for name in names:
        assert re.fullmatch(r"cleanup-20261121T000500-[0-9a-f]{4}", name)
        horizon = Horizon(name, 1, 1, "started", 90, 1)
        message = records.horizon_message(horizon, 0)
        record = Record(message.topic, 0, 0, 0, message.key, None, message.headers)
        assert records.horizon_of(record) == horizon


TOLD = {"enabled": True, "days": 90, "next": "2026-11-23T00:05:00Z", "run": None, "state": None}
TOLD |= {"started_at": None, "forgotten": None, "horizon_date": None}
RAN = {"run": "r", "horizon_date": "2026-08-26"}


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({}, "ids are kept for 90 days; no run yet, next 2026-11-23T00:05:00Z"),
        (
            RAN | {"state": "ended", "forgotten": 3, "next": None},
            "ids are kept for 90 days; r ended, 3 ids forgotten, horizon 2026-08-26",
        ),
        (
            RAN | {"state": "failed", "enabled": False, "next": None},
            "OFF, nothing is forgotten (CLEANUP_ENABLED); r FAILED, horizon 2026-08-26",
        ),
    ],
)
def test_the_status_tells_of_the_clean_up_in_a_line(told: dict[str, Any], line: str) -> None:
    """A gateway passes on what the leader says; that nothing is forgotten stands first."""
    none = {"roles": {}, "lag": {}, "alarms": {}, "cleanup": None}
    found = status_of(none, {"jobs": none | {"cleanup": TOLD | told}, "summaries": none})
    assert cleaned_of(found["cleanup"]) == f"clean-up: {line}"


async def test_each_night_has_its_run_and_a_new_installation_none_before_its_first(tmp_path: Path) -> None:
    """Nothing is due on the first day; then one run a night, for the days of the settings."""
    async with led(tmp_path, cleanup_retention_days=30) as leader:
        await leader.look(0, NOON)
        await leader.look(0, DAY_MS - 1)
        await leader.look(1, NIGHT - 1)
        assert leader.runs() == set()
        assert leader.cleanup.told()["next"] == "2026-11-21T00:05:00Z"
        nights = []
        for day in (1, 2):
            await leader.look(day, NIGHT)
            nights.append(leader.runs())
            await leader.it.sweep()
            for at in (NIGHT, NIGHT + 1, NOON):
                await leader.look(day, at)
            assert leader.runs() == nights[-1]
        assert [len(runs) for runs in nights] == [1, 1]
        assert nights[0] != nights[1]
        assert {(one.phase, one.days) for one in leader.it.sweeper.stands()} == {("ended", 30)}


async def test_a_night_that_was_missed_is_made_up_for_at_start(tmp_path: Path) -> None:
    """Whoever leads next begins at once, once, whether there was a run before or not."""
    async with led(tmp_path) as leader:
        await leader.look(5, NOON)
        [first] = leader.runs()
        await leader.it.sweep()
        later = Leader(leader.it)
        await later.look(5, NOON + HOUR_MS)
        assert later.runs() == {first}
        later = Leader(leader.it)
        await later.look(9, NOON)
        assert len(later.runs()) == 1
        assert later.runs() != {first}
        told = later.cleanup.told()
        assert (told["state"], told["started_at"]) == ("running", "2026-11-29T12:00:00Z")


async def test_an_empty_log_has_nothing_to_forget(tmp_path: Path) -> None:
    """No night begins a run, and an administrator is told why he can't."""
    async with house(tmp_path) as it:
        leader = Leader(it)
        await leader.look(3, NOON)
        with pytest.raises(NotNow, match="the log is empty"):
            await leader.cleanup.begin(None, "key_1")
        assert leader.runs() == set()


async def test_a_log_that_is_far_ahead_of_our_clock_raises_no_horizon(tmp_path: Path) -> None:
    """Else all calls of the time between would expire, for good; a day's difference is taken."""
    async with led(tmp_path) as leader:
        leader.at = NOON - 26 * HOUR_MS
        with pytest.raises(NotNow, match="far ahead of this machine's clock"):
            await leader.cleanup.begin(None, "key_1")
        assert leader.runs() == set()
        leader.at = NOON - 24 * HOUR_MS
        await leader.cleanup.begin(None, "key_1")


async def test_switched_off_nothing_moves_and_the_status_says_so(tmp_path: Path) -> None:
    """Neither by night nor by hand; an interrupted beginning stays as it is, too."""
    async with led(tmp_path, cleanup_enabled=False) as leader:
        it = leader.it
        run = retention.plan(it.clock(), 30, PARTITIONS, "run-1")
        await it.road.log.append(retention.start_messages(run)[:1])
        await it.road.quiet()
        facts = len(await it.road.facts())
        await leader.look(7, NOON)
        with pytest.raises(NotNow, match="CLEANUP_ENABLED"):
            await leader.cleanup.begin(None, "key_1")
        assert len(await it.road.facts()) == facts
        told = leader.cleanup.told()
        assert (told["enabled"], told["next"], leader.cleanup.alarm()) == (False, None, "")


async def test_of_two_runs_asked_for_at_once_one_begins(tmp_path: Path) -> None:
    """The other is told whose is under way and since when, by this leader and by the next."""
    async with led(tmp_path) as leader:
        asked = [leader.cleanup.begin(days, f"key_{days}") for days in (60, 50)]
        begun, refused = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(begun, Horizon)
        assert isinstance(refused, NotNow)
        assert str(refused) == (
            f"{begun.run} is under way, begun for key_60 at 2026-11-20T12:00:00Z: wait for its end"
        )
        with pytest.raises(NotNow, match=rf"{begun.run} is under way, begun at 2026-11-20"):
            await Leader(leader.it).cleanup.begin(None, "key_1")
        await leader.it.sweep()
        assert (await Leader(leader.it).cleanup.begin(None, "key_1")).days == 90


async def test_a_dry_run_says_what_would_go_and_changes_nothing(tmp_path: Path) -> None:
    """Neither log nor table; and where the horizon is, and would be."""
    async with led(tmp_path) as leader:
        it = leader.it
        await it.post("old-1", "old-2", ago=40)
        facts, ids = await it.road.facts(), it.ids()
        run, counts, horizon_ns = await leader.cleanup.planned(30)
        assert (counts, horizon_ns) == ({"acme": Count(2, 20, 20_000_000)}, 0)
        assert (await it.road.facts(), it.ids()) == (facts, ids)
        await leader.cleanup.begin(30, "key_1")
        await it.sweep()
        assert it.ids() == {"gen-1"}
        _, counts, horizon_ns = await leader.cleanup.planned(60)
        assert (counts, horizon_ns) == ({}, run.horizon_ns)


class Halving:
    """A log whose next append of more than one message reaches the first half only, and is then away."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.breaks = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, messages: Sequence[Message]) -> Sequence[int]:
        if self.breaks:
            self.breaks = False
            await self._log.append(messages[: len(messages) // 2])
            raise LogUnavailable("away")
        found: Sequence[int] = await self._log.append(messages)
        return found


@pytest.mark.parametrize("who", ["the same leader", "the next one"])
async def test_a_beginning_that_reached_some_partitions_is_completed(tmp_path: Path, who: str) -> None:
    """It is the same run everywhere, with the same cutoff, also where the others have ended already."""
    async with house(tmp_path) as it:
        await it.post("old-1", "old-2", "old-3", "old-4", ago=40)
        leader = Leader(it, Halving(it.road.log), cleanup_retention_days=30)
        with pytest.raises(LogUnavailable):
            await leader.look(1, NIGHT)
        await it.road.quiet()
        await it.sweep()
        [run] = leader.runs()
        assert {one.run for one in it.sweeper.stands()} == {run, ""}
        leader = leader if who == "the same leader" else Leader(it, cleanup_retention_days=30)
        await leader.look(1, NIGHT + 1)
        assert it.phases() == {(run, "ended"), (run, "started")}
        await leader.look(1, NIGHT + 2)
        await it.sweep()
        assert it.phases() == {(run, "ended")}
        assert len({(one.cutoff_ns, one.horizon_ns, one.days) for one in it.sweeper.stands()}) == 1
        assert it.ids() == set()
        assert (await it.sweeps())[run, "started"] == PARTITIONS


async def test_while_a_ledger_or_the_log_is_away_the_night_waits(tmp_path: Path) -> None:
    """An alarm after a while, and the run when they are back."""
    async with led(tmp_path) as leader:
        leader.away = "no ledger worker has partition 2 now"
        watch = Watch(60.0)
        leader.it.clock.day = 3
        async with AsyncExitStack() as stack:
            await leader.cleanup.start(watch, stack)
            await asyncio.sleep(0.1)
            assert not watch.futures["the clean-up"].done()
            assert watch.alarms["the clean-up"]() == ""
            leader.cleanup._troubled_s -= 61
            assert "no ledger worker has partition 2 now" in watch.alarms["the clean-up"]()
            leader.away, leader.cleanup._ask_at_s = "", 0.0
            async with asyncio.timeout(5):
                while not leader.runs() or watch.alarms["the clean-up"]():
                    await asyncio.sleep(0.02)
        await leader.it.road.quiet()
        assert (watch.cleanup(), watch.alarms) == (None, {})


async def test_a_run_that_does_not_end_is_an_alarm_that_names_its_partitions(tmp_path: Path) -> None:
    """After hours; and the next night does not begin another before it has ended."""
    async with led(tmp_path) as leader:
        await leader.look(1, NIGHT)
        [run] = leader.runs()
        for partition in (0, 2, 3):
            await leader.it.sweeper.sweep(partition)
        await leader.it.road.quiet()
        leader.cleanup._ask_at_s = 0.0
        # What the log says of its beginning is its own clock's.
        leader.at = NOON + LONG_MS
        await leader.cleanup.look()
        assert leader.cleanup.alarm() == ""
        leader.at += 1
        assert leader.cleanup.alarm() == f"{run} has not ended for hours in the partitions 1"
        await leader.look(2, NIGHT)
        assert leader.runs() == {run}
        await leader.it.sweep()
        await leader.look(2, NIGHT + 1)
        assert len(leader.runs() - {run}) == 1


class Forgetful:
    """A cluster that has forgotten the ledger's offsets: its group was away for a week."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def committed(self, *_: object) -> None:
        return None


async def test_what_waits_for_the_ledger_is_known_by_its_age(tmp_path: Path) -> None:
    """Nothing waits behind the last fact; what came after it does, and half of the lag is an alarm."""
    async with house(tmp_path) as it:
        await it.post("gen-1", "gen-2", "gen-3", ago=0)
        log = it.road.log
        outage = Outage(log, it.clock)
        await outage.look()
        assert (await oldest_waiting_ms(log), outage.alarm()) == (None, "")
        places = [await decided_to(log, n) for n in range(PARTITIONS)]
        assert places == [log.end_offset(topics.GENERATIONS, n) for n in range(PARTITIONS)]
        assert [await decided_to(Forgetful(log), n) for n in range(PARTITIONS)] == places
        await it.road.app.stop()
        stopped_ms = it.clock()
        await it.road.post(event(id="gen-4"))
        it.clock.day = 1
        await it.road.post(event(id="gen-5"))
        await outage.look()
        assert (await oldest_waiting_ms(log), outage.alarm()) == (stopped_ms, "")
        it.clock.day = 4
        assert "for 96 hours: after 168 compaction may take it away" in outage.alarm()


OLD, NEW = 600, 400
DAILY = "/api/v1/usage/daily?org=acme"
RUNS = "/api/v1/admin/cleanup/runs"


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`genledger`, asked of a service: its exit code, what it printed, what it said."""

    def asked(service: Service, *words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("GENLEDGER_URL", f"http://127.0.0.1:{service.port}")
        code = main.run(words)
        return (code, *capsys.readouterr())

    return asked


def ask(service: Service, path: str, value: object) -> tuple[int, Any]:
    return service.request("POST", path, json.dumps(value).encode(), "application/json")[:2]


async def lived_for_days(data: Path, days: int) -> None:
    """A folder whose log was last written so many days ago, half of it of 40 days before that."""
    async with house(data) as it:
        it.clock.day = (now_ms() * 1_000_000 - TODAY_NS) // DAY_NS - days
        await it.post(*names("old", OLD), ago=40)
        await it.post(*names("new", NEW), ago=0)


def ended(service: Service, run: str) -> bool:
    status, found, _ = service.request("GET", f"{RUNS}/{run}")
    return status == 200 and found["state"] == "ended"


def requests(service: Service) -> int:
    return sum(row["total_requests"] for row in service.get(DAILY)["rows"])


def newest(service: Service) -> str:
    rows = service.get(RUNS)["rows"]
    return str(rows[0]["run"]) if rows else ""


def test_the_service_makes_up_for_a_missed_night_and_goes_on_after_a_kill(
    tmp_path: Path, command: Command
) -> None:
    """It begins by itself; killed in the middle, the next process ends the same run, told of once."""
    data = tmp_path / "data"
    asyncio.run(lived_for_days(data, 3))
    slow = {"CLEANUP_RETENTION_DAYS": "30", "GENLEDGER_CLEANUP_SHARE": "0.005"}
    with running(data, **slow) as service:
        wait_until(lambda: newest(service) != "", 20, "begun", service)
        run = newest(service)
        status, found = ask(service, "/api/v1/admin/cleanup", {})
        assert (status, found["error"]["code"]) == (409, "cleanup_running")
        assert run in found["error"]["message"]
        wait_until(lambda: requests(service) == OLD + NEW, 20, "in the views", service)
        before = service.get(DAILY)["rows"]
        service.kill()
    with running(data, CLEANUP_ENABLED="false") as service:
        stands = service.get("/api/v1/admin/cleanup/stands")
        assert (stands["run"], stands["running"]) == (run, True)
        status, found = ask(service, "/api/v1/admin/cleanup", {})
        assert (status, found["error"]["code"]) == (409, "cleanup_disabled")
        assert "OFF, nothing is forgotten" in command(service, "status")[1]
    with running(data, CLEANUP_RETENTION_DAYS="30") as service:
        wait_until(lambda: ended(service, run), 20, "ended", service)
        [row] = service.get(RUNS)["rows"]
        assert (row["records_before"], row["records_deleted"]) == (OLD + NEW, OLD)
        assert service.get(DAILY)["rows"] == before
        books = service.get("/api/v1/books")
        assert books["balanced"]
        assert sum(one["fates"].get("forgotten", 0) for one in books["partitions"]) >= OLD
        told = service.get("/api/v1/status")["cleanup"]
        assert (told["run"], told["days"], told["enabled"]) == (run, 30, True)


def test_a_run_by_command_waits_and_tells_what_it_did(tmp_path: Path, command: Command) -> None:
    """A dry run first, a refusal of too few days, the seed's figures, and the log of runs."""
    data = tmp_path / "data"
    asyncio.run(lived_for_days(data, 0))
    with running(data, GENLEDGER_CLEANUP_SHARE="1") as service:
        code, out, err = command(service, "cleanup", "--days", "6")
        assert (code, out, err) == (2, "", "genledger: days: must be from 7 to 36500 (422 invalid)\n")
        _, out, _ = command(service, "cleanup", "--days", "20", "--dry-run")
        assert f"{OLD} ids would be forgotten" in out
        assert "The horizon would rise to " in out
        assert command(service, "cleanup", "log")[0] == 0
        assert newest(service) == ""
        code, out, err = command(service, "cleanup", "--days", "20", "--json")
        assert (code, err) == (0, "")
        told = json.loads(out)
        counts = [told[f"records_{name}"] for name in ("before", "deleted", "remaining")]
        assert counts == [OLD + NEW, OLD, NEW]
        assert told["organization_breakdown"]["acme"]["records_deleted"] == OLD
        code, out, _ = command(service, "cleanup", "--days", "20")
        assert code == 0
        assert re.search(r"^records_deleted +0$", out, re.MULTILINE)
        code, out, _ = command(service, "cleanup", "--no-wait")
        assert re.fullmatch(r"cleanup-[0-9T]+-[0-9a-f]{4}\n", out)
        wait_until(lambda: ended(service, out.strip()), 20, "ended", service)
        code, out, _ = command(service, "cleanup", "log", "--last", "2", "--json")
        assert [row["days_retained"] for row in json.loads(out)] == [90, 20]
        key = service.post("/api/v1/keys", {"organization": "acme", "rights": "admin"})
        assert key
        assert service.get_status("/api/v1/admin/cleanup/stands") == 401


def test_without_a_service_nothing_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ledger must run for that; the command says so, and makes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLEDGER_PORT", "1")
    assert main.run(["cleanup"]) == 1
    assert "Start the service with `genledger serve`" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
