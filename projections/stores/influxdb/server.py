r"""One InfluxDB over HTTP: what it is asked, and what its status codes mean. An effect.

    server = Server(target)
    await server.open()                     # which version is it?
    await server.write(b"llm_usage,...\nllm_usage,...")
    async for row in server.query_flux('from(bucket: "b") |> range(start: 0)'): ...
    await server.close()

    InfluxError
    ├── Unreachable    no answer in time, a broken connection, or a failure of its own: it may have been done
    ├── Throttled      429 or 503: it asks to come back later
    ├── TooLarge       413: the body
    ├── BadPoints      400 or 422: it does not take these lines; it may have written the others
    └── Denied         401, 403, 404 and what else no repetition mends: the settings are to be mended

Each answer is read up to a bound, no redirect is followed, and the token is in no error's text.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
from aiohttp import ClientError, ClientResponse, ClientTimeout, DummyCookieJar
from aiohttp.http_exceptions import LineTooLong
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync

from projections.points import Point, stamp_ns
from projections.stores.influxdb import annotated
from projections.stores.influxdb.line import USAGE, tags_of
from projections.stores.influxdb.target import Target
from streams import times
from streams.clock import monotonic_s, now_ms
from streams.errors import GenledgerError, SettingError
from streams.sync.provider import retry_after_s

ANSWER_BYTES_MAX = 1_048_576  # of what is not streamed
MESSAGE_LENGTH_MAX = 1000
CONNECTIONS_MAX = 16
# A question may take long; no piece of its answer may.
TIMEOUT = ClientTimeout(total=None, sock_connect=10.0, sock_read=60.0)
ASK_S = 10.0
DELETE_S = 30.0
DELETES_MAX = 100  # in one request

_VERSION = re.compile(r"v?([123])\.[0-9]")
_LATER = frozenset({408, 425, 500, 502, 504})
_SETTINGS = "INFLUXDB_URL, INFLUXDB_TOKEN, INFLUXDB_ORG and INFLUXDB_BUCKET"
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


class InfluxError(GenledgerError):
    """InfluxDB did not do what it was asked."""


class Unreachable(InfluxError):
    """It did not answer, or failed. What was sent may be there, or come there yet: send it again.

    `slow`: it had not answered in time. Less may go in that time.
    """

    def __init__(self, message: str, *, slow: bool = False) -> None:
        super().__init__(message)
        self.slow = slow


class Throttled(InfluxError):
    """It asks to come back later; `retry_after_s` is 0 if it named no time."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooLarge(InfluxError):
    """The body is larger than it takes."""


class BadPoints(InfluxError):
    """It does not take one or more of the lines. `message` is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"InfluxDB does not take what it was sent ({status}): {message}")
        self.status = status
        self.message = message


class BadQuestion(InfluxError):
    """It does not answer what it was asked."""


class Denied(InfluxError):
    """It won't have us: no repetition mends that."""


class Health(msgspec.Struct, frozen=True):
    """Does it answer, and would it take points? `version` is its own word for itself."""

    ok: bool
    version: str
    message: str
    milliseconds: float


class _Said(msgspec.Struct):
    """The server's words: 1.8 and 3 have them in `error`, 2 in `message`. 3 names lines in `data`."""

    error: str = ""
    message: str = ""
    version: str = ""
    data: Any = None


class _Result(msgspec.Struct):
    error: str = ""


