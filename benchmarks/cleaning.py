"""What forgetting old ids costs those who are served meanwhile: 200 requests/s, 20 organisations of 20 users.

    resting(bench)       # {"ack_p99_ms": ..., ...}: a service that knows many old ids, and leaves them alone
    sweeping(bench)      # the same while a run of the retention job forgets them
    compacting(bench)    # the same after it, while compaction takes what it has ended from the log

The old ids are told in batches before the clock runs, dated before any horizon there is, so that they count.
There are so many of them that the sweep, or the compaction, goes on beyond the last request; a run in which
it had ended before fails, for it would not show what it says.
"""

import asyncio
from collections.abc import Callable
from time import sleep
from typing import Any

from benchmarks import BenchmarkFailed, views
from benchmarks.bench import Bench, Figures
from benchmarks.latency import PLAIN, WARM_UP, Meanwhile, Way, latency
from benchmarks.service import HOST, Service
from benchmarks.throughput import BATCH
from benchmarks.traffic import DAY_S, ORGANIZATIONS, Totals, make
from benchmarks.wire import NDJSON
from genledger.client import Client
from genledger.roles.compacting import LOOK_EVERY_S
from streams import clock, settings, times, topics
from streams.log.backends import open_log
from streams.log.sizes import topic_sizes

RATE = 200
USERS = 20 * ORGANIZATIONS
KEPT_DAYS = 90
AGE_DAYS = 120
OLD_MIN = 10_000
# For each second that is measured: more than are forgotten in one.
OLD_PER_S = 12_000
LOOK_S = 0.1
BUSY_S = 0.05
SWEPT_S = 300.0
APPLIED_S = 300.0
BUSY = (429, 503)


class Resting(Meanwhile):
    """It knows old ids, and nothing is done about them."""

    def __init__(self, bench: Bench) -> None:
        self._count = max(OLD_MIN, round(OLD_PER_S * bench.seconds))
        self._seed = bench.seed + 2
        self._run_ms = 0
        self.since = times.day_of((clock.now_ms() // 1000 - KEPT_DAYS * DAY_S) * times.SECOND_NS, "UTC")

    def before(self, service: Service) -> Totals:
        """Tell of the old ids, and wait until they are known."""
        old = make(self._count, "openrouter", self._seed, users=USERS, age_days=AGE_DAYS)
        client = Client(f"http://{HOST}:{service.port}")
        try:
            for body in old.bodies(BATCH):
                answer = client.send("POST", "/api/v1/generations", body=body, content_type=NDJSON)
                while answer.status in BUSY:
                    sleep(BUSY_S)
                    answer = client.send("POST", "/api/v1/generations", body=body, content_type=NDJSON)
                client.taken(answer)
        finally:
            client.close()
        asyncio.run(views.wait_applied(service, WARM_UP + self._count, APPLIED_S))
        return old.totals()

    def begin(self, service: Service) -> None:
        """Begin a run."""
        self._run_ms = clock.now_ms()
        self._ask(service, lambda client: client.post("/api/v1/admin/cleanup", {"days": KEPT_DAYS}))

    def is_sweeping(self, service: Service) -> bool:
        """Whether the run goes on."""
        stands = self._ask(service, lambda client: client.get("/api/v1/admin/cleanup/stands"))
        return bool(stands["running"])

    def wait_swept(self, service: Service) -> None:
        """Until it has ended."""
        deadline_s = clock.monotonic_s() + SWEPT_S
        while self.is_sweeping(service):
            if clock.monotonic_s() > deadline_s:
                raise BenchmarkFailed(f"after {SWEPT_S:g} s the run has not ended")
            sleep(LOOK_S)

    def is_compacted(self, service: Service) -> bool:
        """Whether compaction has come through since."""
        return asyncio.run(_compacted_ms(service)) > self._run_ms

    def _ask(self, service: Service, ask: Callable[[Client], Any]) -> Any:
        client = Client(f"http://{HOST}:{service.port}")
        try:
            return ask(client)
        finally:
            client.close()


class Sweeping(Resting):
    """A run goes on from the first request to beyond the last."""

    def before(self, service: Service) -> Totals:
        """Tell of the old ids, and begin to forget them."""
        old = super().before(service)
        self.begin(service)
        return old

    def after(self, service: Service) -> None:
        """It must go on still; then wait for its end, as the views' lag has none before."""
        if not self.is_sweeping(service):
            raise BenchmarkFailed("the run ended before the last request: it takes more old ids")
        self.wait_swept(service)


class Compacting(Resting):
    """A run has ended, and compaction goes on from the first request to beyond the last."""

    def before(self, service: Service) -> Totals:
        """Tell of the old ids, forget them, and wait until compaction looks for what there is to do."""
        old = super().before(service)
        self.begin(service)
        self.wait_swept(service)
        sleep(LOOK_EVERY_S)
        return old

    def after(self, service: Service) -> None:
        """It must go on still."""
        if self.is_compacted(service):
            raise BenchmarkFailed("compaction ended before the last request: it takes more old ids")


async def _compacted_ms(service: Service) -> int:
    """When all compacted topics of ids were last compacted; 0: some never was."""
    log = await open_log(settings.load({}, data=str(service.data)), read_only=True)
    names = (topics.GENERATIONS, topics.SEEN_CHANGELOG)
    try:
        sizes = await topic_sizes(log, [spec for spec in topics.topic_table() if spec.name in names])
    finally:
        await log.close()
    return min(size.compacted_ms for size in sizes.values())


def resting(bench: Bench) -> Figures:
    """With nothing else to do."""
    return _measured(bench, Resting(bench), Way({"CLEANUP_ENABLED": "false"}))


def sweeping(bench: Bench) -> Figures:
    """While old ids are forgotten."""
    return _measured(bench, Sweeping(bench))


def compacting(bench: Bench) -> Figures:
    """While compaction follows."""
    return _measured(bench, Compacting(bench))


def _measured(bench: Bench, meanwhile: Meanwhile, way: Way = PLAIN) -> Figures:
    count = max(1, round(RATE * bench.seconds))
    traffic = make(count, "openrouter", bench.seed + 1, users=USERS)
    return latency(bench.base, traffic, RATE, bench.seed + 3, way, meanwhile)
