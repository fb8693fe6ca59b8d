"""What the client's tests share."""

import pytest

from streams.client import Client
from tests.client.fakes import Gateway, serving
from tests.road.harness import running


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """A real service for those who only publish to it."""
    with running(tmp_path_factory.mktemp("client") / "data") as service:
        yield service


@pytest.fixture
def gateway():
    """A gateway that does as it is told."""
    with serving(Gateway()) as gateway:
        yield gateway


@pytest.fixture
def make_client(gateway):
    """Makes clients of that gateway that do not wait long; closed afterwards."""
    made = []

    def make(**options):
        client = Client(gateway.url, "glk_test", **{"linger_s": 0.01, "backoff_s_max": 0.05, **options})
        made.append(client)
        return client

    yield make
    for client in made:
        client.close(timeout_s=0)
