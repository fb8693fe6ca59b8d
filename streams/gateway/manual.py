"""POST /api/v1/admin/usage/manual-record: one call put down by hand, on the same road as any event.

    {"model": "gpt-4", "tokens": 1000, "cost": 0.02}       202 {"accepted": 1, "id": "manual-...", ...}

It goes to the key's organisation, else to the one that it names, else to `default`. The header
Idempotency-Key is its id, for who may have to send it again; without one it gets an id of its own.
"""

from collections.abc import Mapping
from uuid import uuid4

import msgspec
from aiohttp import web

from streams import generation
from streams.errors import BadEvent
from streams.gateway import body as bodies
from streams.gateway import items
from streams.gateway.events import Road, answered, content_type_of, is_strict
from streams.gateway.items import Item
from streams.settings import Settings

PATH = "/api/v1/admin/usage/manual-record"
ID_HEADER = "Idempotency-Key"
ORGANIZATION = "default"
SOURCE = "manual"

# A record's fields, and what they are called in an event.
_FIELDS: Mapping[str, str] = {
    "model": "model",
    "tokens": "total_tokens",
    "cost": "cost",
    "organization": "organization",
    "user": "user",
    "created_at": "created_at",
}
_NAMES = {theirs: ours for ours, theirs in _FIELDS.items()} | {"id": ID_HEADER}

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ManualRecord(msgspec.Struct, kw_only=True):
    """What was used, in tokens and dollars; a cost that is left out is unknown."""

    model: str
    tokens: generation.Tokens
    cost: str | float | None = None
    organization: str | None = None
    user: str | None = None
    created_at: str | None = None


class Manual:
    """The route's handler."""

    def __init__(self, road: Road, room: bodies.Room, settings: Settings) -> None:
        self._road = road
        self._room = room
        self._settings = settings

    async def post(self, request: web.Request) -> web.Response:
        """Take it, or say which field is wrong."""
        content_type_of(request, (items.JSON,))
        with self._room.seat() as seat:
            body = await bodies.read(request, self._settings, seat)
            [(_, item)] = items.split(body, items.JSON, 1)
            id, ignored = "", list[str]()
            found: bytes | BadEvent
            try:
                id = _id_of(request)
                found, ignored = event_of(item, id, strict=is_strict(request))
            except BadEvent as error:
                found = error
            taken = await self._road.take(
                [(0, found)], request["caller"], strict=True, otherwise=ORGANIZATION, sources={0: SOURCE}
            )
        for refusal in taken.rejected:
            refusal["field"] = _NAMES.get(refusal["field"], refusal["field"])
        taken.ignored.add(ignored)
        return answered(taken, more={"id": id})


def _id_of(request: web.Request) -> str:
    given = request.headers.getall(ID_HEADER, [])
    if not given:
        return f"manual-{uuid4()}"
    if len(given) > 1:
        raise BadEvent(ID_HEADER, "must be given once")
    try:
        given[0].encode()
    except UnicodeEncodeError:
        raise BadEvent(ID_HEADER, "must be UTF-8") from None
    return given[0]


def event_of(item: Item, id: str, *, strict: bool) -> tuple[bytes, list[str]]:
    """A record as an event of ours, and the names of the fields that are none of it. Pure.

    >>> event_of(b'{"model":"m","tokens":7,"by":"me"}', "manual-1", strict=False)[1]
    ['by']
    """
    try:
        fields = _object.decode(item)
    except msgspec.ValidationError:
        raise BadEvent("", "must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEvent("", f"not JSON in UTF-8: {error}", "undecodable") from None
    ignored = [name for name in fields if name not in _FIELDS]
    if strict and ignored:
        raise BadEvent(ignored[0], "is not a field of a manual record", "unknown_field")
    if bytes(fields.get("tokens", b"null")) == b"null":
        raise BadEvent("tokens", "is required")
    event: dict[str, object] = {_FIELDS[name]: raw for name, raw in fields.items() if name in _FIELDS}
    return msgspec.json.encode({**event, "id": id, "source": SOURCE}), ignored
