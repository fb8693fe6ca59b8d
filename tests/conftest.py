"""What every test module may use, and how `make test` shares the modules out between its processes."""

from pathlib import Path

import pytest

pytest_plugins = ["tests.kafka.fixtures", "tests.influxdb.fixtures", "tests.road.fixtures"]

TESTS = Path(__file__).parent


# Folders whose tests share a server that takes long to start. They go first: they take longest.
SHARED = {"kafka": "kafka", "influxdb": "influxdb", "reconcile": "influxdb"}


def group_of(path: Path) -> str:
    """The tests that run in one process, one after another: a module's; all that share a server."""
    inside = path.relative_to(TESTS)
    return SHARED.get(inside.parts[0], inside.as_posix())


@pytest.hookimpl(tryfirst=True)  # xdist writes the groups into the tests' names in a hook of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Kafka's tests first: they wait much, so that the rest runs beside them."""
    order = {group: n for n, group in enumerate(SHARED.values())}
    items.sort(key=lambda item: order.get(group_of(item.path), len(order)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item.path)))
