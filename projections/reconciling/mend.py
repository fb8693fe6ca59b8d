"""What the log says, written again over what InfluxDB has. Never by hand: figures come from facts alone.

    mended = await mend(settings, desk)      # the desk of a comparison, while it is there
    mended.written, mended.removed, mended.swept, mended.refused

Points that are missing or other are written as the log's winners are; those that are nobody's are written as
void, and removed where the server can. Voids that earlier removals have left are removed too. What is on its
way is left alone, and so are two winners at one place: there is room for one.
"""

from collections.abc import Iterator

import msgspec

from projections.points import Opening, Point, stamp_ns
from projections.reconciling.desk import (
    FIGURES,
    OPENING,
    OPENING_KEY,
    PLACE,
    POINT,
    SAYS,
    Desk,
    opening_id,
)
from projections.reconciling.residue import INFLUXDB, extras, is_extra, is_moving
from projections.reconciling.run import opened
from projections.stores.influxdb.line import Dedup, line_of, opening_line_of, void_line_of
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.target import target_of
from projections.stores.influxdb.writer import Line, Writer
from projections.stores.pieces import pieces
from streams.settings import Settings

# As many as are removed behind one write.
LINES_MAX = 1000
#: What a point of the log written again may mend; one that was refused may be taken by now.
WRITTEN = ("missing_point", "changed_point", "wrong_markup", "refused")

_POINT = ", ".join(f'"{name}"' for name in POINT)
_NEXT_TO = " AND ".join(f"{name} = ?" for name in PLACE)


class Mended(msgspec.Struct, frozen=True):
    """How many points were written, written as void, and removed at last; and how many were refused."""

    written: int
    removed: int
    swept: int
    refused: int


async def mend(settings: Settings, desk: Desk) -> Mended:
    """Write what the desk's residue asks for."""
    target = target_of(settings)
    if target is None:
        return Mended(0, 0, 0, 0)
    async with opened(target) as server:
        writer = Writer(server)
        removed, refused = await _write(writer, _voids(desk, target.dedup))
        written, more = await _write(writer, _winners(desk, target.dedup))
        return Mended(written, removed, await _sweep(server, desk), refused + more)


async def _write(writer: Writer, lines: Iterator[Line]) -> tuple[int, int]:
    """How many were taken, and how many were not."""
    count = refused = 0
    for piece in pieces(lines, LINES_MAX):
        count += len(piece)
        refused += len(await writer.write(piece))
    return count - refused, refused


def _voids(desk: Desk, dedup: Dedup) -> Iterator[Line]:
    for extra in extras(desk):
        point, at = extra.point, extra.stamp_ns
        if not is_extra(desk, extra) or (extra.whole and point.day not in desk.scope.days):
            continue
        if extra.twice:
            # The one that is as the settings say stays; removing by its tags would take both.
            yield Line(_at(void_line_of(point, "time" if dedup == "tag" else "tag"), at), None)
        else:
            line = _at(void_line_of(point, dedup), at)
            free = _may_go(desk, point, at)
            yield Line(line, point if free else None, gone=free)
    query = f"""SELECT {_list("s")} FROM stored_openings s LEFT JOIN log_openings l ON
        {" AND ".join(f's."{name}" = l."{name}"' for name in OPENING_KEY)}
        WHERE l.day IS NULL AND {SAYS.format("s")}"""
    for row in desk.rows(query):
        opening = Opening(*row)
        if not is_moving(desk, opening_id(opening)):
            nothing = dict.fromkeys(FIGURES, 0)
            yield Line(opening_line_of(msgspec.structs.replace(opening, **nothing)), None)


def _list(side: str) -> str:
    return ", ".join(f'{side}."{name}"' for name in OPENING)


def _may_go(desk: Desk, point: Point, at_ns: int) -> bool:
    """Whether removing it by its tags and its own time takes it, and no winner beside it."""
    if stamp_ns(point.time_ns, point.request_id) != at_ns:
        return False
    place = (at_ns, point.organization, point.model, point.provider, point.source)
    query = f"SELECT 1 FROM log_points WHERE {_NEXT_TO} LIMIT 1"
    return desk.connection.execute(query, place).fetchone() is None


def _at(line: bytes, at_ns: int) -> bytes:
    """A line at another time: a point that others wrote may stand anywhere."""
    return line.rpartition(b" ")[0] + b" %d" % at_ns


def _winners(desk: Desk, dedup: Dedup) -> Iterator[Line]:
    causes = ",".join("?" * len(WRITTEN))
    query = f"""SELECT {_POINT} FROM log_points WHERE request_id IN
        (SELECT id FROM residue WHERE store = ? AND cause IN ({causes}))"""
    for row in desk.rows(query, (INFLUXDB, *WRITTEN)):
        point = Point(*row)
        yield Line(line_of(point, dedup), point)
    on = " AND ".join(f's."{name}" = l."{name}"' for name in OPENING_KEY)
    query = f"""SELECT {_list("l")} FROM log_openings l LEFT JOIN stored_openings s ON {on}
        WHERE ({_list("l")}) IS NOT ({_list("s")}) AND ({SAYS.format("l")} OR {SAYS.format("s")})"""
    for row in desk.rows(query):
        opening = Opening(*row)
        if not is_moving(desk, opening_id(opening)):
            yield Line(opening_line_of(opening), opening)


async def _sweep(server: Server, desk: Desk) -> int:
    """Remove the voids that no winner stands beside; how many went."""
    swept = 0
    query = f"SELECT {_POINT}, stamp_ns FROM voids"
    found = ((Point(*row[:-1]), row[-1]) for row in desk.rows(query))
    going = (
        point
        for point, at_ns in found
        if _may_go(desk, point, at_ns) and not is_moving(desk, point.request_id)
    )
    for some in pieces(going, LINES_MAX):
        swept += len(some) - len(await server.delete(some))
    return swept
