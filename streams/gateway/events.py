"""POST /api/v1/generations: events in, an answer for each, 202 only when the log has them.

An event is decoded strictly, looked at for what only the door knows (who sends it, what they may claim,
what time it is) and put on the log as it was published, less what is not ours. The loop over the events is
the hot path: some microseconds each, with a turn for everybody else every few hundred. `Road` is what all
routes that take events have in common: `webhooks.py` brings it what the sources made of other bodies.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from streams import faultpoints, generation, metrics, times, topics
from streams.clock import Clock
from streams.directory import Directory
from streams.errors import BadEvent
from streams.gateway import body as bodies
from streams.gateway import items
from streams.gateway.access import Caller
from streams.gateway.answers import FIELD_LENGTH_MAX, MESSAGE_LENGTH_MAX, Refusal, answer, error_of
from streams.gateway.intake import Intake
from streams.gateway.items import Item
from streams.log.interface import Message
from streams.log.partition import partition_of
from streams.settings import Settings

IGNORED_NAMES_MAX = 50
SLICE_EVENTS = 256
SOURCE = "native"
NATIVE: Mapping[int, str] = {}
NOTHING: Mapping[str, Any] = {}
# Reasons are labels of a metric: one that is not here counts as "invalid" where a field is to blame, and as
# "undecodable" where the bytes are no JSON object at all.
REASONS = frozenset(("unknown_field", "forbidden", "early", "organization", "unknown_body"))

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Terms:
    """What one request's events are judged by."""

    organization: str  # the caller's; "" for all
    authorities: frozenset[str]
    latest_ns: int
    partitions: int
    strict: bool
    accepts: Callable[[str], bool] | None  # None: every organisation
    otherwise: str = ""  # the organisation of an event that names none, where the caller has none


@dataclass(slots=True)
class Ignored:
    """Fields that are not ours: the first names, and how many there were."""

    names: dict[str, None] = field(default_factory=dict)
    count: int = 0

    def add(self, names: Sequence[str]) -> None:
        """Remember the names, a bounded number of them."""
        self.count += len(names)
        for name in names:
            if len(self.names) < IGNORED_NAMES_MAX:
                self.names[name[:FIELD_LENGTH_MAX]] = None


def message_of(item: Item, terms: Terms, ignored: Ignored) -> Message:
    """An item as it goes onto the log; `BadEvent` says why it does not. Pure."""
    try:
        wire = generation.decode_wire(item)
    except BadEvent as error:
        if error.reason != "unknown_field" or terms.strict:
            raise
        known, names = generation.without_unknown_fields(item)
        wire = generation.decode_wire(known)
        ignored.add(names)
    event = generation.checked(wire, terms.organization or terms.otherwise)
    if terms.organization and event.organization != terms.organization:
        raise BadEvent("organization", "is not the API key's", "forbidden")
    if event.authority not in terms.authorities:
        name = "void" if event.void else "authority"
        raise BadEvent(name, "is above the API key's rights", "forbidden")
    if event.created_ns is not None and event.created_ns > terms.latest_ns:
        raise BadEvent("created_at", "is more than 24 hours ahead", "early")
    if terms.accepts is not None and not terms.accepts(event.organization):
        raise BadEvent("organization", "is unknown, and unknown ones are rejected", "organization")
    # What was typed is what is written: it has our fields only, and decodes to `event` again.
    wire.organization = event.organization
    key = event.id.encode()
    return Message(
        topics.GENERATIONS, partition_of(key, terms.partitions), key, _encode(wire), generation.SCHEMA_HEADERS
    )


def rejection_of(place: int, error: BadEvent) -> dict[str, Any]:
    """One event's refusal in the answer."""
    reason = error.reason if error.reason in REASONS else "invalid" if error.field else "undecodable"
    return {
        "index": place,
        "field": error.field[:FIELD_LENGTH_MAX],
        "error": error.error[:MESSAGE_LENGTH_MAX],
        "code": reason,
    }


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a request's events."""

    accepted: int
    rejected: list[dict[str, Any]]
    ignored: Ignored

    @property
    def is_refused(self) -> bool:
        """Whether there were events, and not one was taken."""
        return not self.accepted and bool(self.rejected)


