"""One provider's API with one key, asked politely. An effect: the only file of the sync that speaks HTTP.

    provider = Provider(session, settings, key, management_key)      # anew for each run
    newest = await provider.page(0, 100)                             # the list route, where there is one
    data = await provider.generation("gen-1")                        # None: it does not have it, or not yet
    rows = await provider.activity("2026-11-20")

Each answer is read as text, so that no cost goes through a float, and up to a bound. What may pass
(429, 5xx, a broken connection, a timeout) is tried again, with a pause that doubles; a Retry-After is never
undercut: where it asks for more patience than a run has, the run ends. What does not pass is a
`ProviderError` at once, and its text never has the key in it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from streams import money, times
from streams.clock import monotonic_s, now_ms
from streams.errors import GenledgerError
from streams.settings import Settings
from streams.sync.activity import Activity

ANSWER_BYTES_MAX = 33_554_432
RETRIES_MAX = 100  # of all requests of a run
WAIT_S_MAX = 60.0  # the longest single pause that a run makes
PATIENCE_S_MAX = 300.0  # all its pauses together
BACKOFF_S = 0.5
AGAIN = frozenset({408, 425, 429})
GENERATION = "/generation"
RIGHT = "is GENLEDGER_PROVIDER_URL right?"

Kind = Literal["key", "limited", "unreachable", "answer"]
Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")


class ProviderError(GenledgerError):
    """The provider can't be read now. `kind` is one of four words; `retry_after_s` is 0 if it named no time.

    key: it refuses the key. limited: too many requests. unreachable: no answer, or a failure of its own.
    answer: it answered, and not as its documentation says.
    """

    def __init__(self, kind: Kind, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_s = retry_after_s


class _Row(msgspec.Struct):
    date: str
    model: str
    requests: int
    usage: msgspec.Raw
    model_permaslug: str | None = None
    provider_name: str | None = None
    byok_usage_inference: msgspec.Raw = msgspec.Raw(b"0")
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Rows(msgspec.Struct):
    data: list[_Row]


class _List(msgspec.Struct):
    data: list[msgspec.Raw]


class _One(msgspec.Struct):
    data: msgspec.Raw


_list = msgspec.json.Decoder(_List | list[msgspec.Raw])
_one = msgspec.json.Decoder(_One)
_rows = msgspec.json.Decoder(_Rows)


class _Passing(Exception):
    """What may be gone at the next try. `wait_s` is what the provider asked for."""

    def __init__(self, kind: Kind, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.kind = kind
        self.wait_s = wait_s


class Provider:
    """One key's view of the provider, for the length of a run."""

    def __init__(
        self,
        session: ClientSession,
        settings: Settings,
        key: str,
        management_key: str = "",
        sleep: Sleep = asyncio.sleep,
        clock_s: Callable[[], float] = monotonic_s,
    ) -> None:
        self._session = session
        self._settings = settings
        self._key = key.strip()
        self._management_key = management_key.strip()
        self._sleep = sleep
        self._clock_s = clock_s
        self._free_s = 0.0  # when the next request may be sent
        self._retries_left = RETRIES_MAX
        self._patience_s = PATIENCE_S_MAX

    @property
    def list_name(self) -> str:
        """Which list `page` reads: another key, route or provider has another one. It tells none of them."""
        settings = self._settings
        what = f"{settings.provider_url}\n{settings.provider_list}\n{self._key}"
        return blake2b(what.encode(), digest_size=8).hexdigest()

    @property
    def has_management_key(self) -> bool:
        """Whether there is a management key."""
        return bool(self._management_key)

    async def page(self, offset: int, limit: int) -> Sequence[msgspec.Raw]:
        """A page of the list, newest first; empty behind its end."""
        path = self._settings.provider_list
        params = {"limit": str(limit), "offset": str(offset)}
        answer = await self._get(path, params, self._key)
        if answer is None:
            settings = "GENLEDGER_PROVIDER_URL and GENLEDGER_PROVIDER_LIST"
            why = (
                f"the provider has no route {self._shown(path)} that lists generations: are {settings} right?"
            )
            raise ProviderError("answer", why)
        found = _decoded(_list, answer, path)
        return found.data if isinstance(found, _List) else found

    async def generation(self, id: str) -> msgspec.Raw | None:
        """The provider's record of one generation; None when it does not have it, or not yet."""
        answer = await self._get(GENERATION, {"id": id}, self._key)
        return None if answer is None else _decoded(_one, answer, GENERATION).data

    async def activity(self, day: str = "") -> Sequence[Activity]:
        """A completed UTC day by model and endpoint; without a day all that the provider keeps."""
        answer = await self._get("/activity", {"date": day} if day else {}, self._management_key)
        if answer is None:
            raise ProviderError("answer", f"the provider has no route {self._shown('/activity')}: {RIGHT}")
        return [_activity(row) for row in _decoded(_rows, answer, "/activity").data]

    async def _get(self, path: str, params: Mapping[str, str], key: str) -> bytes | None:
        """The answer's body, or None for a 404, after as many tries as it takes and may take."""
        if not key or not key.isascii() or not key.isprintable():
            raise ProviderError("key", "the provider's key is empty, or has characters that no key has")
        for number in range(1, self._settings.provider_tries_max + 1):
            await self._turn()
            try:
                return await self._once(path, params, key)
            except _Passing as passing:
                self._pause(passing, number)
        raise AssertionError("the last try raises")

    async def _turn(self) -> None:
        """Waits for this request's place in the rate, and for the end of a pause that another was told of."""
        while (wait_s := self._free_s - self._clock_s()) > 0:
            await self._sleep(wait_s)
        self._free_s = self._clock_s() + 1 / self._settings.provider_rate_per_s

    def _pause(self, passing: _Passing, number: int) -> None:
        wait_s = passing.wait_s or BACKOFF_S * 2.0 ** (number - 1) * random.uniform(0.5, 1.0)  # noqa: S311
        spent = number >= self._settings.provider_tries_max or self._retries_left <= 0
        if spent or wait_s > WAIT_S_MAX or wait_s > self._patience_s:
            raise ProviderError(passing.kind, str(passing), passing.wait_s) from None
        self._retries_left -= 1
        self._patience_s -= wait_s
        # What one request was told holds for all of the key.
        self._free_s = max(self._free_s, self._clock_s() + wait_s)

    async def _once(self, path: str, params: Mapping[str, str], key: str) -> bytes | None:
        url = self._url(path)
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
        timeout = ClientTimeout(total=self._settings.provider_timeout_s)
        try:
            async with self._session.get(
                url, params=params, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return await _body(response, path, self._shown(path))
        except TimeoutError:
            raise _Passing("unreachable", f"the provider did not answer {path} in time") from None
        except (ClientError, OSError) as error:
            name = type(error).__name__
            why = f"the provider can't be reached at {self._shown(path)} ({name}): {RIGHT}"
            raise _Passing("unreachable", why) from None

    def _url(self, path: str) -> str:
        return self._settings.provider_url.rstrip("/") + "/" + path.lstrip("/")

    def _shown(self, path: str) -> str:
        """The address as an error may tell it: without a name, password or query."""
        parts = urlsplit(self._url(path))
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


async def _body(response: ClientResponse, path: str, shown: str) -> bytes | None:
    status = response.status
    if status in AGAIN or status >= 500:
        kind: Kind = "limited" if status == 429 else "unreachable"
        wait_s = retry_after_s(response.headers.get("Retry-After", ""), now_ms())
        asks = f", and asks to come back in {wait_s:.0f} s" if wait_s else ""
        raise _Passing(kind, f"the provider answered {path} with {status}{asks}", wait_s)
    # Some say 403 of a generation that is another account's: that is this id's trouble, not the key's.
    if status == 401 or (status == 403 and path != GENERATION):
        raise ProviderError("key", f"the provider refuses the key for {path} ({status})")
    if 300 <= status < 400:
        raise ProviderError("answer", f"the provider redirects {path}, which is not followed ({status})")
    if status not in (200, 404):
        raise ProviderError("answer", f"the provider answered {path} with {status}")
    body = await _bounded(response, path)
    if status == 200:
        return body
    # A page of a web site that has no such address says nothing of a generation.
    if not body.lstrip().startswith(b"{"):
        raise ProviderError("answer", f"there is no {shown} (404, not JSON): {RIGHT}")
    return None


async def _bounded(response: ClientResponse, path: str) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(65_536):
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise ProviderError("answer", f"the provider's answer to {path} is over {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _decoded(decoder: "msgspec.json.Decoder[T]", answer: bytes, path: str) -> T:
    try:
        return decoder.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ProviderError("answer", f"the provider's answer to {path} is not as documented") from None


def _activity(row: _Row) -> Activity:
    try:
        return Activity(
            day=times.date_text(row.date[:10]),  # it has been seen with a time behind it
            model=row.model,
            permaslug=row.model_permaslug or "",
            provider=row.provider_name or "",
            requests=row.requests,
            prompt_tokens=row.prompt_tokens or 0,
            completion_tokens=row.completion_tokens or 0,
            reasoning_tokens=row.reasoning_tokens or 0,
            cost_nano=_nano(row.usage),
            upstream_cost_nano=_nano(row.byok_usage_inference),
        )
    except ValueError:
        raise ProviderError("answer", "the provider's answer to /activity is not as documented") from None


def _nano(raw: msgspec.Raw) -> int:
    text = bytes(raw).decode().strip('"')
    return 0 if text == "null" else money.nano_of(text)


def retry_after_s(text: str, now_ms: int) -> float:
    """Seconds or an HTTP date as seconds from now; 0 where there is none that can be read.

    >>> retry_after_s("7", 0)
    7.0
    >>> retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 30_000)
    30.0
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() - now_ms / 1000)
