"""A world made once by a real service, and a copy of it for each test."""

import shutil
from pathlib import Path

import pytest

from tests.influxdb.real import Influx
from tests.influxdb.test_whole import wait_sent
from tests.reconcile.world import ORGANIZATIONS, USERS, World, balances, events, lines
from tests.road.harness import running


@pytest.fixture(scope="session")
def made(influxdb: Influx, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Everything was taken, and nothing runs."""
    world = World(tmp_path_factory.mktemp("reconcile") / "data", influxdb, influxdb.make_bucket())
    with running(world.data, **world.environ) as service:
        for organization in ORGANIZATIONS:
            service.post("/api/v1/organizations", organization)
        for user in USERS:
            service.post("/api/v1/users", user)
        assert service.send(lines(events())) == []
        service.post("/api/v1/admin/openings", balances())
        wait_sent(service, influxdb, world.bucket)
        assert service.stop() == 0, service.tail()
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy of it."""
    return made.copied(Path(shutil.copytree(made.data, tmp_path / "data")))
