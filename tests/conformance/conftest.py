"""Every backend of the log, as the suite sees it: a place that can be opened, closed and opened again.

A new backend is one more class here and one more entry in `BACKENDS`.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from streams.log.interface import Log, TopicSpec
from streams.log.kafka.log import open_log as open_kafka_log
from streams.log.sqlite import Bounds, open_log
from streams.settings import load
from tests.kafka.fixtures import Cluster
from tests.kafka.topics import make_topics

TOPICS = (
    TopicSpec("source", 2, compacted=True, store="intake"),
    TopicSpec("aged", 1, retention_ms=1_000, store="intake"),
    TopicSpec("facts", 2, store="ledger"),
    TopicSpec("changes", 2, compacted=True, store="ledger"),
)


class Backend(Protocol):
    """A place for one log. `now_ms` is its clock, where the backend lets us set it."""

    now_ms: int

    async def open(self) -> Log: ...

    async def close_all(self) -> None: ...


class SqliteBackend:
    """Files in a directory of the test."""

    bounds = Bounds()

    def __init__(self, directory: Path) -> None:
        self._url = f"sqlite:///{directory}/log"
        self._opened: list[Log] = []
        self.now_ms = 1_700_000_000_000

    async def open(self) -> Log:
        log = await open_log(self._url, TOPICS, clock=lambda: self.now_ms, bounds=self.bounds)
        self._opened.append(log)
        return log

    async def close_all(self) -> None:
        for log in self._opened:
            await log.close()


class SlowSqliteBackend(SqliteBackend):
    """The same, committing as it does on a slow disk: in a thread."""

    bounds = Bounds(blocking_commit_ms=0)


class KafkaBackend:
    """Topics of the test's own on the shared cluster."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self._settings = load({}, broker=cluster.url, topic_prefix=prefix)
        self._opened: list[Log] = []
        self._made = False
        self.now_ms = 1_700_000_000_000  # the brokers have a clock of their own

    async def open(self) -> Log:
        if not self._made:
            await make_topics(self._settings, TOPICS)
            self._made = True
        log = await open_kafka_log(self._settings, TOPICS)
        self._opened.append(log)
        return log

    async def close_all(self) -> None:
        for log in self._opened:
            await log.close()


BACKENDS = {"sqlite": SqliteBackend, "sqlite-slow": SlowSqliteBackend}
KAFKA = "kafka"


@pytest.fixture(params=[*BACKENDS, KAFKA])
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, topic_prefix: str
) -> AsyncIterator[Backend]:
    place: Backend
    if request.param == KAFKA:
        place = KafkaBackend(request.getfixturevalue("kafka"), topic_prefix)
    else:
        place = BACKENDS[request.param](tmp_path)
    yield place
    await place.close_all()


@pytest.fixture
async def log(backend: Backend) -> Log:
    return await backend.open()