class _Results(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


class Server:
    """One bucket of one server. It may be asked many things at once.

    influxdb-client keeps the connections, the token and the address; what an answer means is decided here,
    for its own errors don't tell one failure from another, and read a body whatever its size.
    """

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        if "@" in parts.netloc:
            raise SettingError("INFLUXDB_URL must hold no password: INFLUXDB_TOKEN may be user:password")
        if not target.token.isprintable():
            raise SettingError("INFLUXDB_TOKEN has characters that no token has")
        self.target = target
        self.address = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        #: "1", "2" or "3"; "" until `open` has found it out.
        self.version: str = "" if target.version == "auto" else target.version
        self._client: Any = None
        self._place = [(k, v) for k, v in (("org", target.org), ("bucket", target.bucket)) if v]
        self._write_params = [*self._place, ("precision", "ns")]
        self._secrets = [_pattern(text) for text in (target.token, target.token.partition(":")[2]) if text]

    def __repr__(self) -> str:
        """Without the token."""
        return f"Server({self.target!r})"

    async def open(self) -> None:
        """Find out its version; `InfluxError` when it can't be asked."""
        if not self.version:
            self.version = await self._find_version()

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def write(self, body: bytes) -> None:
        """Write lines. Returns when the server has them all; of an error see above what may be there."""
        await self._ask(
            "POST", "/api/v2/write", self._write_params, _TEXT, body, within_s=self.target.write_timeout_s
        )

    async def delete(self, points: Sequence[Point]) -> Sequence[Point]:
        """Remove these points and no other; those that the server can't remove are returned."""
        await self.open()
        if self.version == "1":
            for start in range(0, len(points), DELETES_MAX):
                some = points[start : start + DELETES_MAX]
                await self.query_influxql(";".join(delete_statement(self.target, point) for point in some))
            return ()
        if self.version == "2":
            return [point for point in points if not await self._delete(point)]
        return points

    async def _delete(self, point: Point) -> bool:
        """By predicate, which has no words for a tag that is not there: such a point stays."""
        tags = tags_of(point, self.target.dedup)
        if not all(tags.values()):
            return False
        await self._ask(
            "POST", "/api/v2/delete", self._place, _JSON, delete_predicate(point, tags), within_s=DELETE_S
        )
        return True

    async def query_influxql(self, text: str) -> bytes:
        """What 1.8 answers to statements of its own language; `BadQuestion` when one of them fails."""
        database, _, policy = self.target.bucket.partition("/")
        params = [("db", database), ("epoch", "ns"), *([("rp", policy)] if policy else [])]
        answer = await self._ask("POST", "/query", params, _FORM, None, form=[("q", text)], within_s=DELETE_S)
        found = _decoded(answer, _Results)
        errors = [found.error, *(result.error for result in found.results)]
        for error in filter(None, errors):
            raise BadQuestion(f"InfluxDB does not answer: {self._clean(error)}")
        return answer

    async def query_flux(self, text: str) -> AsyncIterator[dict[str, Any]]:
        """The rows of a question in Flux, of 1.8 and 2. A time is its text."""
        body = {"query": text, "type": "flux", "dialect": {"header": True, "annotations": ["datatype"]}}
        try:
            async for row in annotated.rows(self._lines("/api/v2/query", self._place[:-1], body)):
                yield row
        except annotated.FailedMidway as error:
            raise BadQuestion(f"InfluxDB does not answer: {self._clean(str(error))}") from None

    async def query_sql(self, text: str) -> AsyncIterator[dict[str, Any]]:
        """The rows of a question in SQL, of 3. What is null is not in the row."""
        body = {"db": self.target.bucket, "q": text, "format": "jsonl"}
        async for line in self._lines("/api/v3/query_sql", [], body):
            if line.strip():
                yield _decoded(line, dict[str, Any])

    async def health(self) -> Health:
        """Asks who it is, and whether it would take points, without writing one."""
        started_s = monotonic_s()
        version, message = "", "it takes points"
        try:
            version = await self._ping()
            await self.write(b"")
        except BadPoints:
            pass  # nothing is no point; but the right to write one is looked at before that
        except InfluxError as error:
            message = str(error)
        ok = message == "it takes points"
        return Health(ok, version, message, (monotonic_s() - started_s) * 1000)

    async def _find_version(self) -> str:
        said = await self._ping()
        number = _VERSION.match(said)
        if number is not None:
            return number[1]
        if said == "Cloud":
            return "2"
        try:
            await self._ask("GET", "/api/v2/setup", [], _JSON, None, within_s=ASK_S)
        except Denied:
            return "1"  # it is built from source, and has no such route
        return "2"

    async def _ping(self) -> str:
        """Its own word for its version."""
        headers: dict[str, str] = {}
        answer = await self._ask("GET", "/ping", [], _JSON, None, headers=headers, within_s=ASK_S)
        said = headers.get("x-influxdb-version") or _decoded(answer or b"{}", _Said).version
        said = said or headers.get("x-influxdb-build", "")
        if not said:
            raise Denied(f"{self.address} does not say which InfluxDB it is: is INFLUXDB_URL right?")
        return said[:100]

    async def _lines(
        self, path: str, params: Sequence[tuple[str, str]], body: object
    ) -> AsyncIterator[bytes]:
        """An answer's lines as they come; aiohttp bounds each far above what a point has."""
        try:
            response = await self._send("POST", path, params, _JSON, body)
            try:
                if response.status != 200:
                    await self._refused(response, asked=True)
                async for line in response.content:
                    yield line
            finally:
                response.release()
        except TimeoutError:
            raise Unreachable(f"{self.address} did not go on with its answer", slow=True) from None
        except (ClientError, OSError) as error:
            raise self._broken(error) from None
        except (ValueError, LineTooLong):
            raise BadQuestion("InfluxDB's answer has a line that is too long") from None

    async def _ask(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]],
        content_type: str,
        body: object,
        *,
        form: Sequence[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        within_s: float,
    ) -> bytes:
        """The whole of a good answer; its headers too, for who wants them."""
        try:
            async with asyncio.timeout(within_s):
                response = await self._send(method, path, params, content_type, body, form)
                try:
                    if response.status not in (200, 204):
                        await self._refused(response, asked=path != "/api/v2/write")
                    if headers is not None:
                        headers |= {name.lower(): text for name, text in response.headers.items()}
                    return await _bounded(response)
                finally:
                    response.release()
        except TimeoutError:
            raise Unreachable(f"{self.address} did not answer within {within_s:g} s", slow=True) from None
        except (ClientError, OSError) as error:
            raise self._broken(error) from None

    async def _send(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]],
        content_type: str,
        body: object,
        form: Sequence[tuple[str, str]] | None = None,
    ) -> ClientResponse:
        if self._client is None:
            self._client = _client_of(self.target, self.address)
        connection = self._client.api_client
        if self.version == "3" and self.target.token:  # 1.8 and 2 want the word that is the client's own
            connection.set_default_header("Authorization", f"Bearer {self.target.token}")
        response: ClientResponse = await connection.call_api(
            path,
            method,
            query_params=list(params),
            header_params={"Content-Type": content_type, "Accept": "*/*"},
            body=body,
            post_params=form,
            _preload_content=False,
        )
        return response

    async def _refused(self, response: ClientResponse, *, asked: bool) -> None:
        """Raises what an answer that is none means."""
        status = response.status
        message = self._clean(_words(await _bounded(response)))
        said = f"{self.address} answers {status}: {message}"
        if status in (429, 503):
            raise Throttled(said, retry_after_s(response.headers.get("Retry-After", ""), now_ms()))
        if status in _LATER or status > 504:
            raise Unreachable(said)
        if status == 413:
            raise TooLarge(said)
        if status in (400, 422):
            raise BadQuestion(said) if asked else BadPoints(status, message)
        raise Denied(f"{said}. Are {_SETTINGS} right?")

    def _broken(self, error: Exception) -> Unreachable:
        return Unreachable(f"{self.address} can't be reached ({type(error).__name__})")

    def _clean(self, text: str) -> str:
        """A server's message as it may be shown: bounded, on one line, and never with the token in it."""
        for secret in self._secrets:
            text = secret.sub("***", text)
        return "".join(c if c.isprintable() else " " for c in text[:MESSAGE_LENGTH_MAX]).strip()