class Road:
    """From items to the log."""

    def __init__(
        self, intake: Intake, directory: Directory, settings: Settings, clock: Clock, partitions: int
    ) -> None:
        self._intake = intake
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._partitions = partitions

    async def take(
        self,
        found: Sequence[tuple[int, Item | BadEvent]],
        caller: Caller,
        *,
        strict: bool,
        otherwise: str = "",
        sources: Mapping[int, str] = NATIVE,
    ) -> Taken:
        """Judge every item, and put what is good on the log. `sources` are the items' by their places."""
        messages, rejected, ignored = await judge(found, self._terms(caller, strict, otherwise))
        if messages:
            faultpoints.reached("event-received")
            await self._intake.append(messages)
            faultpoints.reached("event-logged")
        count(len(messages), rejected, sources)
        return Taken(len(messages), rejected, ignored)

    def _terms(self, caller: Caller, strict: bool, otherwise: str) -> Terms:
        known = self._directory.organization
        reject = self._settings.unknown_organizations == "reject"
        return Terms(
            organization=caller.organization,
            authorities=caller.authorities,
            latest_ns=self._clock() * times.MS_NS + generation.EARLY_NS_MAX,
            partitions=self._partitions,
            strict=strict,
            accepts=(lambda name: known(name) is not None) if reject else None,
            otherwise=otherwise,
        )


class Events:
    """The route's handler."""

    def __init__(self, road: Road, room: bodies.Room, settings: Settings) -> None:
        self._road = road
        self._room = room
        self._settings = settings

    async def post(self, request: web.Request) -> web.Response:
        """Take what is good, say what is not."""
        content_type = content_type_of(request, (items.JSON, items.NDJSON))
        with self._room.seat() as seat:
            body = await bodies.read(request, self._settings, seat)
            found = items.split(body, content_type, self._settings.items_max)
            return answered(await self._road.take(found, request["caller"], strict=is_strict(request)))


def is_strict(request: web.Request) -> bool:
    """Whether unknown fields are to be refused."""
    return request.query.get("strict", "") in ("1", "true")


async def judge(
    found: Sequence[tuple[int, Item | BadEvent]], terms: Terms
) -> tuple[list[Message], list[dict[str, Any]], Ignored]:
    """Every item's message or refusal, in slices, so that a large request delays nobody for long."""
    messages: list[Message] = []
    rejected: list[dict[str, Any]] = []
    ignored = Ignored()
    for start in range(0, len(found), SLICE_EVENTS):
        if start:
            await asyncio.sleep(0)
        for place, item in found[start : start + SLICE_EVENTS]:
            try:
                if isinstance(item, BadEvent):
                    raise item
                messages.append(message_of(item, terms, ignored))
            except BadEvent as error:
                rejected.append(rejection_of(place, error))
    return messages, rejected, ignored


def count(accepted: int, rejected: Sequence[dict[str, Any]], sources: Mapping[int, str]) -> None:
    """Tell the metrics."""
    if accepted:
        metrics.RECORDS.labels("gateway", "accepted").inc(accepted)
    for refusal in rejected:
        metrics.EVENTS_REJECTED.labels(sources.get(refusal["index"], SOURCE), refusal["code"]).inc()


def answered(taken: Taken, status: int = 202, more: Mapping[str, Any] = NOTHING) -> web.Response:
    """The answer: what was taken, what was not, and why; `more` of what was taken."""
    rejected = taken.rejected
    body: dict[str, Any] = {
        "accepted": taken.accepted,
        "rejected": rejected,
        "ignored_fields": list(taken.ignored.names),
        "ignored_count": taken.ignored.count,
    }
    if not taken.is_refused:
        return answer(status, {**body, **more})
    first = rejected[0]
    forbidden = all(refusal["code"] == "forbidden" for refusal in rejected)
    message = f"{first['field']} {first['error']}".strip() if len(rejected) == 1 else "no event was taken"
    body |= error_of("forbidden" if forbidden else "invalid", message, first["field"])
    return answer(403 if forbidden else 422, body)


def content_type_of(request: web.Request, wanted: Sequence[str]) -> str:
    """The body's type, one of those wanted; 415 for any other, or none."""
    given = request.headers.getall("Content-Type", [])
    charset = (request.charset or "utf-8").lower()
    if len(given) != 1 or request.content_type not in wanted or charset not in ("utf-8", "utf8", "us-ascii"):
        raise Refusal(
            415, "unsupported_type", f"Content-Type must be {' or '.join(wanted)}, in UTF-8", close=True
        )
    return request.content_type
