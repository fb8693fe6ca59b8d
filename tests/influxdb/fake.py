"""A small InfluxDB that fails on demand: what a real one answers seldom, it answers when it is told to.

    with Fake() as fake:                        # 2.x, in a thread; Fake(version="3") speaks as 3 Core does
        ... points go to fake.url, bucket "points" ...
        fake.next(UNAVAILABLE, throttled(2), STALL, RESET_AFTER)   # what the next writes get, one each
        fake.always = UNAVAILABLE               # what every write gets, until None again
        fake.is_bad = lambda point: "no such model" if point.tags["model"] == "x" else ""
        fake.body_bytes_max = 10_000            # more is 413
        fake.rows("llm_usage")                  # what it has: as real.Influx.rows
        fake.asked                              # every request, with its body and what it was answered

It reads line protocol by itself: fields of one series and time are merged, a type that differs is a conflict.
Its answers are those of the servers' sources: github.com/influxdata/influxdb, file names beside each.
"""

import asyncio
import csv
import io
import json
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiohttp import web

from tests.influxdb.real import nanoseconds

BUCKET = "points"
BODY_BYTES_MAX = 50_000_000
STOP_S = 10.0

Value = int | float | bool | str


@dataclass(frozen=True)
class Fault:
    """What a write gets. `applied`: its points are stored all the same."""

    status: int = 0
    code: str = ""
    message: str = ""
    retry_after: str = ""
    applied: bool = False
    stalls: bool = False
    resets: bool = False


# The codes and their statuses: kit/transport/http/error_handler.go. It writes {"code", "message"}.
UNAVAILABLE = Fault(503, "unavailable", "service unavailable")
INTERNAL = Fault(
    500, "internal error", "unexpected error writing points to database"
)  # http/write_handler.go
UNAUTHORIZED = Fault(401, "unauthorized", "unauthorized access")  # http/authentication_middleware.go
FORBIDDEN = Fault(403, "forbidden", "insufficient permissions for write")  # http/write_handler.go
NOT_FOUND = Fault(404, "not found", f'bucket "{BUCKET}" not found')  # tenant/error_bucket.go
# http/points/points_parser.go: msgUnableToReadData and ErrMaxBatchSizeExceeded
TOO_LARGE = Fault(413, "request too large", "unable to read data: points batch is too large")
STALL = Fault(stalls=True)  # no answer, until the client goes or the stalls are released
RESET = Fault(resets=True)  # the connection, with nothing stored
RESET_AFTER = Fault(resets=True, applied=True)  # the connection, when all is stored
STALL_AFTER = Fault(stalls=True, applied=True)


def throttled(after: float | str = 1, status: int = 429) -> Fault:
    """Come back later, as Cloud says it: its documentation has 429 and 503, both with Retry-After."""
    code = "too many requests" if status == 429 else "unavailable"
    return Fault(status, code, code, str(after))


@dataclass(frozen=True)
class Point:
    """A line, read."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, Value]
    time_ns: int
    line: bytes

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it the same point: fields of the same are merged."""
        return (self.measurement, *sorted(self.tags.items()), self.time_ns)


