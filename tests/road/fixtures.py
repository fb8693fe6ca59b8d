"""The traffic that the road's tests share, on either log: made once (tests/conftest.py names this plugin)."""

import pytest

from tests.model.traffic import Traffic, generate

SEED = 20251026
GENERATIONS = 20_000


@pytest.fixture(scope="session")
def traffic() -> Traffic:
    """B's traffic at the size of `make test`."""
    return generate(SEED, GENERATIONS)
