"""Our roles on the Kafka of the run: real processes, default settings, totals read back from what they wrote.

    ledger(bench)          # `genledger worker ledger`: {"per_s": ..., "cpu_us": ...}
    summaries(bench)       # `genledger worker summaries`, on a `usage` that our own ledger made
    road_in_one(bench)     # ledger and views in one process
    road(bench)            # a ledger worker and a summaries worker, as deployed
    road_with_two(bench)   # two ledger workers and a summaries worker

The processes are started on empty topics, and stopped (SIGSTOP) once they are ready; then the topic is
filled, and they go on (SIGCONT): the time runs from there to the broker's time of the last fact, or to the
moment when summaries and processed_generations both have all.
"""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import sleep

from aiokafka.admin import AIOKafkaAdminClient

from benchmarks import BenchmarkFailed, kafka, preload, views
from benchmarks.bench import Bench, Figures
from benchmarks.traffic import deliveries
from streams import clock, topics
from streams.log.kafka import administration
from streams.settings import Settings
from tests.kafka.installation import Installation, Role
from tests.kafka.records import ClusterRecords
from tests.road.harness import Died, clean_environ

TIMEOUT_S = 180.0
LOOK_S = 0.02
DECIDED_LOOK_S = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
# A process that is stopped for a while must not take that for a broker that doesn't answer.
_ENVIRON = {"GENLEDGER_KAFKA_SESSION_TIMEOUT_S": "10", "GENLEDGER_KAFKA_REQUEST_TIMEOUT_S": "60"}


class OneProcess(Role):
    """Ledger and views in one event loop: `benchmarks.one_process`."""

    def command(self) -> list[str]:
        """What is run."""
        return [sys.executable, "-m", "benchmarks.one_process", str(self.metrics_port)]


class Road:
    """Roles that are ready and stand still, on topics that are full."""

    def __init__(self, bench: Bench, installation: Installation, roles: Sequence[Role], records: int) -> None:
        self._bench = bench
        self.installation = installation
        self.roles = roles
        self.records = records
        self.tables = installation.data / "genledger.db"
        self.environ = {**clean_environ(), **installation.environ}
        self._stopped: list[Role] = []

    def stop(self, role: Role) -> None:
        """It has done its part."""
        self._stopped.append(role)
        role.stop()

    def go(self, *roles: Role) -> float:
        """Let roles run; the wall clock's seconds at that moment."""
        started_s = clock.now_ms() / 1000
        for role in roles:
            role.resume()
        return started_s

    def wait_decided(self) -> None:
        """Until the ledger has committed the offsets of all records."""
        asyncio.run(self._wait_decided())

    async def _wait_decided(self) -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=self._bench.bootstrap)
        await client.start()
        deadline_s = clock.monotonic_s() + TIMEOUT_S
        try:
            while True:
                group = self._bench.prefix + topics.LEDGER_GROUP
                found = await client.list_consumer_group_offsets(group)
                decided = sum(place.offset for place in found.values())
                if decided >= self.records:
                    return
                self._look(deadline_s, f"{decided} of {self.records} records are decided")
                await asyncio.sleep(DECIDED_LOOK_S)
        finally:
            await client.close()

    def wait_applied(self) -> float:
        """Until both views have all; the wall clock's seconds then."""
        deadline_s = clock.monotonic_s() + TIMEOUT_S
        with closing(views.connect(self.tables)) as connection:
            while True:
                applied = views.applied(connection)
                if applied >= self.records:
                    return clock.now_ms() / 1000
                self._look(deadline_s, f"{applied} of {self.records} records are in the views")
                sleep(LOOK_S)

    def _look(self, deadline_s: float, how_far: str) -> None:
        for role in self.roles:
            if not role.alive and role not in self._stopped:
                raise BenchmarkFailed(f"the {role.name} worker has ended:\n{role.tail()}")
        if clock.monotonic_s() > deadline_s:
            raise BenchmarkFailed(f"after {TIMEOUT_S:g} s {how_far}")

    def check_usage(self) -> float:
        """The facts add up; the broker's time of the last, in seconds."""
        usage = f"{self._bench.prefix}{topics.USAGE}"
        return (
            kafka.check_usage(self._bench.bootstrap, usage, self.records, self._bench.traffic.totals()) / 1000
        )

    def check_tables(self) -> None:
        """The rows add up."""
        views.check(self.tables, self._bench.traffic.totals())

    def figures(self, took_s: float, cpu_s: float) -> Figures:
        """Records a second, and microseconds of processor for each."""
        return {"per_s": self.records / took_s, "cpu_us": cpu_s / self.records * 1e6}


