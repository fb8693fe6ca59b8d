"""livez, readyz, metrics and the OpenAPI document."""

import asyncio

from aiohttp import web

from streams import metrics
from streams.gateway import Health, build
from tests.gateway.conftest import House, Make, event


async def test_readiness_follows_health(house: House) -> None:
    """Ready is 200, not ready 503 with the reasons; components only when asked for."""
    assert await house.call("GET", "/readyz") == (200, {"ready": True, "reasons": []})
    house.health = Health(False, ("the ledger stands still",), {"ledger": {"lag": 5}})
    assert await house.call("GET", "/readyz") == (
        503,
        {"ready": False, "reasons": ["the ledger stands still"]},
    )
    assert (await house.call("GET", "/readyz?verbose"))[1]["components"] == {"ledger": {"lag": 5}}
    assert (await house.call("GET", "/livez"))[0] == 200


async def test_metrics_are_prometheus_text(house: House) -> None:
    """Both formats that Prometheus asks for, with what the door counted."""
    await house.post([event(), {"id": "x"}])
    status, text = await house.call("GET", "/metrics")
    assert status == 200
    for name in (b"genledger_records_total{", b"genledger_events_rejected_total{", b"genledger_build_info{"):
        assert name in text
    assert b'route="/api/v1/generations"' in text
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert (await house.call("GET", "/metrics", headers=headers))[1].endswith(b"# EOF\n")


def test_every_metric_of_the_module_is_documented() -> None:
    """The table in the module's docstring names them all."""
    import prometheus_client as client

    found = [m for m in vars(metrics).values() if isinstance(m, client.metrics.MetricWrapperBase)]
    assert len(found) >= 11
    for metric in found:
        assert next(iter(metric.describe())).name in (metrics.__doc__ or "")


async def test_openapi_describes_every_route(make_house: Make) -> None:
    """The document is OpenAPI 3.1 and has each route that the application has, others' too."""

    async def daily(request: web.Request) -> web.Response:
        """Usage by day."""
        return web.json_response([])

    house: House = await make_house(extra_routes=[web.get("/api/v1/usage/daily", daily, allow_head=False)])
    status, document = await house.call("GET", "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    assert document["paths"]["/api/v1/usage/daily"]["get"]["summary"] == "Usage by day."
    registered = [(one.method.lower(), one.resource) for one in build(house.door()).router.routes()]
    routes = {(method, resource.canonical) for method, resource in registered if resource is not None}
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert described == routes | {("get", "/api/v1/usage/daily")}
    event_schema = document["components"]["schemas"]["Event"]
    assert set(event_schema["properties"]) >= {"id", "cost", "void", "metadata"}
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))


async def test_what_nobody_expected_is_500_with_an_id_and_nothing_of_the_inside(make_house: Make) -> None:
    """The caller gets an id to ask about; the log has the cause under it."""

    async def broken(request: web.Request) -> web.Response:
        """Breaks."""
        raise ZeroDivisionError("the inside")

    house: House = await make_house(extra_routes=[web.get("/broken", broken)])
    async with house.session.get("/broken") as response:
        assert (response.status, response.content_type) == (500, "application/json")
        text = await response.text()
        assert "inside" not in text and response.headers["X-Request-Id"] in text
        assert len(house.errors) == 1
        assert response.headers["X-Request-Id"] in house.errors[0] and "the inside" in house.errors[0]
    house.errors.clear()


async def test_connections_are_bounded(make_house: Make) -> None:
    """One connection too many is closed at once; when another ends there is room again."""
    house: House = await make_house(connections_max=3)
    open_ones = [await asyncio.open_connection("127.0.0.1", house.port) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert await house.raw() == b""
    for _, writer in open_ones:
        writer.close()
    await asyncio.sleep(0.05)
    assert (await house.raw(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")).startswith(b"HTTP/1.0 200")


async def test_a_connection_that_sends_no_request_is_closed(make_house: Make) -> None:
    """Half a request line does not hold a connection for longer than the setting says."""
    house: House = await make_house(keepalive_timeout_s=0.3)
    async with asyncio.timeout(3):
        assert await house.raw(b"GET /livez HT") == b""
