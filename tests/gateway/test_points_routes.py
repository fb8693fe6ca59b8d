"""Where raw points go: the seed's two routes, of the service, of a points worker and of a gateway."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from genledger.roles import points_routes
from genledger.roles.points_routes import points_elsewhere, state_of
from streams.gateway.proxy import Proxy
from streams.settings import Settings
from tests.gateway.conftest import House, Make

STATUS = "/api/v1/admin/usage/service-status"
HEALTH = "/api/v1/admin/usage/influxdb-health"
TOKEN = "a-token-that-nobody-sees"
INFLUX = {
    "influxdb_url": "http://user:pass@influx.example:8086/db?token=x",
    "influxdb_token": TOKEN,
    "influxdb_org": "mAI",
    "influxdb_bucket": "usage",
}


@dataclass
class Told:
    """What a sender tells."""

    circuit: str = "open"
    trouble: str = "InfluxDB does not answer"
    last_error: str = "connection refused"
    written: int = 40
    refused: int = 2


@dataclass
class Found:
    """What a server says of its health, and how often it was asked."""

    ok: bool = True
    version: str = "1.8.10"
    message: str = "it takes points"
    milliseconds: float = 1.23456
    asked: list[float] = field(default_factory=list)

    async def health(self) -> "Found":
        self.asked.append(0.0)
        return self


def routes(found: Found, **settings: Any) -> list[Any]:
    places = {("usage", 0): (17, 20), ("usage", 1): (5, 5)}
    on = msgspec.structs.replace(Settings(), **(INFLUX | settings))
    return points_routes.points_routes(on, lambda: state_of(Told(), places), found.health)


async def test_legacy_mode_says_so_as_the_seed_does(make_house: Make) -> None:
    """Without InfluxDB, or with it off: the mode, and where raw points are."""
    house: House = await make_house(extra_routes=points_routes.points_routes(Settings()))
    said = {"influxdb_first_enabled": False, "points": "sqlite", "note": "Legacy mode"}
    assert await house.call("GET", STATUS) == (200, said)
    status, answer = await house.call("GET", HEALTH)
    assert (status, answer["error"]["code"]) == (409, "legacy_mode")


@pytest.mark.parametrize(
    ("settings", "kept"), [({"influxdb_first_enabled": False}, "sqlite"), ({"points": False}, "nowhere")]
)
def test_legacy_mode_says_where_raw_points_are(settings: dict[str, Any], kept: str) -> None:
    """Switched off by name it is legacy mode too, whatever else is configured."""
    configured = INFLUX if "influxdb_first_enabled" in settings else {}
    found = points_routes.status_of(msgspec.structs.replace(Settings(), **configured, **settings), None, "")
    assert found == {"influxdb_first_enabled": False, "points": kept, "note": "Legacy mode"}


async def test_the_status_tells_how_it_goes_and_no_secret(make_house: Make) -> None:
    """Circuit, lag, what was last wrong, and which bucket of which server: not how to get in there."""
    house: House = await make_house(extra_routes=routes(Found()))
    status, answer = await house.call("GET", STATUS)
    assert status == 200
    assert answer == {
        "influxdb_first_enabled": True,
        "points": "influxdb",
        "url": "http://influx.example:8086/db",
        "org": "mAI",
        "bucket": "usage",
        "dedup": "time",
        "circuit": "open",
        "trouble": "InfluxDB does not answer",
        "last_error": "connection refused",
        "written": 40,
        "refused": 2,
        "lag_records": 3,
        "position": {"usage/0": 17, "usage/1": 5},
    }


def test_the_cloud_s_place_is_told_where_it_is_the_one() -> None:
    """INFLUXDB_USE_CLOUD takes the four settings of the cloud."""
    cloud = {
        "influxdb_use_cloud": True,
        "influxdb_cloud_url": "https://cloud.example",
        "influxdb_cloud_bucket": "b",
    }
    found = points_routes.status_of(msgspec.structs.replace(Settings(), **INFLUX, **cloud), None, "")
    assert (found["url"], found["bucket"], found["org"]) == ("https://cloud.example", "b", "")


async def test_a_key_of_one_organisation_learns_nothing_of_the_server(make_house: Make) -> None:
    """How it goes, not where it is nor what it said; a producer's key learns nothing at all."""
    found = Found(ok=False, message="http://influx.example refuses the token of mAI")
    house: House = await make_house(extra_routes=routes(found))
    reader, producer = await house.key("acme", "reader"), await house.key("acme")
    _, answer = await house.call("GET", STATUS, reader)
    assert answer == {
        "influxdb_first_enabled": True, "points": "influxdb", "circuit": "open", "lag_records": 3
    }  # fmt: skip
    status, answer = await house.call("GET", HEALTH, reader)
    assert (status, answer["error"]["message"]) == (503, "InfluxDB takes no points now")
    for path in (STATUS, HEALTH):
        assert (await house.call("GET", path, producer))[0] == 403
        assert (await house.call("GET", path))[0] == 401


