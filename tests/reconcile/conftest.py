"""A world made once by a real service, and a copy of it for each test."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from projections.reconciling.report import Report
from tests.influxdb.real import Influx
from tests.influxdb.test_whole import wait_sent
from tests.reconcile.world import ORGANIZATIONS, USERS, World, balances, events, lines
from tests.road.harness import Service, running, wait_until


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
        during = compared_meanwhile(world, service)
        wait_sent(service, influxdb, world.bucket)
        assert service.stop() == 0, service.tail()
    return replace(world, during=during)


def compared_meanwhile(world: World, service: Service) -> Report:
    """What a comparison finds while traffic goes on."""
    sent, ending = [0], threading.Event()
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
    return found


def traffic(service: Service, ending: threading.Event, sent: list[int]) -> None:
    """New calls, amendments of the last ones, voids: until it is to end."""
    n = 0
    while not ending.wait(0.3):  # slowly: all that is sent is copied for each test
        events: list[dict[str, Any]] = []
        for m in range(n, n + 40):
            event = {"id": f"more-{m}", "organization": "acme", "model": f"m{m % 4}", "cost": "0.1"}
            event["created_at"] = f"2026-11-19T{m % 24:02d}:00:00Z"
            events += [event, {**event, "cost": "0.2", "model": "m-other"}]
            events += [{**event, "void": True, "authority": "corrected"}] if m % 3 == 0 else []
        assert service.send([json.dumps(event).encode() for event in events]) == []
        n += 40
        sent[0] += len(events)


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy of it."""
    return made.copied(Path(shutil.copytree(made.data, tmp_path / "data")))
