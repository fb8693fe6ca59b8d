"""Every route of the door in one table, and the OpenAPI 3.1 document made from it.

What bodies look like, asked and answered, is said by types: `shapes.py` has those of the answers.

The table also says what right a route asks for: a route that is not here asks for `read` when it reads and
for `settings` when it does anything else. And which parameters it knows: any other is refused, for a slip
such as ?organization= would else show everybody's figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

from streams import admin, metrics
from streams.gateway import manual, organizations, rejected, shapes
from streams.gateway.access import Need
from streams.gateway.items import JSON, NDJSON, PROTOBUF
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
    body: str | type = ""
    statuses: tuple[int, ...] = (200,)
    required: tuple[str, ...] = ()  # of the query's parameters
    returns: type | None = None  # the JSON body of what is done
    also: tuple[str, ...] = ()  # other content types of what is done
    beside: Mapping[int, type] = field(default_factory=dict)  # other bodies than an Error, by their status
    headers: tuple[tuple[str, str], ...] = ()


SMALL_WRITE = (408, 413, 415, 422, 503, 507)
_TAKES = (400, 408, 413, 415, 422, 503, 507)
# Where there were events and none was taken, the answer has an error and what became of each.
_NONE: Mapping[int, type] = {403: shapes.NothingTaken, 422: shapes.NothingTaken}
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
        statuses=(202, *_TAKES),
        returns=shapes.Verdict,
        beside=_NONE,
    ),
    Operation(
        "manual_record",
        "POST",
        manual.PATH,
        "write",
        "Put one call down by hand. It goes to the key's organisation, else to the one it names, else to "
        "`default`. 202 when the log has it",
        (("strict", "1 refuses a record that has unknown fields"),),
        manual.ManualRecord,
        statuses=(202, *_TAKES),
        returns=shapes.ManuallyRecorded,
        beside=_NONE,
        headers=(
            (manual.ID_HEADER, "its id, for who may have to send it again; manual-<uuid> unless given"),
        ),
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
        statuses=(200, 202, *_TAKES),
        returns=shapes.Verdict,
        beside=_NONE,
    ),
    Operation(
        "litellm_webhook",
        "POST",
        "/webhooks/litellm",
        "webhook",
        "LiteLLM's generic callback: one logging payload, an array, or NDJSON; rows of its spend log",
        _TAKING,
        "Anything",
        statuses=(202, *_TAKES),
        returns=shapes.Verdict,
        beside=_NONE,
    ),
    Operation(
        "standard_webhook",
        "POST",
        "/webhooks/standard",
        "webhook",
        "An event or any source's object, bare or in a Standard Webhooks envelope {type, timestamp, data}",
        _TAKING,
        "Anything",
        statuses=(202, *_TAKES),
        returns=shapes.Verdict,
        beside=_NONE,
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
        statuses=(200, *_TAKES),
        returns=shapes.Traced,
        also=(PROTOBUF,),
        beside=_NONE,
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
        statuses=(202, 204, *_TAKES),
        returns=shapes.Verdict,
        beside=_NONE,
    ),
    Operation(
        "explain",
        "GET",
        "/api/v1/generations/{id}",
        "read",
        "One generation: its winner, where it is counted, and every decision about it",
        statuses=(200, 404, 503),
        returns=shapes.Explained,
    ),
    Operation(
        "duplicate",
        "GET",
        "/api/v1/generations/{id}/duplicate",
        "read",
        "Whether a request of this model and cost is one that is known, within a millionth of a dollar",
        (
            ("model", "the model's name"),
            ("cost", "decimal text of dollars; left out is unknown"),
            ("org", "the organisation's id; any that the key may read unless given"),
        ),
        statuses=(200, 422, 503),
        returns=shapes.Compared,
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
        required=("month",),
        also=(NDJSON,),
    ),
    Operation(
        "change_organization",
        "POST",
        "/api/v1/organizations",
        "settings",
        "Create an organisation, or change some of its values from a date or an instant on",
        body=admin.OrganizationChange,
        statuses=(200, 201, 404, *SMALL_WRITE),
        returns=shapes.ValuesAndHistory,
    ),
    Operation(
        "list_organizations",
        "GET",
        "/api/v1/organizations",
        "settings",
        "All organisations that have settings",
        returns=shapes.AllOrganizations,
    ),
    Operation(
        "show_organization",
        "GET",
        "/api/v1/organizations/{id}",
        "settings",
        "An organisation's values, with their history",
        statuses=(200, 404),
        returns=shapes.ValuesAndHistory,
    ),
    Operation(
        "map_user",
        "POST",
        "/api/v1/users",
        "settings",
        "From a day on, whom the application knows a provider's user as",
        body=organizations.UserMapping,
        statuses=(200, *SMALL_WRITE),
        returns=shapes.MappedUser,
    ),
    Operation(
        "list_users",
        "GET",
        "/api/v1/users",
        "settings",
        "An organisation's mapped users",
        (("org", "the organisation's id"),),
        statuses=(200, 422),
        required=("org",),
        returns=shapes.AllUsers,
    ),
    Operation(
        "make_key",
        "POST",
        "/api/v1/keys",
        "settings",
        "A new API key; its secret is in this answer only. The first key closes an open service: when it is "
        "not an administrator's, one of those is made with it, under `administrator`",
        body=organizations.KeyRequest,
        statuses=(201, *SMALL_WRITE),
        returns=shapes.MadeKey,
    ),
    Operation(
        "list_keys",
        "GET",
        "/api/v1/keys",
        "settings",
        "All API keys, without their secrets",
        returns=shapes.AllKeys,
    ),
    Operation(
        "revoke_key",
        "POST",
        "/api/v1/keys/{id}/revoke",
        "settings",
        "End an API key, at once. 409 last_key for the last administrator's, unless it is forced",
        (("force", "1 ends the last administrator's key, too"),),
        organizations.Revocation,
        statuses=(200, 404, 409, *SMALL_WRITE),
        returns=shapes.ShownKey,
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
        returns=shapes.RejectedPage,
    ),
    Operation(
        "show_rejected",
        "GET",
        "/api/v1/rejected/{partition}/{offset}",
        "settings",
        "One record that was not taken, with its bytes as text or base64",
        statuses=(200, 404, 422),
        returns=shapes.RejectedBytes,
    ),
    Operation(
        "redrive",
        "POST",
        "/api/v1/rejected/{partition}/{offset}/redrive",
        "settings",
        "Put a rejected record's bytes onto the log again; `force` has an expired event counted",
        body=rejected.Redrive,
        statuses=(202, 404, 409, *SMALL_WRITE),
        returns=shapes.Redriven,
    ),
    Operation(
        "post_openings",
        "POST",
        "/api/v1/admin/openings",
        "settings",
        "Opening entries of a migration, an array or NDJSON: ids that are known already, and balances to "
        "begin with. All of a body is taken or none. The same row of a balance told again takes its place",
        body="Openings",
        statuses=(202, *_TAKES),
        returns=shapes.OpeningsTaken,
    ),
    Operation("root", "GET", "/", "open", "What this is, and where its documents are", returns=shapes.Root),
    Operation("live", "GET", "/livez", "open", "The process answers", returns=shapes.Live),
    Operation(
        "ready",
        "GET",
        "/readyz",
        "open",
        "Whether the service does its work",
        (("verbose", "tells of every component"),),
        statuses=(200, 503),
        returns=shapes.Ready,
        beside={503: shapes.Ready},
    ),
    Operation(
        "metrics",
        "GET",
        "/metrics",
        "open",
        "Prometheus metrics",
        also=("text/plain", "application/openmetrics-text"),
    ),
    Operation("openapi", "GET", "/openapi.json", "open", "This document", returns=dict),
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
    "Traces": (JSON, PROTOBUF),
    "CloudEvents": ("application/cloudevents+json", "application/cloudevents-batch+json", JSON),
}
_OPTIONAL = ("Redrive", "Revocation")
# Decimal values of a change, which are taken as JSON numbers, too.
_DECIMALS = ("markup", "monthly_limit")
_TEXT = {"type": "string"}
_REF = "#/components/schemas/{name}"
_LATER = (429, 503, 507)


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
            "schemas": _schemas(operations),
            "securitySchemes": _SCHEMES,
        },
        "security": [{"key": []}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    parts = [part.strip("{}") for part in operation.path.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}} for name in parts
    ]
    parameters += [
        {
            "name": name,
            "in": "query",
            "description": meaning,
            "schema": _TEXT,
            "required": name in operation.required,
        }
        for name, meaning in operation.query
    ]
    parameters += [
        {"name": name, "in": "header", "description": meaning, "schema": {**_TEXT, "minLength": 1}}
        for name, meaning in operation.headers
    ]
    refused = (400,) if operation.need == "open" else (400, 401, 403, 429)
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "x-right": operation.need,
        "parameters": parameters,
        "responses": {str(s): _response(operation, s) for s in sorted({*operation.statuses, *refused})},
    }
    if operation.need == "open":
        described["security"] = []
    if operation.need == "webhook":
        described["security"] = [{name: []} for name in _SCHEMES]
    if operation.body:
        optional = isinstance(operation.body, type) and operation.body.__name__ in _OPTIONAL
        described["requestBody"] = {"content": _content(operation.body), "required": not optional}
    return described


def _response(operation: Operation, status: int) -> dict[str, Any]:
    described: dict[str, Any] = {"description": _MEANINGS[status]}
    if status in _LATER and status not in operation.beside:
        described["headers"] = {
            "Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}
        }
    if status >= HTTPStatus.BAD_REQUEST:
        known = [_ref(shapes.Error)]
        if status in operation.beside:
            known.insert(0, _ref(operation.beside[status]))
        described["content"] = {JSON: {"schema": known[0] if len(known) == 1 else {"anyOf": known}}}
    elif status != HTTPStatus.NO_CONTENT:
        content: dict[str, Any] = {kind: {"schema": _TEXT} for kind in operation.also}
        if operation.returns is not None:
            content[JSON] = {"schema": _ref(operation.returns)}
        described["content"] = content
    return described


def _ref(kind: type) -> dict[str, Any]:
    return {"type": "object"} if kind is dict else {"$ref": _REF.format(name=kind.__name__)}


def _content(body: str | type) -> dict[str, Any]:
    if isinstance(body, type):
        return {JSON: {"schema": _ref(body)}}
    if body in _FOREIGN:
        return {kind: {"schema": _foreign(kind)} for kind in _FOREIGN[body]}
    if body == "Openings":
        entries = {"type": "array", "items": _ref(shapes.OpeningEntry), "minItems": 1}
        return {JSON: {"schema": entries}, NDJSON: {"schema": {"type": "string"}}}
    event = {"$ref": _REF.format(name="Event")}
    either = {"oneOf": [event, {"type": "array", "items": event}]}
    return {JSON: {"schema": either}, NDJSON: {"schema": {"type": "string"}}}


def _foreign(kind: str) -> dict[str, Any]:
    return {"type": ["object", "array"]} if kind.endswith("json") and kind != NDJSON else {"type": "string"}


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    kinds: dict[type, None] = {shapes.Error: None}
    for one in operations:
        found = (one.body, one.returns, *one.beside.values())
        kinds |= {kind: None for kind in found if isinstance(kind, type) and kind is not dict}
    if any(one.body == "Openings" for one in operations):
        kinds[shapes.OpeningEntry] = None
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    if change := schemas.get(admin.OrganizationChange.__name__):
        for name in _DECIMALS:
            change["properties"][name]["anyOf"].append({"type": "number"})
    event = event_schema()
    schemas["Event"] = {name: value for name, value in event.items() if not name.startswith("$")}
    return schemas
