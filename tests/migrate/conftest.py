"""A service with what it counted by itself."""

from collections.abc import Iterator

import pytest

from tests.migrate.asking import OWN, House
from tests.road.harness import running


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A running service that has counted calls of its own, on days that no legacy file has."""
    with running(tmp_path_factory.mktemp("migrate") / "data") as service:
        found = House(service)
        found.publish(OWN)
        yield found
        if service.alive:
            service.assert_books_balance()
