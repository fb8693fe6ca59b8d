"""The fixtures of tests that need Kafka, for every test module (tests/conftest.py names this plugin).

kafka         a cluster shared by the whole run; kafka.bootstrap, kafka.url. Started when first asked for
own_broker    a factory of brokers that a test may kill, pause and secure: own_broker(SASL_SSL)
topic_prefix  a prefix of this test's own, for topics, groups and transactional ids on the shared cluster
"""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kafka.broker import (
    PROPERTIES,
    READY_S,
    Broker,
    Listener,
    NoKafka,
    answers,
    find_java,
    libraries,
    property_text,
)
from tests.servers import HOST, free_port

IMAGE = "apache/kafka:4.1.1"
PULL_S = 300.0


@dataclass(frozen=True)
class Cluster:
    """A Kafka to connect to."""

    bootstrap: str

    @property
    def url(self) -> str:
        """As GENLEDGER_BROKER has it."""
        return f"kafka://{self.bootstrap}"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The shared cluster: KAFKA_BOOTSTRAP's, one in docker, or one by Java and Maven."""
    named = os.environ.get("KAFKA_BOOTSTRAP")
    if named:
        yield Cluster(named)
    elif has_docker():
        with in_docker() as bootstrap:
            yield Cluster(bootstrap)
    else:
        _need_java()
        broker = Broker(tmp_path_factory.mktemp("kafka")).start()
        yield Cluster(broker.bootstrap)
        _end(broker)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """A factory of brokers of the test's own, with these listeners and properties; all end with the test."""
    _need_java()
    made: list[Broker] = []

    def make(
        *listeners: Listener, properties: Mapping[str, object] | None = None, start: bool = True
    ) -> Broker:
        broker = Broker(tmp_path / f"kafka-{len(made)}", *listeners, properties=properties)
        made.append(broker)
        return broker.start() if start else broker

    yield make
    for broker in made:
        _end(broker)


@pytest.fixture
def topic_prefix() -> str:
    """No other test has it."""
    return f"t{uuid.uuid4().hex[:8]}-"


def _need_java() -> None:
    try:
        find_java()
        libraries()
    except NoKafka as error:
        pytest.skip(f"no Kafka: KAFKA_BOOTSTRAP is not set, no docker engine answers, and {error}")


def _end(broker: Broker) -> None:
    """Nobody needs its files any more, save what it printed."""
    broker.kill()
    shutil.rmtree(broker.directory / "data", ignore_errors=True)


def has_docker(image: str = IMAGE) -> bool:
    """Does a docker engine answer, with the image there or fetched now?"""
    return docker("info") and (docker("image", "inspect", image) or docker("pull", "-q", image))


def docker(*words: str) -> bool:
    """Did this docker command work? No docker at all is no."""
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", *words], capture_output=True, check=False, timeout=PULL_S)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@contextmanager
def in_docker() -> Iterator[str]:
    """A broker in a container, with the properties that the one of the jars has; its address."""
    port, name = free_port(), f"genledger-tests-{uuid.uuid4().hex[:8]}"
    values: dict[str, object] = {
        **PROPERTIES,
        "listeners": "PLAIN://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093",
        "advertised.listeners": f"PLAIN://{HOST}:{port}",
        "listener.security.protocol.map": "PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAIN",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{HOST}:9093",
    }
    variables = [
        word
        for key, value in values.items()
        for word in ("-e", f"KAFKA_{key.upper().replace('.', '_')}={property_text(value)}")
    ]
    command = ["docker", "run", "-d", "--rm", "--name", name, "-p", f"{HOST}:{port}:9092", *variables, IMAGE]
    subprocess.run(command, check=True, capture_output=True, timeout=PULL_S)
    try:
        deadline_s = time.monotonic() + READY_S
        while not answers(port):
            assert time.monotonic() < deadline_s, f"the container {name} does not answer"
            time.sleep(0.1)
        yield f"{HOST}:{port}"
    finally:
        docker("kill", name)
