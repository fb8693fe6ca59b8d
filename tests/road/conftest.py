"""What the road's tests share: the traffic, made once."""

import pytest

from tests.model.traffic import Traffic, generate

SEED = 20251026
GENERATIONS = 20_000


@pytest.fixture(scope="session")
def traffic() -> Traffic:
    """B's traffic at the size of `make test`."""
    return generate(SEED, GENERATIONS)