@dataclass(frozen=True)
class Asked:
    """A request, and what it was answered: 0 is a connection without an answer."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    status: int


@dataclass
class Fake:
    """The server. What is set from the outside holds from the next request on."""

    version: str = "2"
    token: str = ""
    is_bad: Callable[[Point], str] | None = None
    always: Fault | None = None
    body_bytes_max: int = BODY_BYTES_MAX
    asked: list[Asked] = field(default_factory=list)
    deleted: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.points: dict[tuple[Any, ...], tuple[Point, dict[str, Value]]] = {}
        self._types: dict[tuple[str, str], str] = {}
        self._next: deque[Fault] = deque()
        self._stalled = asyncio.Event()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fake-influxdb", daemon=True)

    def next(self, *faults: Fault) -> None:
        """What the next writes get, one each."""
        self._next.extend(faults)

    def release(self) -> None:
        """Whoever was stalled is let go: the connection ends without an answer."""
        self._loop.call_soon_threadsafe(self._stalled.set)

    @property
    def writes(self) -> list[Asked]:
        """The writes among what was asked."""
        return [one for one in self.asked if one.path in WRITES]

    def rows(self, measurement: str) -> list[dict[str, Any]]:
        """Every point of a measurement: its tags and its fields by their names, and `time_ns`."""
        return [
            {**point.tags, "time_ns": point.time_ns, **fields}
            for point, fields in list(self.points.values())
            if point.measurement == measurement
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(STOP_S), "the fake server did not start"
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)

    def _run(self) -> None:
        self._loop.run_until_complete(self._start())
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{rest:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        answer = self._answer(request, body)
        if not isinstance(answer, Fault):
            # http/api_handler.go: every answer says which version it is from
            answer.headers["X-Influxdb-Version"] = RELEASES[self.version]
            answer.headers["X-Influxdb-Build"] = BUILDS[self.version]
        status = 0 if isinstance(answer, Fault) else answer.status
        query, headers = dict(request.query), dict(request.headers)
        self.asked.append(Asked(request.method, request.path, query, headers, body, status))
        if not isinstance(answer, Fault):
            return answer
        if answer.stalls:
            await self._stalled.wait()
        _reset(request)
        return web.Response()

    def _answer(self, request: web.Request, body: bytes) -> web.Response | Fault:
        """What is answered; a fault is no answer at all."""
        path = request.path
        if path == "/ping":
            return self._ping()
        if path == "/health":
            return self._health()
        if self.token and request.headers.get("Authorization") not in _said(self.token):
            return _error(UNAUTHORIZED)
        if path in WRITES:
            return self._write(body)
        if path == "/api/v2/delete" and self.version == "2":
            return self._delete(json.loads(body))
        if path == "/api/v2/query" and self.version == "2":
            return self._flux(body)
        if path == "/api/v3/query_sql" and self.version == "3":
            return self._sql(request, body)
        return _error(Fault(404, "not found", "path not found"))  # http/router.go

    def _ping(self) -> web.Response:
        if self.version == "3":  # influxdb3_server/src/http.rs: PingResponse
            said = {"version": RELEASES["3"], "revision": "0", "process_id": "0"}
            return web.json_response(said)
        return web.Response(status=204)  # http/ready.go and http/legacy/ping_handler.go

    def _health(self) -> web.Response:
        if self.version == "3":
            return web.Response(text="OK")  # influxdb3_server/src/http.rs: health
        said = {"name": "influxdb", "message": "ready for queries and writes", "status": "pass"}
        return web.json_response({**said, "checks": [], "version": RELEASES["2"], "commit": "0"})  # health.go

    def _write(self, body: bytes) -> web.Response | Fault:
        fault = self._next.popleft() if self._next else self.always
        if fault is None and len(body) > self.body_bytes_max:
            fault = TOO_LARGE
        if fault is None:
            return self._take(body)
        if fault.applied:
            self._take(body)
        return fault if fault.stalls or fault.resets else _error(fault)

    def _take(self, body: bytes) -> web.Response:
        """Read and store, and what the server says of what it can't."""
        read: list[tuple[int, Point | str, bytes]] = []
        for number, line in enumerate(lines_of(body), start=1):
            try:
                read.append((number, parse(line), line))
            except ValueError as error:
                read.append((number, str(error), line))
        return self._take_3(read) if self.version == "3" else self._take_2(read)

    def _take_2(self, read: list[tuple[int, Point | str, bytes]]) -> web.Response:
        # models/points.go: ParsePointsWithPrecision gives every line that fails, and no point at all.
        failed = [
            f"unable to parse '{line.decode()}': {said}" for _, said, line in read if isinstance(said, str)
        ]
        if failed:
            return _error(Fault(400, "invalid", "\n".join(failed)))
        wrong = [said for _, point, _ in read if isinstance(point, Point) and (said := self._store(point))]
        if wrong:
            # http/write_handler.go and tsdb/shard.go: PartialWriteError says the first reason, and how many
            said = f"failure writing points to database: partial write: {wrong[0]} dropped={len(wrong)}"
            return _error(Fault(422, "unprocessable entity", said))
        return web.Response(status=204)

    def _take_3(self, read: list[tuple[int, Point | str, bytes]]) -> web.Response:
        # influxdb3_server/src/http.rs: PartialLpWrite; the good lines are stored
        wrong = []
        for number, point, line in read:
            said = point if isinstance(point, str) else self._store(point)
            if said:
                told = {"original_line": line.decode(), "line_number": number, "error_message": said}
                wrong.append(told)
        if not wrong:
            return web.Response(status=204)
        return web.json_response(
            {"error": "partial write of line protocol occurred", "data": wrong}, status=400
        )

    def _store(self, point: Point) -> str:
        """Why it is not stored, or ''."""
        said = self.is_bad(point) if self.is_bad is not None else ""
        if said:
            return said
        for name, value in point.fields.items():
            kind = KINDS[type(value)]
            known = self._types.setdefault((point.measurement, name), kind)
            if known != kind:  # tsdb/engine/tsm1 and tsdb/shard.go: ErrFieldTypeConflict
                return (
                    f'field type conflict: input field "{name}" on measurement "{point.measurement}" is type'
                    f" {kind}, already exists as type {known}"
                )
        _, fields = self.points.setdefault(point.key, (point, {}))
        fields.update(point.fields)
        return ""

    def _delete(self, asked: dict[str, Any]) -> web.Response:
        """http/delete_handler.go: start, stop and a predicate, which knows tags and the measurement."""
        self.deleted.append(asked)
        wanted = {name: text.replace('\\"', '"') for name, text in _PREDICATE.findall(asked["predicate"])}
        first_ns, last_ns = nanoseconds(asked["start"]), nanoseconds(asked["stop"])
        for key, (point, _) in list(self.points.items()):
            has = {**point.tags, "_measurement": point.measurement}
            if first_ns <= point.time_ns <= last_ns and all(has.get(n) == v for n, v in wanted.items()):
                del self.points[key]
        return web.Response(status=204)

    def _flux(self, body: bytes) -> web.Response:
        """Every field of a measurement's points, each a table of one row; its filters on tags are obeyed."""
        text = body.decode()
        text = json.loads(text)["query"] if text.startswith("{") else text
        text = _FLUX_BYTE.sub(lambda found: chr(int(found[1], 16)), text)
        rows = self._selected(text, _FLUX_MEASUREMENT, _FLUX_EQUAL)
        pivoted = "pivot(" in text or "fieldsAsCols" in text
        output = io.StringIO(newline="")
        for n, (point, fields) in enumerate(rows):
            base: dict[str, Value] = dict(point.tags)
            singles: Iterable[dict[str, Value]] = (
                [fields] if pivoted else [{"_field": k, "_value": v} for k, v in fields.items()]
            )
            for some in singles:
                _write_table(output, n, point.time_ns, base | some)
        return web.Response(text=output.getvalue(), content_type="text/csv")

    def _sql(self, request: web.Request, body: bytes) -> web.Response:
        asked = json.loads(body) if body else dict(request.query)
        rows = self._selected(asked["q"], _SQL_MEASUREMENT, _SQL_EQUAL)
        lines = [json.dumps({"time": _rfc3339(p.time_ns)[:-1], **p.tags, **fields}) for p, fields in rows]
        if asked.get("format") == "jsonl":
            return web.Response(text="".join(line + "\n" for line in lines))
        return web.Response(text=f"[{','.join(lines)}]", content_type="application/json")

    def _selected(
        self, text: str, measurement: re.Pattern[str], equal: re.Pattern[str]
    ) -> list[tuple[Point, dict[str, Value]]]:
        found = measurement.search(text)
        assert found is not None, text
        wanted = {name: value for name, value in equal.findall(text) if name[0] != "_"}
        return [
            (point, dict(fields))
            for point, fields in list(self.points.values())
            if point.measurement == found[1]
            and all(point.tags.get(name, "") == value for name, value in wanted.items())
        ]


