"""POST /webhooks/*, /v1/traces and /api/v1/events: other people's bodies in, our events onto the log.

    body -> items -> the first source that knows an item -> its events -> the road of all events (events.py)

Who sends is found out by `signers.py`: the headers before the body is read, the signature after. Prompts and
answers come along in these bodies: nothing of them is kept, logged or repeated in an answer.

| route                 | answers                                                                          |
| --------------------- | -------------------------------------------------------------------------------- |
| /webhooks/*           | as /api/v1/generations: 202, or 422 when there were events and none was taken    |
| /v1/traces            | as OTLP/HTTP: 200 with `{}`, or with partialSuccess; 422 when none was taken     |
| /api/v1/events        | as CloudEvents over HTTP: 204 when all were taken; 202 says which were not; 422  |
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from streams import sources
from streams.errors import BadEvent, SettingError
from streams.gateway import body as bodies
from streams.gateway import items
from streams.gateway.answers import Refusal, answer
from streams.gateway.events import SLICE_EVENTS, Road, Taken, answered, content_type_of, is_strict
from streams.gateway.items import JSON, NDJSON, PROTOBUF, Item
from streams.gateway.signers import Signers
from streams.generation import ORGANIZATION_REQUIRED
from streams.settings import Settings
from streams.sources import cloudevents, otlp_protobuf
from streams.sources.interface import Fields, How, Parsed, Source

CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENTS = "application/cloudevents-batch+json"
SPECVERSION = "ce-specversion"
TEST_HEADER = "X-Test-Connection"
# What a probe may have as its body.
NOTHING = (b"", b"{}", b"[]")
UNKNOWN = "unknown"
UNKNOWN_BODY = "is no body that this endpoint knows: see docs/sources.md for what it takes"
# What is larger is parsed beside the others.
PARSED_BYTES_MAX = 1 << 18


@dataclass(frozen=True, slots=True)
class Spans:
    """An OTLP request in protobuf."""

    body: bytes


Part = Item | Fields | Spans
Parts = Sequence[tuple[int, Part]]

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: whose secrets, which sources, and what bodies."""

    source: str
    types: tuple[str, ...] = (JSON, NDJSON)
    is_envelope: bool = False
    is_binary: bool = False  # whether headers may be a part of what is sent

    @property
    def sources(self) -> Sequence[Source]:
        """Who may know its bodies."""
        return sources.BY_ROUTE[self.source]


OPENROUTER = Route("openrouter")
LITELLM = Route("litellm")
STANDARD = Route("standard", is_envelope=True)
TRACES = Route("opentelemetry", (JSON, PROTOBUF))
EVENTS = Route("cloudevents", (CLOUDEVENT, CLOUDEVENTS, JSON), is_binary=True)


