"""Latency, open loop: one event a request, sent at fixed times whether or not earlier ones are answered.

    latency(base, traffic, rate=100, seed=1)                  # {"ack_p99_ms": 6.1, ...}
    latency(base, traffic, rate=200, seed=1, way=SIGNED)      # into a service with settings, in another form

Each time is measured from the moment the request was scheduled for, so a service that stands still for a
second is charged with every request of that second (no coordinated omission), and so is this client when it
is late itself: how late is shown. When an event is in the summaries is known for each one: its place in the
log is read after the run, and the watcher saw when the summaries had come to it.
"""

import asyncio
import gc
import math
import selectors
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from benchmarks import BenchmarkFailed, views
from benchmarks.bench import Figures
from benchmarks.service import HOST, Service
from benchmarks.traffic import Totals, Traffic, make
from benchmarks.wire import LOST, Pool, request_of
from genledger.client import Client
from streams import clock, topics
from streams.log.sqlite.log import open_log

CONNECTIONS = 64
WARM_UP = 200
WARM_UP_PER_S = 100
ANSWER_S = 30.0
APPLIED_S = 30.0
LOOK_S = 0.02
READ_RECORDS = 10_000
ACCEPTED = 202

Place = tuple[int, int]


class Way(msgspec.Struct, frozen=True):
    """How events come in: the service's settings, whether it has a key, and the request for an event."""

    settings: Mapping[str, str] = {}
    has_key: bool = False
    request_of: Callable[[int, bytes], bytes] = request_of


PLAIN = Way()


class Meanwhile:
    """What else a service does while it is measured: nothing."""

    def before(self, service: Service) -> Totals:
        """When it is warm; what this has added to the totals, of days before `since`."""
        return Totals()

    def after(self, service: Service) -> None:
        """When all is answered, before the tables are looked at."""

    since = ""


NOTHING_ELSE = Meanwhile()


def percentile(ascending: Sequence[float], share: float) -> float:
    """The nearest rank: a value that was really measured."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


class Driven:
    """One rate's requests: when each was due, left us, and was answered."""

    def __init__(self, traffic: Traffic, rate: int) -> None:
        count = len(traffic.lines)
        self.traffic = traffic
        self.rate = rate
        self.due_s = [0.0] * count
        self.late_s = [0.0] * count
        self.answered_s = [0.0] * count
        self.status = [LOST] * count

    def figures(self, visible_s: Mapping[str, float]) -> Figures:
        """What the report shows of them."""
        count = len(self.status)
        taken = [i for i in range(count) if self.status[i] == ACCEPTED]
        if not taken:
            raise BenchmarkFailed(f"at {self.rate} a second no request was accepted: {set(self.status)}")
        ack_ms = sorted((self.answered_s[i] - self.due_s[i]) * 1000 for i in taken)
        summary_ms = sorted((visible_s[self.traffic.ids[i]] - self.due_s[i]) * 1000 for i in taken)
        # The last request's own interval counts too: n requests at n a second take a second.
        took_s = max(count / self.rate, max(self.answered_s[i] for i in taken) - self.due_s[0])
        return {
            "requests": count,
            "errors": count - len(taken),
            "reached_per_s": len(taken) / took_s,
            "client_late_p99_ms": percentile(sorted(late_s * 1000 for late_s in self.late_s), 0.99),
            **{f"ack_p{p}_ms": percentile(ack_ms, p / 100) for p in (50, 90, 99)},
            "ack_max_ms": ack_ms[-1],
            **{f"summary_p{p}_ms": percentile(summary_ms, p / 100) for p in (50, 99)},
            "summary_max_ms": summary_ms[-1],
        }