WRITES = ("/api/v2/write", "/api/v3/write_lp")
RELEASES = {"2": "v2.7.12", "3": "3.4.1"}
BUILDS = {"2": "OSS", "3": "Core"}
KINDS = {int: "integer", float: "float", str: "string", bool: "boolean"}
DATATYPES = {int: "long", float: "double", str: "string", bool: "boolean"}

_PREDICATE = re.compile(r'(\w+)\s*=\s*"((?:\\.|[^"\\])*)"')
_FLUX_MEASUREMENT = re.compile(r'\b_measurement"?\]?\s*==\s*"([^"]+)"')
_FLUX_EQUAL = re.compile(r'r(?:\.|\[")(\w+)(?:"\])?\s*==\s*"([^"]*)"')
_FLUX_BYTE = re.compile(r"\\x([0-9a-f]{2})")
_SQL_MEASUREMENT = re.compile(r'(?i)from\s+"?(\w+)"?')
_SQL_EQUAL = re.compile(r"\"?(\w+)\"?\s*=\s*'([^']*)'")


def _reset(request: web.Request) -> None:
    """RST, not FIN: the client must not take it for an answer's end."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _said(token: str) -> tuple[str, str]:
    return f"Token {token}", f"Bearer {token}"


def _error(fault: Fault) -> web.Response:
    headers = {"X-Platform-Error-Code": fault.code}
    headers |= {"Retry-After": fault.retry_after} if fault.retry_after else {}
    said = {"code": fault.code, "message": fault.message}
    return web.json_response(said, status=fault.status, headers=headers)


def _rfc3339(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    whole = datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _write_table(output: io.StringIO, number: int, time_ns: int, cells: dict[str, Value]) -> None:
    """Annotated CSV, as flux/csv/result.go writes it: CR LF, a table's types and names above its rows."""
    writer = csv.writer(output, lineterminator="\r\n")
    kinds = [DATATYPES[type(value)] for value in cells.values()]
    writer.writerow(["#datatype", "string", "long", "dateTime:RFC3339", *kinds])
    writer.writerow(["", "result", "table", "_time", *cells])
    texts = [str(value).lower() if isinstance(value, bool) else value for value in cells.values()]
    writer.writerow(["", "_result", number, _rfc3339(time_ns), *texts])
    output.write("\r\n")


