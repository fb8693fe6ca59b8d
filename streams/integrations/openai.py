"""The calls of an OpenAI SDK's client, as events of the ledger: one line.

    client = metered(OpenAI(), ledger)

The same client comes back. `chat.completions.create` and `parse`, `responses.create` and `parse` are metered,
awaited or not, streamed or whole. What an event says is read by `streams.sources.usage`: the response's id,
model and usage, never what was asked or answered.

A stream tells its usage in its last chunk if asked to (`stream_options`): a stream of chat completions is
asked, and the chunk that comes of it is kept from a program that did not ask itself. A stream that ends
without a usage is recorded as an estimate of unknown cost: one request whose figures are awaited, never one
at 0 dollars. A call that fails is nobody's generation.
"""

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from streams.client import AsyncClient, Client
from streams.clock import monotonic_s
from streams.errors import BadEvent
from streams.sources import usage
from streams.sources.interface import How

OPENROUTER = "openrouter.ai"
METHODS = (
    ("chat", "completions", "create"),
    ("chat", "completions", "parse"),
    ("responses", "", "create"),
    ("responses", "", "parse"),
)
# Each makes another client of this one.
COPIES = ("copy", "with_options")
# What a server says that does not know `stream_options`: the call is made as the program wrote it.
REFUSED = (400, 422)
# The SDK's own mark of with_raw_response and with_streaming_response: what comes back is no answer yet.
RAW = "X-Stainless-Raw-Response"
_TOLD = ("id", "object", "model", "created", "created_at", "provider", "user")

Sdk = TypeVar("Sdk")

_log = logging.getLogger("genledger.client")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """What one SDK's client is metered by."""

    ledger: Client
    user: str
    organization: str
    priced: bool
    include_usage: bool

    def record(self, call: "Call") -> None:
        """The call's event, once. Whatever is wrong, the program's own call goes on."""
        try:
            event = call.event(self)
            if event is not None:
                self.ledger.record_json(event)
        except Exception as error:  # noqa: BLE001 -- metering must never break what is metered
            # A BadEvent names fields and bounds, never what was asked or answered.
            why = str(error) if isinstance(error, BadEvent) else type(error).__name__
            _log.error("a call was not recorded: %s", why)

    async def record_async(self, call: "Call") -> None:
        """The same without holding up the event loop."""
        if self.ledger.durable:
            await asyncio.to_thread(self.record, call)
        else:
            self.record(call)


def metered(
    client: Sdk,
    ledger: Client | AsyncClient,
    *,
    user: str = "",
    organization: str = "",
    priced: bool | None = None,
    include_usage: bool = True,
) -> Sdk:
    """The client, its calls recorded. `user` stands where a call names none.

    `priced`: whether `usage.cost` is dollars; unless given, when the client's address is OpenRouter's.
    """
    if priced is None:
        host = urlsplit(str(getattr(client, "base_url", ""))).hostname or ""
        priced = host == OPENROUTER or host.endswith(f".{OPENROUTER}")
    meter = Meter(
        ledger=ledger.client if isinstance(ledger, AsyncClient) else ledger,
        user=user,
        organization=organization,
        priced=priced,
        include_usage=include_usage,
    )
    wrap = _wrapped_async if inspect.iscoroutinefunction(getattr(client, "close", None)) else _wrapped
    for first, second, name in METHODS:
        resource = getattr(client, first, None)
        resource = getattr(resource, second, None) if second else resource
        method = getattr(resource, name, None)
        if method is not None and not hasattr(method, "metered"):
            setattr(resource, name, _marked(method, wrap(method, meter)))
    for name in COPIES:
        if hasattr(client, name):
            setattr(client, name, _metered_copy(getattr(client, name), meter))
    return client


