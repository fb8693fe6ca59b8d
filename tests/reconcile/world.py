"""A service's files and their points in a bucket: made once by a real service, copied for each test.

told = events()
world.point("gen-31"), world.write(line), world.remove("gen-31")
world.compared("2026-11-18", "2026-11-22")          # in this process
world.command("reconcile", "--day", "2026-11-20")   # as somebody types it
"""

import asyncio
import io
import json
import os
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from genledger.main import run
from genledger.reconciling import Reconciliation
from projections.points import Point
from projections.reconciling.desk import Scope
from projections.reconciling.mend import Mended
from projections.reconciling.report import Report
from projections.reconciling.run import opened
from projections.stores.influxdb.line import line_of, opening_line_of
from projections.stores.influxdb.positions import Kept, position_line, read_positions
from projections.stores.influxdb.reader import reader_of, span_of
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.target import Target, target_of
from streams import clock, settings
from streams.settings import Settings
from tests.influxdb.real import Influx
from tests.influxdb.traffic import twins
from tests.road.harness import clean_environ

DAYS = ("2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20")
#: Two calls on one nanosecond of one series are told of this day, and nothing else.
COLLIDING = "2025-10-27"
ORGANIZATIONS = (
    {"id": "acme", "timezone": "Pacific/Kiritimati", "markup": "1.3"},
    {"id": "west", "timezone": "Etc/GMT+12"},
    {"id": 'odd," =name\\', "timezone": "Asia/Kathmandu", "markup": "2"},
)
USERS = ({"organization": "acme", "user": "u1", "user_id": "alice"},)
AMENDED = range(10, 30)
VOID = range(30, 40)

Found = TypeVar("Found")


def events() -> list[dict[str, Any]]:
    """Calls of three organisations at all hours, some without a cost; then amendments; then voids."""
    first = [_event(n) for n in range(240)]
    amended = [
        {**first[n], "cost": "1.5", "model": "m-other", "user": "", "latency_ms": None, "revision": 1}
        for n in AMENDED
    ]
    void = [{**first[n], "void": True, "authority": "corrected"} for n in VOID]
    return [*first, *amended, *void, *twins("acme")]


def _event(n: int) -> dict[str, Any]:
    return {
        "id": f"gen-{n}",
        "organization": ORGANIZATIONS[n % 3]["id"],
        "model": f"m{n % 4}",
        "user": f"u{n % 5}" if n % 6 else "",
        "provider": ("", "One", "Two")[n % 7 % 3],
        "prompt_tokens": n,
        "completion_tokens": n % 9,
        "cost": None if n % 11 == 0 else f"0.{n:04d}1",
        "latency_ms": n if n % 5 else None,
        "created_at": f"2026-11-{17 + n // 3 % 3}T{n % 24:02d}:30:{n % 60:02d}{'.250' if n % 2 else ''}Z",
    }


def balances() -> list[dict[str, Any]]:
    """Opening balances: a day's, a user's and a model's row; the first one told twice, with other figures."""
    common = {"organization": "acme", "day": "2026-11-18", "requests": 7, "total_tokens": 70}
    money = {"cost_nano": 7_000_000_001, "markup_nano": 9_100_000_001, "unpriced_requests": 1}
    return [
        {"balance": {"margin": "day", **common, "requests": 1}},
        {"balance": {"margin": "day", **common, **money}},
        {"balance": {"margin": "user", "user": "u9", **common, **money}},
        {"balance": {"margin": "model", "model": "m0", "provider": "Old", **common, **money}},
        # A correction that somebody booked by hand: money, and no requests.
        {"balance": {"margin": "model", "model": "m9", **common, "requests": 0, "cost_nano": 5}},
    ]