def delete_statement(target: Target, point: Point) -> str:
    """In 1.8's language: this nanosecond, with these tags; '' asks for there being no such tag. Pure."""
    tags = tags_of(point, target.dedup)
    # What tag_text gives has no backslash: only the mark itself could end a literal.
    named = [f"""\"{name}\" = '{text.replace("'", chr(92) + "'")}'""" for name, text in tags.items()]
    at = stamp_ns(point.time_ns, point.request_id)
    return f'DELETE FROM "{USAGE}" WHERE time = {at} AND {" AND ".join(named)}'


def delete_predicate(point: Point, tags: Mapping[str, str]) -> Mapping[str, str]:
    """For 2: from this nanosecond to this nanosecond, both of which are in it. Pure."""
    at = times.text_of(stamp_ns(point.time_ns, point.request_id))
    named = [f'{name}="{text.replace(chr(34), chr(92) + chr(34))}"' for name, text in tags.items()]
    predicate = " AND ".join([f'_measurement="{USAGE}"', *named])
    return {"start": at, "stop": at, "predicate": predicate}


def _client_of(target: Target, address: str) -> InfluxDBClientAsync:
    return InfluxDBClientAsync(
        address,
        token=target.token or None,  # type: ignore[arg-type]  # without one it sends no header
        org=target.org,
        timeout=TIMEOUT,  # its documentation says so
        allow_redirects=False,
        connection_pool_maxsize=CONNECTIONS_MAX,
        client_session_kwargs={"cookie_jar": DummyCookieJar()},
    )


def _pattern(secret: str) -> re.Pattern[str]:
    """A secret wherever it is; one that is as short as a word's part only where it is a word."""
    found = re.escape(secret)
    return re.compile(found if len(secret) >= 8 else rf"(?<!\w){found}(?!\w)")


async def _bounded(response: ClientResponse) -> bytes:
    """An answer's body, or as much of it as may be kept."""
    body = bytearray()
    async for piece in response.content.iter_chunked(65_536):
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            break
    return bytes(body[:ANSWER_BYTES_MAX])


def _words(answer: bytes) -> str:
    """What a server says in an answer that is none."""
    try:
        said = msgspec.json.decode(answer, type=_Said)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return answer.decode(errors="replace")
    first = said.data[0] if isinstance(said.data, list) and said.data else said.data
    of_line = first.get("error_message") if isinstance(first, dict) else None
    words = said.error or said.message or answer.decode(errors="replace")
    return f"{words}: {of_line}" if isinstance(of_line, str) else words


def _decoded(answer: bytes, type: Any) -> Any:
    try:
        return msgspec.json.decode(answer, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadQuestion("InfluxDB's answer is not as documented") from None
