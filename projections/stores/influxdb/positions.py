"""How far the points have come, kept in the bucket that has them: a position lives with its data.

    line = position_line(0, prefix, Kept(at, minute_ago, log.identity), now_ms)
    kept = await read_positions(server, prefix)      # partition -> Kept

One point for each partition and hour: within the hour it is written over. So retention leaves a position as
long as the points that it stands for, and a bucket of years holds few of them.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from projections.stores.influxdb.flux import literal
from projections.stores.influxdb.line import tag_text, text_of_tag
from projections.stores.influxdb.server import InfluxError, Server
from projections.stores.influxdb.sql import literal as sql_literal
from projections.view import Position
from streams.times import HOUR_NS, MS_NS

MEASUREMENT = "genledger_positions"
PROJECTION = "points"


class Kept(msgspec.Struct, frozen=True):
    """Where the points of a partition stand, where they stood a minute before, and in which log."""

    at: Position
    minute_ago: Position
    log: str


def position_line(partition: int, prefix: str, kept: Kept, now_ms: int) -> bytes:
    """A position as a line of the protocol. Pure."""
    tags = f"projection={PROJECTION},partition={partition}"
    if prefix:
        escaped = tag_text(prefix).replace(",", r"\,").replace("=", r"\=").replace(" ", r"\ ")
        tags += f",prefix={escaped}"
    texts = {"at": _json(kept.at), "minute_ago": _json(kept.minute_ago), "log": kept.log}
    fields = ",".join(f'{name}="{_inside(text)}"' for name, text in texts.items())
    return f"{MEASUREMENT},{tags} {fields} {now_ms * MS_NS // HOUR_NS * HOUR_NS}".encode()


def _inside(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"")


def _json(position: Position) -> str:
    return msgspec.json.encode(position).decode()


async def read_positions(server: Server, prefix: str) -> dict[int, Kept]:
    """The newest of each partition of this installation."""
    await server.open()
    found: dict[int, tuple[Any, Kept]] = {}
    async for row in _rows(server):
        if (row.get("prefix") or "") != tag_text(prefix):
            continue
        partition, time = int(row["partition"]), row.get("_time", row.get("time"))
        if partition not in found or time > found[partition][0]:
            at, minute_ago = (msgspec.json.decode(row[name], type=Position) for name in ("at", "minute_ago"))
            found[partition] = time, Kept(at, minute_ago, row["log"])
    return {partition: kept for partition, (_, kept) in found.items()}


async def read_prefixes(server: Server) -> set[str]:
    """Every installation that has written points here, by its topics' prefix."""
    await server.open()
    return {text_of_tag(row.get("prefix")) async for row in _rows(server)}


async def _rows(server: Server) -> AsyncIterator[Mapping[str, Any]]:
    if server.version != "3":
        async for row in server.query_flux(_flux(server)):
            yield row
        return
    try:
        async for row in server.query_sql(_sql()):
            yield row
    except InfluxError as error:
        # There the first write makes the database and the table; what is said until then is not one status.
        if "not found" not in str(error):
            raise


def _flux(server: Server) -> str:
    return (
        f"from(bucket: {literal(server.target.bucket)})\n"
        f"  |> range(start: 1970-01-01T00:00:00Z, stop: 2262-01-01T00:00:00Z)\n"
        f'  |> filter(fn: (r) => r["_measurement"] == {literal(MEASUREMENT)}'
        f' and r["projection"] == {literal(PROJECTION)})\n'
        f"  |> last()\n"
        f'  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
    )


def _sql() -> str:
    # An hour a row: a leap over the few that a bucket holds is cheap, and the newest wins below.
    return f'SELECT * FROM "{MEASUREMENT}" WHERE projection = {sql_literal(PROJECTION)}'
