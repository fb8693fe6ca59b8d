"""A real InfluxDB 1.8 on loopback, built by Go from its sources; and what tests ask any InfluxDB.

server = Influxd(directory).start()
server.url                      # "http://127.0.0.1:port"; the port stays the same over restarts
server.pause(), server.kill()   # `server.start()` again goes on from its files
server.stop()

influx = Influx(server.url)
bucket = influx.make_bucket()
influx.rows(bucket, "llm_usage")     # each point as a dict of its tags, its fields and its `time_ns`
"""

import csv
import fcntl
import functools
import io
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from tests.servers import HOST, OwnServer, free_port

VERSION = "1.8.10"
PACKAGE = f"github.com/influxdata/influxdb/cmd/influxd@v{VERSION}"
BUILDS = Path(__file__).parents[2] / "build" / "influxdb"
BUILD_S = 900.0
READY_S = 30.0
ANSWER_S = 60.0
LOGIN = "points:points-secret"


class NoInfluxdb(Exception):
    """What a server needs isn't here; the message says what."""


class InfluxdbFailed(Exception):
    """The server did not start, stop or answer as it should; the message says what it said."""


@dataclass(frozen=True)
class Influx:
    """A server to talk to. `token` is user:password of a 1.8 that asks for one; `org` is of 2 alone."""

    url: str
    token: str = ""
    org: str = ""

    def environ(self, bucket: str) -> dict[str, str]:
        """The settings of a service whose points go there."""
        found = {"INFLUXDB_URL": self.url, "INFLUXDB_BUCKET": bucket}
        found |= {"INFLUXDB_TOKEN": self.token} if self.token else {}
        return found | ({"INFLUXDB_ORG": self.org} if self.org else {})

    def make_bucket(self, name: str = "") -> str:
        """A bucket, with a name that no other test has; of 1.8 it is a database."""
        name = name or f"t{uuid.uuid4().hex[:12]}"
        if self.org:
            found = json.loads(self.ask("GET", "/api/v2/orgs", {"org": self.org}))
            wanted = {"orgID": found["orgs"][0]["id"], "name": name, "retentionRules": []}
            self.ask("POST", "/api/v2/buckets", {}, json.dumps(wanted).encode(), "application/json")
        else:
            self.influxql(f'CREATE DATABASE "{name}"')
        return name

    def influxql(self, text: str, bucket: str = "") -> Any:
        """What a statement gives."""
        answer = json.loads(self.ask("POST", "/query", {"db": bucket, "epoch": "ns", "q": text}))
        if any("error" in result for result in answer.get("results", [])):
            raise InfluxdbFailed(f"{text}: {answer}")
        return answer

    def write(self, bucket: str, lines: bytes) -> None:
        """Write lines, which must be taken."""
        self.ask("POST", "/api/v2/write", {"org": self.org, "bucket": bucket, "precision": "ns"}, lines)

    def flux(self, text: str) -> list[dict[str, Any]]:
        """The rows of a query: integers, floats, booleans and strings as such, a time as nanoseconds."""
        body = json.dumps({"query": text, "dialect": {"annotations": ["datatype"]}}).encode()
        answer = self.ask("POST", "/api/v2/query", {"org": self.org}, body, "application/json")
        return list(_rows(answer.decode()))

    def rows(self, bucket: str, measurement: str, where: str = "true") -> list[dict[str, Any]]:
        """Every point of a measurement, by Flux: its tags and its fields by their names, and `time_ns`.

        `where` is a condition of Flux's on `r`.
        """
        text = (
            f"from(bucket: {json.dumps(bucket)})"
            " |> range(start: 1677-09-22T00:00:00Z, stop: 2262-04-11T00:00:00Z)"
            f" |> filter(fn: (r) => r._measurement == {json.dumps(measurement)} and {where})"
            # A table for each field, and not for each field of each series: half the time for many series.
            ' |> group(columns: ["_field"]) |> drop(columns: ["_start", "_stop", "_measurement"])'
        )
        points: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in self.flux(text):
            time_ns, field, value = row.pop("_time"), row.pop("_field"), row.pop("_value")
            tags = {name: tag for name, tag in row.items() if tag and name not in _COLUMNS}
            key = (time_ns, *sorted(tags.items()))
            points.setdefault(key, {**tags, "time_ns": time_ns})[field] = value
        return list(points.values())

    def count(self, bucket: str, measurement: str = "llm_usage", field: str = "requests") -> int:
        """How many points have a field; 0 while there are none."""
        where = f"r._field == {json.dumps(field)}"
        return len(self.rows(bucket, measurement, where))

    def answers(self) -> bool:
        """Is it there?"""
        try:
            self.ask("GET", "/ping", {}, within_s=2.0)
        except (InfluxdbFailed, OSError, HTTPException):
            return False
        return True

    def ask(
        self,
        method: str,
        path: str,
        parameters: dict[str, str],
        body: bytes | None = None,
        content_type: str = "text/plain; charset=utf-8",
        within_s: float = ANSWER_S,
    ) -> bytes:
        """The body of an answer, which must be a good one."""
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.netloc, timeout=within_s)
        headers = {"Accept": "*/*", "Content-Type": content_type}
        headers |= {"Authorization": f"Token {self.token}"} if self.token else {}
        wanted = urlencode({name: value for name, value in parameters.items() if value})
        try:
            connection.request(method, f"{parts.path}{path}?{wanted}", body, headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise InfluxdbFailed(f"{method} {path}: {answer.status} {said.decode(errors='replace')}")
        return said


# What Flux adds to a row: where it stands in the answer.
_COLUMNS = {"result", "table"}


def _rows(text: str) -> Iterator[dict[str, Any]]:
    """The rows of annotated CSV: tables one after another, each with its own types and names."""
    types: list[str] = []
    names: list[str] = []
    for row in csv.reader(io.StringIO(text, newline="")):
        if not row:
            names = []
        elif row[0] == "#datatype":
            types, names = row, []
        elif not names:
            names = row
            if "error" in names:
                raise InfluxdbFailed(text)
        else:
            cells = zip(names, types, row, strict=True)
            yield {name: _value(kind, cell) for name, kind, cell in cells if name}


def _value(kind: str, cell: str) -> Any:
    if kind in ("long", "unsignedLong"):
        return int(cell)
    if kind == "double":
        return float(cell)
    if kind == "boolean":
        return cell == "true"
    if kind.startswith("dateTime"):
        return nanoseconds(cell)
    return cell.replace("\r\n", "\n")  # Go's CSV writes every line feed as CR LF, within a cell too


def nanoseconds(text: str) -> int:
    """RFC 3339 in UTC, with as many digits as it has, as nanoseconds since 1970.

    >>> nanoseconds("1970-01-01T00:00:01.5Z")
    1500000000
    """
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = datetime.fromisoformat(whole + "+00:00") - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    return (seconds.days * 86_400 + seconds.seconds) * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


class Influxd(OwnServer):
    """A server of our own, on one directory. `login`: it asks for a user and a password."""

    name, failed, ready_s = "influxd", InfluxdbFailed, READY_S

    def __init__(self, directory: Path, *, login: str = "", **environ: str) -> None:
        super().__init__(directory.absolute(), "influxd.log")
        self.port, self._other_port = free_port(), free_port()
        self._login = login
        self._environ = environ

    @property
    def url(self) -> str:
        """As INFLUXDB_URL has it."""
        return f"http://{HOST}:{self.port}"

    @property
    def influx(self) -> Influx:
        """To talk to it."""
        return Influx(self.url, self._login)

    def start(self) -> Self:
        """Start it, and return when it answers."""
        assert not self.alive, "it runs already"
        program = influxd()
        is_new = not self.directory.exists()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.launch([str(program), "run"], self._settings())
        if self._login and is_new:
            name, _, password = self._login.partition(":")
            Influx(self.url).influxql(
                f"CREATE USER \"{name}\" WITH PASSWORD '{password}' WITH ALL PRIVILEGES"
            )
        return self

    def answers(self) -> bool:
        """Does it answer?"""
        return Influx(self.url).answers()

    def _settings(self) -> dict[str, str]:
        """Its configuration by environment: loopback, Flux, nothing that runs by itself, a small cache."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("INFLUXDB_")}
        return others | {
            "INFLUXDB_REPORTING_DISABLED": "true",
            "INFLUXDB_BIND_ADDRESS": f"{HOST}:{self._other_port}",
            "INFLUXDB_HTTP_BIND_ADDRESS": f"{HOST}:{self.port}",
            "INFLUXDB_HTTP_FLUX_ENABLED": "true",
            "INFLUXDB_HTTP_LOG_ENABLED": "false",
            "INFLUXDB_HTTP_AUTH_ENABLED": "true" if self._login else "false",
            "INFLUXDB_MONITOR_STORE_ENABLED": "false",
            "INFLUXDB_META_DIR": str(self.directory / "meta"),
            "INFLUXDB_DATA_DIR": str(self.directory / "data"),
            "INFLUXDB_DATA_WAL_DIR": str(self.directory / "wal"),
            "INFLUXDB_DATA_QUERY_LOG_ENABLED": "false",
            "INFLUXDB_DATA_CACHE_MAX_MEMORY_SIZE": "256m",
            "GOMAXPROCS": "2",
            # Making Flux ready takes seconds, less when garbage is seldom collected.
            "GOGC": "400",
            "GOMEMLIMIT": "512MiB",
            **self._environ,
        }


@functools.cache
def influxd() -> Path:
    """The program; built by Go when it isn't there yet, by one process for all that ask."""
    program = BUILDS / VERSION / "influxd"
    if program.exists():
        return program
    BUILDS.mkdir(parents=True, exist_ok=True)
    with (BUILDS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    """All or nothing: it is built aside, and moved to its place when it is complete."""
    go = shutil.which("go")
    if go is None:
        raise NoInfluxdb("no go on the path: Go builds influxd")
    with tempfile.TemporaryDirectory(dir=BUILDS) as aside:
        done = subprocess.run(
            [go, "install", "-ldflags", f"-s -w -X main.version={VERSION}", PACKAGE],
            env={**os.environ, "GOBIN": aside},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_S,
        )
        if done.returncode != 0:
            raise NoInfluxdb(f"Go can't build influxd:\n{(done.stdout + done.stderr)[-2000:]}")
        program.parent.mkdir(exist_ok=True)
        (Path(aside) / "influxd").rename(program)


if __name__ == "__main__":
    print(influxd())
