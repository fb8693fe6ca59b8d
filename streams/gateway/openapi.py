"""Every route of the door in one table, and the OpenAPI 3.1 document made from it.

The table also says what right a route asks for: a route that is not here asks for `read` when it reads and
for `settings` when it does anything else. And which parameters it knows: any other is refused, for a slip
such as ?organization= would else show everybody's figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from streams import admin, metrics
from streams.gateway import organizations, rejected
from streams.gateway.access import Need
from streams.gateway.items import JSON, NDJSON
from streams.gateway.signatures import OPENROUTER_HEADER, SECRET_HEADER, STANDARD_HEADERS
from streams.schemas import event_schema


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as it is documented. `name` is its handler's; `query` are pairs of name and meaning."""

    name: str
    method: str
    path: str
    need: Need
    summary: str
    query: tuple[tuple[str, str], ...] = ()
    body: str = ""
    statuses: tuple[int, ...] = (200,)


_WRITES = (409, 413, 415, 422, 503, 507)
_TAKES = (400, 408, 413, 415, 422, 503, 507)
_TAKING: tuple[tuple[str, str], ...] = (
    ("org", "one organisation's secrets only; and of events that name no organisation, theirs"),
    ("strict", "1 refuses events that have unknown fields"),
)

TABLE = (
    Operation(
        "post_generations",
        "POST",
        "/api/v1/generations",
        "write",
        "Publish generations: one event, an array, or NDJSON. 202 when the log has what was accepted. "
        "Where a JSON key stands twice in an event, the last one counts. Idempotent by id.",
        (("strict", "1 refuses events that have unknown fields"),),
        "Events",
        (202, *_TAKES),
    ),
    Operation(
        "openrouter_webhook",
        "POST",
        "/webhooks/openrouter",
        "webhook",
        "OpenRouter's bodies: Broadcast, a generation object, a response with its usage. 200 answers "
        "a probe: a body without events, with X-Test-Connection: true",
        _TAKING,
        "Anything",
        (200, 202, *_TAKES),
    ),
    Operation(
        "litellm_webhook",
        "POST",
        "/webhooks/litellm",
        "webhook",
        "LiteLLM's generic callback: one logging payload, an array, or NDJSON; rows of its spend log",
        _TAKING,
        "Anything",
        (202, *_TAKES),
    ),
    Operation(
        "standard_webhook",
        "POST",
        "/webhooks/standard",
        "webhook",
        "An event or any source's object, bare or in a Standard Webhooks envelope {type, timestamp, data}",
        _TAKING,
        "Anything",
        (202, *_TAKES),
    ),
    Operation(
        "traces",
        "POST",
        "/v1/traces",
        "webhook",
        "OpenTelemetry's GenAI spans over OTLP/HTTP, as JSON or, with the extra `otlp`, protobuf. 200 with "
        "{} or partialSuccess, in the request's encoding",
        _TAKING,
        "Traces",
        (200, *_TAKES),
    ),
    Operation(
        "cloud_events",
        "POST",
        "/api/v1/events",
        "webhook",
        "CloudEvents 1.0: one, a batch, or binary with ce- headers. 204 when all were taken, 202 says which "
        "were not",
        _TAKING,
        "CloudEvents",
        (202, 204, *_TAKES),
    ),
    Operation(
        "explain",
        "GET",
        "/api/v1/generations/{id}",
        "read",
        "One generation: its winner, where it is counted, and every decision about it",
        statuses=(200, 404),
    ),
    Operation(
        "duplicate",
        "GET",
        "/api/v1/generations/{id}/duplicate",
        "read",
        "Whether a request of this model and cost is one that is known, within a millionth of a dollar",
        (("model", "the model's name"), ("cost", "decimal text of dollars; left out is unknown")),
        statuses=(200, 422),
    ),
    Operation(
        "export_facts",
        "GET",
        "/api/v1/export/facts",
        "read",
        "Every decision that touches a month's figures, as NDJSON whose first line says what was read and "
        "whose last one how many facts that were: without it the export was cut",
        (
            ("month", "of days as the organisation has them, such as 2026-11"),
            ("org", "the organisation's id; all that the key may read unless given"),
        ),
        statuses=(200, 404, 503),
    ),
    Operation(
        "change_organization",
        "POST",
        "/api/v1/organizations",
        "settings",
        "Create an organisation, or change some of its values from a date or an instant on",
        body="OrganizationChange",
        statuses=(200, 201, *_WRITES),
    ),
    Operation(
        "list_organizations",
        "GET",
        "/api/v1/organizations",
        "settings",
        "All organisations that have settings",
    ),
    Operation(
        "show_organization",
        "GET",
        "/api/v1/organizations/{id}",
        "settings",
        "An organisation's values, with their history",
        statuses=(200, 404),
    ),
    Operation(
        "map_user",
        "POST",
        "/api/v1/users",
        "settings",
        "From a day on, whom the application knows a provider's user as",
        body="UserMapping",
        statuses=(200, *_WRITES),
    ),
    Operation(
        "list_users",
        "GET",
        "/api/v1/users",
        "settings",
        "An organisation's mapped users",
        (("org", "the organisation's id"),),
        statuses=(200, 422),
    ),
    Operation(
        "make_key",
        "POST",
        "/api/v1/keys",
        "settings",
        "A new API key; its secret is in this answer only. The first key closes an open service: when it is "
        "not an administrator's, one of those is made with it, under `administrator`",
        body="KeyRequest",
        statuses=(201, *_WRITES),
    ),
    Operation("list_keys", "GET", "/api/v1/keys", "settings", "All API keys, without their secrets"),
    Operation(
        "revoke_key",
        "POST",
        "/api/v1/keys/{id}/revoke",
        "settings",
        "End an API key, at once. 409 last_key for the last administrator's, unless it is forced",
        (("force", "1 ends the last administrator's key, too"),),
        "Revocation",
        statuses=(200, 404, *_WRITES),
    ),
    Operation(
        "list_rejected",
        "GET",
        "/api/v1/rejected",
        "settings",
        "Records that were not taken, by partition and offset. Of the same key and bytes only the newest: "
        "what was redriven and refused again stands once. `truncated`: older repeats may be among them",
        (("limit", "at most so many, 100 unless given"), ("after", "`next` of the page before")),
        statuses=(200, 422),
    ),
    Operation(
        "show_rejected",
        "GET",
        "/api/v1/rejected/{partition}/{offset}",
        "settings",
        "One record that was not taken, with its bytes as text or base64",
        statuses=(200, 404),
    ),
    Operation(
        "redrive",
        "POST",
        "/api/v1/rejected/{partition}/{offset}/redrive",
        "settings",
        "Put a rejected record's bytes onto the log again; `force` has an expired event counted",
        body="Redrive",
        statuses=(202, 404, *_WRITES),
    ),
    Operation("root", "GET", "/", "open", "What this is, and where its documents are"),
    Operation("live", "GET", "/livez", "open", "The process answers"),
    Operation(
        "ready",
        "GET",
        "/readyz",
        "open",
        "Whether the service does its work",
        (("verbose", "tells of every component"),),
        statuses=(200, 503),
    ),
    Operation("metrics", "GET", "/metrics", "open", "Prometheus metrics"),
    Operation("openapi", "GET", "/openapi.json", "open", "This document"),
)