@dataclass(frozen=True)
class World:
    """A data folder and a bucket of one's own."""

    data: Path
    influxdb: Influx
    bucket: str

    @property
    def environ(self) -> dict[str, str]:
        """The settings of a service or a command on it."""
        return self.influxdb.environ(self.bucket)

    def settings(self, **environ: str) -> Settings:
        """The same, read."""
        return settings.load({**self.environ, **environ}, Path("none.toml"), data=str(self.data))

    def compared(self, *days: str, organization: str = "", **environ: str) -> Report:
        """The comparison, in this process."""
        return self._work(days, organization, environ).once()[0]

    def fixed(self, *days: str, organization: str = "", **environ: str) -> tuple[Report, Mended]:
        """The comparison after --fix, and what was done."""
        found, mended = self._work(days, organization, environ).fixed()
        assert mended is not None
        return found, mended

    def _work(self, days: Sequence[str], organization: str, environ: dict[str, str]) -> Reconciliation:
        scope = Scope(tuple(days or DAYS), organization)
        return Reconciliation(self.settings(**environ), scope, lambda *_: None)

    def command(self, *arguments: object, **environ: str) -> "subprocess.CompletedProcess[str]":
        """A command of genledger's, in this process: a start takes a second."""
        command = [*map(str, arguments), "--data", str(self.data)]
        merged = {**clean_environ(), **self.environ, **environ}
        out, err = io.StringIO(), io.StringIO()
        with patch.dict(os.environ, merged, clear=True), redirect_stdout(out), redirect_stderr(err):
            code = run(command)
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    def change(self, *statements: str) -> None:
        """Change rows behind everybody's back; each statement one row."""
        with closing(sqlite3.connect(self.data / "genledger.db")) as connection:
            for statement in statements:
                assert connection.execute(statement).rowcount == 1, statement
            connection.commit()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What stands in the views' database."""
        with closing(sqlite3.connect(self.data / "genledger.db")) as connection:
            return connection.execute(query).fetchall()

    def points(self) -> dict[str, Point]:
        """The points that InfluxDB has, by their ids."""
        return {point.request_id: point for point in self.asked(_points)}

    def write(self, *lines: bytes) -> None:
        """Write behind everybody's back."""
        self.influxdb.write(self.bucket, b"\n".join(lines))

    def remove(self, *points: Point) -> None:
        """Remove behind everybody's back."""

        async def remove(server: Server) -> None:
            assert not await server.delete(points)

        self.asked(remove)

    def set_back(self, records: int) -> None:
        """As if the points had so many records of each partition still to take."""
        kept = self.asked(lambda server: read_positions(server, ""))
        self.write(*(_set_back(n, one, records) for n, one in kept.items()))

    def copied(self, data: Path) -> "World":
        """The same in another folder and another bucket."""
        other = World(data, self.influxdb, self.influxdb.make_bucket())
        other.write(*self.asked(_lines))
        return other

    def asked(self, ask: Callable[[Server], Awaitable[Found]]) -> Found:
        """What the server says."""

        async def answer() -> Found:
            async with opened(self.target) as server:
                return await ask(server)

        return asyncio.run(answer())

    @property
    def target(self) -> Target:
        """The bucket."""
        target = target_of(self.settings())
        assert target is not None
        return target


async def _points(server: Server) -> list[Point]:
    reader = reader_of(server)
    return [point async for point in reader.points(*span_of("2025-01-01", "2026-12-31"))]


async def _lines(server: Server) -> list[bytes]:
    """Everything in a bucket, as it was written."""
    first_ns, last_ns = span_of("2025-01-01", "2026-12-31")
    openings = [opening async for opening in reader_of(server).openings(first_ns, last_ns)]
    kept = await read_positions(server, "")
    return [
        *(line_of(point, "time") for point in await _points(server)),
        *map(opening_line_of, openings),
        *(position_line(n, "", one, clock.now_ms()) for n, one in kept.items()),
    ]


def _set_back(partition: int, kept: Kept, records: int) -> bytes:
    position = kept.at
    usage_offset = max(-1, position.usage_offset - records)
    earlier = type(position)(usage_offset, position.source_offset, position.digest, position.records)
    return position_line(partition, "", Kept(earlier, earlier, kept.log), clock.now_ms())


def lines(told: Sequence[dict[str, Any]]) -> list[bytes]:
    """Events as they are posted."""
    return [json.dumps(event).encode() for event in told]