def latency(
    base: Path,
    traffic: Traffic,
    rate: int,
    seed: int,
    way: Way = PLAIN,
    meanwhile: Meanwhile = NOTHING_ELSE,
) -> Figures:
    """One event a request, so many requests a second, on one fresh service."""
    data = base / "data"
    warm_up = Driven(make(WARM_UP, "openrouter", seed), WARM_UP_PER_S)
    driven = Driven(traffic, rate)
    # select() waits to the microsecond, epoll to the millisecond, which would be in every figure.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        with Service(data, way.settings) as service, views.Watcher(data / "genledger.db") as watcher:
            key = service.administrator_key() if way.has_key else ""
            runner.run(_drive(warm_up, service.port, way))
            runner.run(_wait_idle(service, key))
            old = meanwhile.before(service)
            runner.run(_drive(driven, service.port, way))
            meanwhile.after(service)
            runner.run(_wait_idle(service, key))
        places = runner.run(_places(data))
    total = _sent((warm_up, driven), places)
    views.check(data / "genledger.db", total, old, meanwhile.since)
    return driven.figures(_visible({id: places[id] for id in traffic.ids if id in places}, watcher.seen))


def _sent(driven: Iterable[Driven], places: Mapping[str, Place]) -> Totals:
    """What is on the log, among it all that was acknowledged."""
    total = Totals()
    for run in driven:
        for i, id in enumerate(run.traffic.ids):
            if id in places:
                total += run.traffic.worths[i]
            elif run.status[i] == ACCEPTED:
                raise BenchmarkFailed(f"{id} was acknowledged and is not on the log")
    return total


async def _wait_idle(service: Service, key: str) -> None:
    """Until no view lags behind the log: also what was written and not acknowledged is in the tables then.

    Points may wait for a server that is away.
    """
    client = Client(f"http://{HOST}:{service.port}", key)
    deadline_s = clock.monotonic_s() + APPLIED_S
    while any(lag for role, lag in client.get("/api/v1/status")["lag"].items() if role != "points"):
        if clock.monotonic_s() > deadline_s:
            raise BenchmarkFailed(f"the views are still behind {APPLIED_S:g} s after the last answer")
        await asyncio.sleep(LOOK_S)
    client.close()


async def _drive(driven: Driven, port: int, way: Way) -> None:
    """Send each request at its time, then wait for the answers that are still due."""
    loop = asyncio.get_running_loop()
    requests = [way.request_of(port, line) for line in driven.traffic.lines]
    pool = await Pool.open(port, min(CONNECTIONS, len(requests)))
    left = len(requests)
    all_answered = asyncio.Event()

    def answered(i: int, status: int, _: bytes) -> None:
        nonlocal left
        driven.answered_s[i], driven.status[i] = loop.time(), status
        left -= 1
        if not left:
            all_answered.set()

    gc.collect()
    gc.disable()
    try:
        start_s = loop.time() + 0.1
        for i, request in enumerate(requests):
            due_s = driven.due_s[i] = start_s + i / driven.rate
            if due_s > loop.time():
                await asyncio.sleep(due_s - loop.time())
            driven.late_s[i] = loop.time() - due_s
            pool.send(request, partial(answered, i))
        with suppress(TimeoutError):  # what has no answer by then counts as an error
            await asyncio.wait_for(all_answered.wait(), ANSWER_S)
    finally:
        gc.enable()
        pool.close()


async def _places(data: Path) -> dict[str, Place]:
    """Where on the log each id stands, by partition and offset."""
    found: dict[str, Place] = {}
    log = await open_log(f"sqlite:///{data / 'log'}", topics.topic_table(), read_only=True)
    try:
        for partition in range(log.partitions(topics.GENERATIONS)):
            offset = 0
            while records := await log.read(topics.GENERATIONS, partition, offset, READ_RECORDS):
                found.update(((r.key or b"").decode(), (partition, r.offset)) for r in records)
                offset = records[-1].offset + 1
    finally:
        await log.close()
    return found


def _visible(places: Mapping[str, Place], seen: Sequence[views.Seen]) -> dict[str, float]:
    """When each id was in the summaries."""
    times_s: dict[int, list[float]] = {}
    offsets: dict[int, list[int]] = {}
    for time_s, partition, offset in seen:
        times_s.setdefault(partition, []).append(time_s)
        offsets.setdefault(partition, []).append(offset)
    return {
        id: times_s[partition][bisect_left(offsets[partition], offset)]
        for id, (partition, offset) in places.items()
    }