class Webhooks:
    """The handlers."""

    def __init__(self, road: Road, room: bodies.Room, signers: Signers, settings: Settings) -> None:
        self._road = road
        self._room = room
        # Bodies of senders who have proved nothing yet leave half of the room to those who have.
        self._unproved = bodies.Room(
            max(1, settings.requests_max // 2), settings.bodies_bytes_max // 2, within=room
        )
        self._signers = signers
        self._settings = settings
        try:
            mapping = cloudevents.mapping_of(settings.cloudevents_mapping)
        except ValueError as error:
            raise SettingError(f"GENLEDGER_CLOUDEVENTS_MAPPING: {error}") from None
        self._how = How(litellm_organization=settings.litellm_organization, cloudevents=mapping)

    def handlers(self) -> Mapping[str, Handler]:
        """By the names of their operations."""
        return {
            "openrouter_webhook": self.openrouter,
            "litellm_webhook": self.litellm,
            "standard_webhook": self.standard,
            "traces": self.traces,
            "cloud_events": self.cloud_events,
        }

    async def openrouter(self, request: web.Request) -> web.Response:
        """OpenRouter's bodies, and its probe: an empty one with X-Test-Connection."""
        is_test = request.headers.get(TEST_HEADER, "").lower() == "true"
        return answered(await self._taken(request, OPENROUTER, is_test=is_test), 200 if is_test else 202)

    async def litellm(self, request: web.Request) -> web.Response:
        """LiteLLM's generic callback."""
        return answered(await self._taken(request, LITELLM))

    async def standard(self, request: web.Request) -> web.Response:
        """Any source's object or our own, under a Standard Webhooks envelope or bare."""
        return answered(await self._taken(request, STANDARD))

    async def traces(self, request: web.Request) -> web.Response:
        """OTLP/HTTP."""
        taken = await self._taken(request, TRACES)
        if taken.is_refused:
            return answered(taken)
        rejected = len(taken.rejected)
        why = f"{taken.rejected[0]['field']} {taken.rejected[0]['error']}".strip() if rejected else ""
        if request.content_type == PROTOBUF:
            return web.Response(body=otlp_protobuf.answer_of(rejected, why), content_type=PROTOBUF)
        partial = {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": why}}
        return answer(200, partial if rejected else {})

    async def cloud_events(self, request: web.Request) -> web.Response:
        """CloudEvents 1.0: structured, in a batch, or binary."""
        taken = await self._taken(request, EVENTS)
        return answered(taken) if taken.rejected else web.Response(status=204)

    async def _taken(self, request: web.Request, route: Route, *, is_test: bool = False) -> Taken:
        """A request as far as the log, or the refusal that fits."""
        organization = _organization_asked(request)
        sender = await self._signers.at_the_door(request, route.source, organization)
        content_type = (
            JSON if is_test and not request.can_read_body else content_type_of(request, route.types)
        )
        if content_type == PROTOBUF and not otlp_protobuf.available():
            raise Refusal(415, "unsupported_type", otlp_protobuf.NEEDED, close=True)
        with (self._room if sender.caller else self._unproved).seat() as seat:
            body = await bodies.read(request, self._settings, seat)
            caller = request["caller"] = await self._signers.behind(sender, body)
            parts: Parts
            if is_test and body.strip() in NOTHING:
                parts = ()
            elif route.is_binary and content_type == JSON and SPECVERSION in request.headers:
                parts = [(0, _binary(request.headers, body, is_signed=sender.caller is None))]
            else:
                parts = self._parts(body, content_type)
            how = msgspec.structs.replace(self._how, organization=caller.organization, otherwise=organization)
            found, names = await self._parsed(parts, route, how)
            taken = await self._road.take(
                found, caller, strict=is_strict(request), otherwise=organization, sources=names
            )
            for refusal in taken.rejected:
                if refusal["error"] == ORGANIZATION_REQUIRED:
                    refusal["error"] += ", or as ?org="  # of these routes only
            return taken

    def _parts(self, body: bytes, content_type: str) -> Parts:
        if content_type == PROTOBUF:
            return [(0, Spans(body))]
        kind = NDJSON if content_type == NDJSON else JSON
        return items.split(body, kind, self._settings.items_max, are_ours=False)

    async def _parsed(
        self, parts: Parts, route: Route, how: How
    ) -> tuple[Sequence[tuple[int, Parsed]], Mapping[int, str]]:
        """The events in all parts, and the name of each part's source."""
        found: list[tuple[int, Parsed]] = []
        names: dict[int, str] = {}
        for number, (place, part) in enumerate(parts):
            if number % SLICE_EVENTS == SLICE_EVENTS - 1:
                await asyncio.sleep(0)
            if _size_bytes(part) > PARSED_BYTES_MAX:
                names[place], events = await asyncio.to_thread(events_of, part, route, how)
            else:
                names[place], events = events_of(part, route, how)
            found += ((place, event) for event in events)
            if len(found) > self._settings.items_max:
                raise items.too_many(self._settings.items_max)
        return found, names


def events_of(part: Part, route: Route, how: How) -> tuple[str, Sequence[Parsed]]:
    """The events in a part of a body, and the name of the source that knew it. Pure."""
    try:
        fields = _fields_of(part)
        if route.is_envelope:
            fields = _unwrapped(fields)
        for source in route.sources:
            if source.matches(fields):
                return source.NAME, source.events(fields, how)
    except BadEvent as error:
        return UNKNOWN, [error]
    return UNKNOWN, [BadEvent("", UNKNOWN_BODY, "unknown_body")]


def _size_bytes(part: Part) -> int:
    if isinstance(part, Spans):
        return len(part.body)
    return len(memoryview(part)) if isinstance(part, bytes | msgspec.Raw) else 0


def _fields_of(part: Part) -> Fields:
    if isinstance(part, Spans):
        fields = otlp_protobuf.fields_of(part.body)
        if isinstance(fields, BadEvent):
            raise fields
        return fields
    if not isinstance(part, bytes | msgspec.Raw):
        return part
    try:
        return _object.decode(part)
    except msgspec.ValidationError:
        raise BadEvent("", "must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEvent("", f"not JSON in UTF-8: {error}") from None


def _unwrapped(fields: Fields) -> Fields:
    """What a Standard Webhooks envelope holds; anything else as it is."""
    if not {"type", "timestamp", "data"} <= fields.keys() or "specversion" in fields:
        return fields
    return _fields_of(fields["data"])


def _binary(headers: Mapping[str, str], body: bytes, *, is_signed: bool) -> Fields:
    """A CloudEvent whose attributes are headers, `ce-id` and so on."""
    if is_signed:
        # Who has seen one request could send it again as another event.
        message = f"a signature does not cover ce- headers: send {CLOUDEVENT}"
        raise Refusal(422, "invalid", message, SPECVERSION)
    items.check_text(body)
    given = {name.lower(): value for name, value in headers.items() if name.lower().startswith("ce-")}
    try:
        fields = {name[3:]: msgspec.Raw(_text.encode(unquote(value))) for name, value in given.items()}
    except UnicodeEncodeError:
        raise Refusal(400, "not_utf8", "the ce- headers must be UTF-8", close=True) from None
    return {**fields, "data": msgspec.Raw(body.strip() or b"null")}


def _organization_asked(request: web.Request) -> str:
    """`?org=`, once and not empty."""
    asked = request.query.getall("org", [])
    if len(asked) > 1 or "" in asked:
        raise Refusal(400, "bad_request", "must be given once, and not be empty", "org", close=True)
    return asked[0] if asked else ""