async def test_health_is_200_or_503_and_asked_seldom(
    make_house: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks again at once is told the same; the server's own words are in the refusal."""
    found = Found()
    house: House = await make_house(extra_routes=routes(found))
    for _ in range(3):
        answer = await house.call("GET", HEALTH)
        assert answer == (200, {"healthy": True, "version": "1.8.10", "milliseconds": 1.235})
    assert len(found.asked) == 1
    monkeypatch.setattr(points_routes, "HEALTH_AGE_S", -1.0)
    found.ok, found.message = False, "the bucket is not there"
    status, body = await house.call("GET", HEALTH)
    assert (status, body["error"]["code"]) == (503, "influxdb")
    assert body["error"]["message"].endswith("the bucket is not there")


class Nobody:
    """A cluster without ledger workers."""

    def partitions(self, topic: str) -> int:
        return 1

    async def owners(self, group: str, topic: str) -> dict[int, str]:
        return {}


@web.middleware
async def everybody(request: web.Request, handler: Any) -> Any:
    """A worker's port, to who may see all."""
    request["organization"] = ""
    return await handler(request)


async def test_a_gateway_asks_the_points_worker_and_does_without_it(make_house: Make) -> None:
    """It passes the answer on; of a worker that is away it says so, and still knows the mode."""
    app = web.Application(middlewares=[everybody])
    app.add_routes(routes(Found()))
    worker = TestServer(app)
    await worker.start_server()
    settings = msgspec.structs.replace(Settings(), **INFLUX, points_url=str(worker.make_url("")))
    proxy = Proxy(settings, Nobody())
    house: House = await make_house(extra_routes=points_elsewhere(settings, proxy))
    assert (await house.call("GET", STATUS))[1]["lag_records"] == 3
    assert (await house.call("GET", HEALTH))[1]["healthy"]
    await worker.close()
    _, body = await house.call("GET", STATUS)
    assert (body["influxdb_first_enabled"], body["circuit"], body["lag_records"]) == (True, "unknown", None)
    assert body["trouble"] == "the points worker does not answer"
    status, body = await house.call("GET", HEALTH)
    assert (status, body["error"]["code"]) == (503, "worker_unavailable")
    assert (await proxy.statuses(_Request()))["points"] is None  # type: ignore[arg-type]
    await proxy.close()


class _Request:
    headers: dict[str, str] = {}


async def test_a_gateway_in_legacy_mode_asks_nobody(make_house: Make) -> None:
    """There is no points worker then, and no wait for one."""
    proxy = Proxy(Settings(), Nobody())
    house: House = await make_house(extra_routes=points_elsewhere(Settings(), proxy))
    assert (await house.call("GET", STATUS))[1]["note"] == "Legacy mode"
    assert (await house.call("GET", HEALTH))[0] == 409
    assert "points" not in await proxy.statuses(_Request())  # type: ignore[arg-type]
    await proxy.close()