# A line is a key, fields and a time. What is escaped or quoted ends nothing.
_LINE = re.compile(
    rb'((?:[^ \n]|(?<=\\) )+) ((?:[^" \n]|"(?:[^"\\]|\\.)*")+)(?: (-?\d+))?\r?(?:\n|\Z)', re.DOTALL
)
_FIELD = re.compile(rb'((?:[^,= ]|(?<=\\)[,= ])+)=("(?:[^"\\]|\\.)*"|[^,"]+)(?:,|$)', re.DOTALL)
_UNESCAPED_COMMA = re.compile(rb"(?<!\\),")
_UNESCAPED_EQUALS = re.compile(rb"(?<!\\)=")


def lines_of(body: bytes) -> Iterator[bytes]:
    """The lines of a body; a line feed within a string ends none. Empty lines and comments are nothing."""
    place = 0
    while place < len(body):
        found = _LINE.match(body, place)
        end = found.end() if found is not None else body.find(b"\n", place) + 1 or len(body)
        line = body[place:end].rstrip(b"\r\n")
        place = end
        if line.strip() and not line.startswith(b"#"):
            yield line


def parse(line: bytes) -> Point:
    """One line; `ValueError` with what models/points.go says of it.

    >>> parse(b"m,a=x n=5i,f=0.5 7").fields
    {'n': 5, 'f': 0.5}
    """
    found = _LINE.match(line)
    if found is None:
        raise ValueError("invalid field format" if b" " in line else "missing fields")
    measurement, *pairs = _UNESCAPED_COMMA.split(found[1])
    tags: dict[str, str] = {}
    for pair in pairs:
        name, *value = _UNESCAPED_EQUALS.split(pair)
        if len(value) != 1 or not value[0]:
            raise ValueError("missing tag value")
        if not name:
            raise ValueError("missing tag key")
        tags[_unescape(name)] = _unescape(value[0])
    if found[3] is None:
        raise ValueError("a point without a time: this project sends none")
    return Point(_unescape(measurement), tags, _fields(found[2]), int(found[3]), line)


def _fields(text: bytes) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    place = 0
    while place < len(text):
        found = _FIELD.match(text, place)
        if found is None:
            raise ValueError("invalid field format")
        fields[_unescape(found[1])] = _value(found[2])
        place = found.end()
    if text.endswith(b",") or not fields:
        raise ValueError("missing field key")
    return fields


def _value(text: bytes) -> Value:
    if text.startswith(b'"'):
        return re.sub(rb'\\(["\\])', rb"\1", text[1:-1]).decode()
    if text in (b"t", b"T", b"true", b"True", b"TRUE", b"f", b"F", b"false", b"False", b"FALSE"):
        return text[:1] in b"tT"
    if re.fullmatch(rb"-?\d+i", text):
        value = int(text[:-1])
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"unable to parse integer {value}: value out of range")
        return value
    if re.fullmatch(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return float(text)
    raise ValueError("invalid number")


def _unescape(text: bytes) -> str:
    return re.sub(rb"\\([,= ])", rb"\1", text).decode()