def _metered_copy(copy: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    def made(*args: Any, **changes: Any) -> Any:
        options = {name: getattr(meter, name) for name in meter.__struct_fields__ if name != "ledger"}
        return metered(copy(*args, **changes), meter.ledger, **options)

    return functools.wraps(copy)(made)


class Call:
    """One call, from its request to what is known at its end."""

    def __init__(self, request: Mapping[str, Any], *, hides_usage: bool) -> None:
        self._user = request.get("user") or request.get("safety_identifier")
        self._hides_usage = hides_usage
        self._began_s = monotonic_s()
        self._seen: Any = None
        self._told: Any = None
        self._is_whole = False
        self._is_recorded = False

    def ended(self, response: Any) -> None:
        """A whole response."""
        self._seen = response
        self.stream_ended()

    def saw(self, chunk: Any) -> bool:
        """A chunk of a stream; whether the program is to see it."""
        response = getattr(chunk, "response", None) or chunk
        if not getattr(response, "model", None):
            return True
        self._seen = response
        if getattr(response, "usage", None) is None:
            return True
        self._told = response
        return not self._hides_usage or bool(getattr(chunk, "choices", True))

    def stream_ended(self) -> None:
        """There is no more to come."""
        self._is_whole = True

    def event(self, meter: Meter) -> bytes | None:
        """What is recorded: nothing a second time, nor of what was no response."""
        if self._is_recorded:
            return None
        self._is_recorded = True
        response = self._told or self._seen
        if not getattr(response, "id", None) or not getattr(response, "model", None):
            return None
        told = getattr(response, "usage", None) is not None
        around = {
            "organization": meter.organization or None,
            "user": self._user or meter.user or None,
            "latency_ms": round((monotonic_s() - self._began_s) * 1000),
            "authority": None if told and self._is_whole else "estimate",
        }
        if not told:
            given = {name: value for name, value in around.items() if value is not None}
            return _encode({"id": response.id, "model": response.model, "source": usage.NAME, **given})
        fields = _fields.decode(_encode({**around, "response": _told(response, priced=meter.priced)}))
        for event in usage.events(fields, How()):
            if isinstance(event, BadEvent):
                raise event
            return event
        return None


def _told(response: Any, *, priced: bool) -> dict[str, Any]:
    """The response without what was answered."""
    kept = {name: getattr(response, name, None) for name in _TOLD}
    figures = response.usage.model_dump(mode="json", warnings=False)
    if not priced:
        figures = {name: value for name, value in figures.items() if name not in ("cost", "cost_details")}
    reasons = [getattr(one, "finish_reason", None) for one in getattr(response, "choices", None) or ()]
    choices = [{"finish_reason": reason} for reason in reasons if isinstance(reason, str)]
    return {**kept, "usage": figures, "choices": choices, "status": getattr(response, "status", None)}


class _Metered:
    """A stream of the SDK; what is not metering is the stream's own."""

    def __init__(self, stream: Any, meter: Meter, call: Call) -> None:
        self._stream = stream
        self._meter = meter
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __del__(self) -> None:
        # Dropped before its end.
        self._meter.record(self._call)


class Stream(_Metered):
    """One that is read in a loop."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            while True:
                chunk = next(self._stream)
                if self._call.saw(chunk):
                    return chunk
        except StopIteration:
            self._call.stream_ended()
            self._meter.record(self._call)
            raise
        except BaseException:
            self._meter.record(self._call)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Read no further: what has come is recorded."""
        try:
            self._stream.close()
        finally:
            self._meter.record(self._call)


class AsyncStream(_Metered):
    """The same, awaited."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            while True:
                chunk = await anext(self._stream)
                if self._call.saw(chunk):
                    return chunk
        except StopAsyncIteration:
            self._call.stream_ended()
            await self._meter.record_async(self._call)
            raise
        except BaseException:
            # Cancelled, perhaps: then nothing can be awaited any more.
            self._meter.record(self._call)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Read no further: what has come is recorded."""
        try:
            await self._stream.close()
        finally:
            await self._meter.record_async(self._call)


def _wrapped(method: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    def create(*args: Any, **request: Any) -> Any:
        if _is_raw(request):
            return method(*args, **request)
        asked = _asked_for_usage(method, meter, request)
        call = Call(request, hides_usage=asked is not None)
        try:
            found = method(*args, **(asked or request))
        except Exception as error:
            if asked is None or getattr(error, "status_code", None) not in REFUSED:
                raise
            found = method(*args, **request)
        if request.get("stream"):
            return Stream(found, meter, call)
        call.ended(found)
        meter.record(call)
        return found

    return create


def _wrapped_async(method: Callable[..., Any], meter: Meter) -> Callable[..., Any]:
    async def create(*args: Any, **request: Any) -> Any:
        if _is_raw(request):
            return await method(*args, **request)
        asked = _asked_for_usage(method, meter, request)
        call = Call(request, hides_usage=asked is not None)
        try:
            found = await method(*args, **(asked or request))
        except Exception as error:
            if asked is None or getattr(error, "status_code", None) not in REFUSED:
                raise
            found = await method(*args, **request)
        if request.get("stream"):
            return AsyncStream(found, meter, call)
        call.ended(found)
        await meter.record_async(call)
        return found

    return create


def _is_raw(request: Mapping[str, Any]) -> bool:
    """Whether the program is to read the answer itself: nothing is metered, nothing else is asked for."""
    return RAW in (request.get("extra_headers") or ())


def _asked_for_usage(method: Any, meter: Meter, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request with a wish for its usage, if it streams chat completions and does not say."""
    is_chat = "completions" in type(getattr(method, "__self__", None)).__name__.lower()
    if not (is_chat and meter.include_usage and request.get("stream")) or request.get("stream_options"):
        return None
    return {**request, "stream_options": {"include_usage": True}}


def _marked(method: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    made = functools.wraps(method)(wrapper)
    made.metered = True  # type: ignore[attr-defined]
    return made
