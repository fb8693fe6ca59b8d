"""OTLP bodies for tests: spans and their attributes, as JSON and as protobuf.

body(span(CHAT, span_id=1, parent=2), service="openrouter")
"""

from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE = "5b8efff798038103d269b633813fc60c"
START_NS = 1795168800000000000
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "openai/gpt-4o",
    "gen_ai.response.id": "gen-1",
    "gen_ai.usage.input_tokens": 812,
    "gen_ai.usage.output_tokens": 240,
}


def value(given: Any) -> Any:
    """A value as OTLP's JSON has it; an object stands for itself."""
    if isinstance(given, dict):
        return given
    if isinstance(given, bool):
        return {"boolValue": given}
    if isinstance(given, list):
        return {"arrayValue": {"values": [value(each) for each in given]}}
    name = {int: "intValue", float: "doubleValue", str: "stringValue"}[type(given)]
    return {name: given}


def attributes(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes as OTLP's JSON has them."""
    return [{"key": key, "value": value(each)} for key, each in given.items() if each is not None]


def span(given: dict[str, Any], *, span_id: int = 1, parent: int = 0, **more: Any) -> dict[str, Any]:
    """A span of 1.25 seconds."""
    return {
        "traceId": TRACE,
        "spanId": f"{span_id:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": "chat",
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": str(START_NS + 1_250_000_000),
        "attributes": attributes(given),
    } | more


def body(*spans: dict[str, Any], service: str = "my-app", **resource: Any) -> dict[str, Any]:
    """A body of one resource."""
    given = {"attributes": attributes({"service.name": service} | resource)}
    return {"resourceSpans": [{"resource": given, "scopeSpans": [{"spans": list(spans)}]}]}


def protobuf(given: dict[str, Any]) -> bytes:
    """The same body as an SDK's exporter sends it: ids as bytes, numbers in their own types."""
    request = ExportTraceServiceRequest()
    ids = ("traceId", "spanId", "parentSpanId")
    for group in given["resourceSpans"]:
        made = request.resource_spans.add()
        ParseDict(group["resource"], made.resource)
        for each in group["scopeSpans"][0]["spans"]:
            one = made.scope_spans.add().spans.add()
            ParseDict({name: part for name, part in each.items() if name not in ids}, one)
            one.trace_id, one.span_id, one.parent_span_id = (bytes.fromhex(each[name]) for name in ids)
    return request.SerializeToString()
