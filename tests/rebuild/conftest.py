"""One service's files with Road's traffic, made once; each test works on a copy of its own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.model.traffic import Traffic
from tests.road.harness import Service, running, set_up
from tests.road.run import feed, settle, sizes


@pytest.fixture(scope="session")
def settled(tmp_path_factory: pytest.TempPathFactory, traffic: Traffic) -> Path:
    """A data folder in which everything was taken, and nothing runs."""
    data = tmp_path_factory.mktemp("rebuild") / "data"
    with running(data) as service:
        set_up(service, traffic)
        feed(service, traffic.deliveries, sizes(1, 500, 1000))
        settle(service)
        assert service.stop() == 0, service.tail()
    return data


@pytest.fixture
def data(tmp_path: Path, settled: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(settled, tmp_path / "data"))


@pytest.fixture
def serve(data: Path) -> Iterator[Callable[..., Service]]:
    """Starts services on the copy; they are gone afterwards."""
    started: list[Service] = []

    def start(**options: object) -> Service:
        service = Service(data, **options)  # type: ignore[arg-type]
        started.append(service)
        return service.start()

    yield start
    for service in started:
        if service.alive:
            service.kill()