def ledger(bench: Bench) -> Figures:
    """The ledger alone."""
    with _standing(bench, "ledger") as road:
        [worker] = road.roles
        cpu_s = _cpu_s(worker)
        started_s = road.go(worker)
        road.wait_decided()
        cpu_s = _cpu_s(worker) - cpu_s
        return road.figures(road.check_usage() - started_s, cpu_s)


def summaries(bench: Bench) -> Figures:
    """The summaries worker alone: the ledger has ended before it goes on."""
    with _standing(bench, "ledger", "summaries") as road:
        decider, worker = road.roles
        road.go(decider)
        road.wait_decided()
        road.stop(decider)
        road.check_usage()
        cpu_s = _cpu_s(worker)
        started_s = road.go(worker)
        took_s = road.wait_applied() - started_s
        cpu_s = _cpu_s(worker) - cpu_s
        road.check_tables()
        return road.figures(took_s, cpu_s)


def road_in_one(bench: Bench) -> Figures:
    """The whole road in one process."""
    return _road(bench, "one")


def road(bench: Bench) -> Figures:
    """The whole road as deployed: two processes."""
    return _road(bench, "ledger", "summaries")


def road_with_two(bench: Bench) -> Figures:
    """The same with two ledger workers, each with half of the partitions."""
    return _road(bench, "ledger", "ledger", "summaries")


@contextmanager
def decided(bench: Bench) -> Iterator[Road]:
    """A road whose facts are all there; no role runs, and there are no views."""
    with _standing(bench, "ledger") as road:
        [decider] = road.roles
        road.go(decider)
        road.wait_decided()
        road.stop(decider)
        road.check_usage()
        yield road


@contextmanager
def finished(bench: Bench) -> Iterator[Road]:
    """A road that has been gone: facts and views are there, and no role runs."""
    with _standing(bench, "ledger", "summaries") as road:
        road.go(*road.roles)
        road.wait_applied()
        for role in road.roles:
            road.stop(role)
        road.check_tables()
        yield road


def _road(bench: Bench, *names: str) -> Figures:
    with _standing(bench, *names) as road:
        cpu_s = sum(map(_cpu_s, road.roles))
        started_s = road.go(*road.roles)
        took_s = road.wait_applied() - started_s
        cpu_s = sum(map(_cpu_s, road.roles)) - cpu_s
        road.check_usage()
        road.check_tables()
        return road.figures(took_s, cpu_s)


@contextmanager
def _standing(bench: Bench, *names: str) -> Iterator[Road]:
    """Roles that are ready and stopped, before a topic that is full; all are gone afterwards."""
    url = f"kafka://{bench.bootstrap}"
    settings = Settings(broker=url, topic_prefix=bench.prefix)
    asyncio.run(administration.apply(settings, partitions=preload.PARTITIONS, replication=1))
    rows = deliveries(bench.traffic)
    installation = Installation(url, bench.prefix, bench.base, partitions=preload.PARTITIONS, **_ENVIRON)
    roles = [_role(installation, name) for name in names]
    try:
        for role in roles:
            role.start(wait=False)
        for role in roles:
            role.wait_ready()
        _wait_shared(bench, names.count("ledger") or 1)
        for role in roles:
            role.pause()
        generations = f"{bench.prefix}{topics.GENERATIONS}"
        asyncio.run(preload.write(bench.bootstrap, generations, rows))
        yield Road(bench, installation, roles, len(rows))
    except (Died, AssertionError) as error:
        raise BenchmarkFailed(str(error)) from error
    finally:
        for role in roles:
            if role.alive:
                role.kill()


def _role(installation: Installation, name: str) -> Role:
    if name != "one":
        return installation.role(name)
    output = installation.folder / "one.output"
    return OneProcess(name, installation.data, output, **installation.environ)


def _wait_shared(bench: Bench, workers: int) -> None:
    """Until each ledger worker has its share of the partitions."""
    deadline_s = clock.monotonic_s() + TIMEOUT_S
    share = preload.PARTITIONS // workers
    with ClusterRecords(bench.bootstrap, bench.prefix, preload.PARTITIONS) as log:
        while [len(each) for each in log.owners().values()] != [share] * workers:
            if clock.monotonic_s() > deadline_s:
                raise BenchmarkFailed(f"after {TIMEOUT_S:g} s the workers have {log.owners()}")
            sleep(DECIDED_LOOK_S)


def _cpu_s(role: Role) -> float:
    """Processor time of a process so far; 0 where the kernel does not tell."""
    try:
        fields = Path(f"/proc/{role.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
