"""The fixtures of tests that need a real InfluxDB (tests/conftest.py names this plugin).

influxdb       one shared by the whole run: influxdb.url, influxdb.rows(...). Started when first asked for
bucket         the name of a bucket of this test's own in it
own_influxdb   a factory of servers that a test may kill and pause: own_influxdb(login=LOGIN)
"""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.influxdb.real import READY_S, VERSION, Influx, Influxd, NoInfluxdb, influxd
from tests.kafka.fixtures import docker, has_docker
from tests.servers import HOST, free_port

IMAGE = f"influxdb:{VERSION}"
PULL_S = 300.0


@pytest.fixture(scope="session")
def influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    """The shared server: INFLUXDB_URL's, one in docker, or one built by Go."""
    named = os.environ.get("INFLUXDB_URL")
    if named:
        yield Influx(named, os.environ.get("INFLUXDB_TOKEN", ""), os.environ.get("INFLUXDB_ORG", ""))
    elif has_docker(IMAGE):
        with in_docker() as url:
            yield Influx(url)
    else:
        _need_go()
        server = Influxd(tmp_path_factory.mktemp("influxdb")).start()
        yield server.influx
        _end(server)


@pytest.fixture
def bucket(influxdb: Influx) -> str:
    """No other test has it."""
    return influxdb.make_bucket()


@pytest.fixture
def own_influxdb(tmp_path: Path) -> Iterator[Callable[..., Influxd]]:
    """A factory of servers of the test's own, with these settings; all end with the test."""
    _need_go()
    made: list[Influxd] = []

    def make(*, login: str = "", start: bool = True, **environ: str) -> Influxd:
        server = Influxd(tmp_path / f"influxdb-{len(made)}", login=login, **environ)
        made.append(server)
        return server.start() if start else server

    yield make
    for server in made:
        _end(server)


def _need_go() -> None:
    try:
        influxd()
    except NoInfluxdb as error:
        pytest.skip(f"no InfluxDB: INFLUXDB_URL is not set, no docker engine answers, and {error}")


def _end(server: Influxd) -> None:
    """Nobody needs its files any more, save what it printed."""
    server.kill()
    for folder in ("data", "wal", "meta"):
        shutil.rmtree(server.directory / folder, ignore_errors=True)


@contextmanager
def in_docker() -> Iterator[str]:
    """A server in a container; its address."""
    port, name = free_port(), f"genledger-tests-{uuid.uuid4().hex[:8]}"
    flux = ["-e", "INFLUXDB_HTTP_FLUX_ENABLED=true"]
    command = ["docker", "run", "-d", "--rm", "--name", name, "-p", f"{HOST}:{port}:8086", *flux, IMAGE]
    subprocess.run(command, check=True, capture_output=True, timeout=PULL_S)
    url = f"http://{HOST}:{port}"
    try:
        deadline_s = time.monotonic() + READY_S
        while not Influx(url).answers():
            assert time.monotonic() < deadline_s, f"the container {name} does not answer"
            time.sleep(0.1)
        yield url
    finally:
        docker("kill", name)
