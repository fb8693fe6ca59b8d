"""Who may begin a run, or be told how one stands: on a gateway, at the leader, on a ledger worker's port."""

from typing import Any, NoReturn

import pytest

from genledger.roles.cleanup import Cleanup
from genledger.roles.cleanup_routes import cleanup_routes
from projections.api import passed_to
from streams.gateway.sweeps import COUNT, STANDS, sweeps_routes
from streams.settings import Settings
from tests.gateway.conftest import Make, make_house

__all__ = ["make_house"]

ROUTE = "/api/v1/admin/cleanup"


class Untouched:
    """Whatever is asked of it fails the test."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"{name} was reached")


async def passed_on(_: Any) -> NoReturn:
    raise AssertionError("it was passed on")


def nobody() -> Cleanup:
    raise AssertionError("the leader was reached")


@pytest.mark.parametrize("where", ["leader", "gateway", "ledger"])
async def test_nobody_but_an_administrator_of_all_gets_through(make_house: Make, where: str) -> None:
    """No key of an organisation does, its own administrator's neither, and no request without a key."""
    settings = Settings()
    routes, asked = {
        "leader": (cleanup_routes(nobody, settings), (("POST", ROUTE), ("GET", f"{ROUTE}/stands"))),
        "gateway": (
            passed_to(passed_on, cleanup_routes(nobody, settings)),
            (("POST", ROUTE), ("GET", f"{ROUTE}/stands"), ("HEAD", f"{ROUTE}/stands")),
        ),
        "ledger": (sweeps_routes(Untouched()), (("POST", COUNT), ("GET", STANDS))),  # type: ignore[arg-type]
    }[where]
    house = await make_house(extra_routes=list(routes))
    await house.key("", "admin")  # from the first key on, one is asked for
    keys = [await house.key("acme", rights) for rights in ("admin", "reader", "producer")]
    for method, path in asked:
        for key in keys:
            assert (await house.call(method, path, key))[0] == 403
        assert (await house.call(method, path))[0] == 401
