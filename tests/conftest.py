"""What every test module may use, and how `make test` shares the modules out between its processes."""

from pathlib import Path

import pytest

pytest_plugins = ["tests.influxdb.fixtures", "tests.kafka.fixtures", "tests.road.fixtures"]

TESTS = Path(__file__).parent


def group_of(path: Path) -> str:
    """The tests that run in one process, one after another: a module's; all that need the shared Kafka."""
    return "kafka" if (TESTS / "kafka") in path.parents else path.relative_to(TESTS).as_posix()


@pytest.hookimpl(tryfirst=True)  # xdist writes the groups into the tests' names in a hook of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Kafka's tests first: they take longest, and wait much, so that the rest runs beside them."""
    items.sort(key=lambda item: group_of(item.path) != "kafka")
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item.path)))