_MEANINGS = {
    200: "done",
    201: "made",
    202: "the log has it",
    204: "the log has all of it",
    400: "not HTTP, not UTF-8, not gzip, or a parameter that the route does not know or can't mean",
    401: "no valid API key, nor a webhook's secret or signature",
    403: "the API key lacks the right, or is another organisation's",
    404: "there is none, or it is not yours",
    408: "the body did not arrive in time",
    409: "not possible as things are",
    413: "too large, or too many",
    415: "another content type or encoding",
    422: "nothing was taken: says which field",
    429: "too many requests of this key or secret: come back after Retry-After",
    503: "come back after Retry-After",
    507: "the disk is full: come back after Retry-After",
}
_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "glk_..., or a webhook's secret"},
    "secret": {"type": "apiKey", "in": "header", "name": SECRET_HEADER},
    "standard": {"type": "apiKey", "in": "header", "name": STANDARD_HEADERS[-1]},
    "openrouter": {"type": "apiKey", "in": "header", "name": OPENROUTER_HEADER},
}
# Other people's formats: their own documents describe them.
_FOREIGN: dict[str, tuple[str, ...]] = {
    "Anything": (JSON, NDJSON),
    "Traces": (JSON, "application/x-protobuf"),
    "CloudEvents": ("application/cloudevents+json", "application/cloudevents-batch+json", JSON),
}
_BODIES: tuple[type, ...] = (
    admin.OrganizationChange,
    organizations.UserMapping,
    organizations.KeyRequest,
    organizations.Revocation,
    rejected.Redrive,
)
_TEXT = {"type": "string"}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "genledger", "version": metrics.version()},
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": _SCHEMES,
        },
        "security": [{"key": []}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    parts = [part.strip("{}") for part in operation.path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in parts]
    parameters += [
        {"name": name, "in": "query", "description": meaning, "schema": _TEXT}
        for name, meaning in operation.query
    ]
    refused = (400,) if operation.need == "open" else (400, 401, 403, 429)
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "x-right": operation.need,
        "parameters": parameters,
        "responses": {str(s): _response(s) for s in sorted({*operation.statuses, *refused})},
    }
    if operation.need == "open":
        described["security"] = []
    if operation.need == "webhook":
        described["security"] = [{name: []} for name in _SCHEMES]
    if operation.body:
        described["requestBody"] = {
            "content": _content(operation.body),
            "required": operation.body not in ("Redrive", "Revocation"),
        }
    return described


def _response(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {"description": _MEANINGS[status]}
    if status >= 400:
        described["content"] = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return described


def _content(body: str) -> dict[str, Any]:
    if body in _FOREIGN:
        return {kind: {"schema": _foreign(kind)} for kind in _FOREIGN[body]}
    if body != "Events":
        return {JSON: {"schema": {"$ref": f"#/components/schemas/{body}"}}}
    event = {"$ref": "#/components/schemas/Event"}
    either = {"oneOf": [event, {"type": "array", "items": event}]}
    return {JSON: {"schema": either}, NDJSON: {"schema": {"type": "string"}}}


def _foreign(kind: str) -> dict[str, Any]:
    return {"type": ["object", "array"]} if kind.endswith("json") and kind != NDJSON else {"type": "string"}


def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(_BODIES, ref_template="#/components/schemas/{name}")
    error = {"code": _TEXT, "message": _TEXT, "field": _TEXT}
    event = event_schema()
    schemas["Event"] = {name: value for name, value in event.items() if not name.startswith("$")}
    schemas["Error"] = {
        "type": "object",
        "properties": {"error": {"type": "object", "properties": error, "required": list(error)}},
        "required": ["error"],
    }
    return schemas
