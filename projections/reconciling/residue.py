"""What differs between the points that are stored and those of the log, one by one, and why.

    find(desk)                        # fills the desk's table `residue`
    find_wrong_rates(desk, rate_of)   # what no replay mends

| cause         | is                                                                                   |
| ------------- | ------------------------------------------------------------------------------------ |
| lag           | facts have touched it that the points had not come to when they were read: no fault    |
| missing_point | a winner of the log that is not there                                                |
| extra_point   | a point that is nobody's winner                                                      |
| changed_point | a winner's point with other fields                                                   |
| wrong_markup  | all agrees but the markup; or the log's own is not its cost at the rate of its time  |
| collision     | two winners under the same tags and nanosecond: one of them is written over          |
| refused       | InfluxDB did not take it: it is quarantined                                          |
| opening       | an opening balance that is missing, extra or other                                   |
| changed_row   | a row of SQLite that is not what the log says                                        |

Each row of the residue says by how much its store is off (the store less the log), so that the causes of a
cell add up to its difference.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence

import msgspec

from projections.points import Opening, Point
from projections.reconciling.desk import FIGURES, OPENING, OPENING_KEY, PLACE, POINT, Desk, opening_id
from streams.money import marked_up, text_of

Figures = tuple[int, ...]
NOTHING: Figures = (0,) * len(FIGURES)
#: The rate in force for an organisation at a date, by what was logged before; None when nothing says it.
RateOf = Callable[[str, int, int], str | None]
#: No fault: what is on its way.
LAG = "lag"
CAUSES = (
    *("missing_point", "extra_point", "changed_point", "wrong_markup", "collision", "refused"),
    *("opening", "changed_row", "unexplained", LAG),
)
UNSOUND = "its fields are not all there, or contradict each other"
# Which side a cause is of.
INFLUXDB, SQLITE, LOG = "influxdb", "sqlite", "log"

_ADD = f"INSERT INTO residue VALUES ({','.join('?' * (9 + len(FIGURES)))})"
_ON = " AND ".join(f"s.{name} = l.{name}" for name in (*PLACE, "request_id"))
_THERE = " AND ".join(f"s.{name} = ?" for name in PLACE)
_NEIGHBOUR = " AND ".join(f"{name} = ?" for name in PLACE)


def _list(side: str, names: Sequence[str]) -> str:
    return ", ".join(f'{side}."{name}"' for name in names)


class Found(msgspec.Struct, frozen=True):
    """One thing that differs. `counts` is 0 of its second part, where it is in two cells."""

    cause: str
    store: str
    organization: str
    day: str
    model: str
    id: str
    off: Figures
    detail: str = ""
    counts: int = 1
    margin: str = "model"


def find(desk: Desk) -> None:
    """Every point and opening balance that differs, by its cause."""
    connection = desk.connection
    connection.execute("BEGIN IMMEDIATE")
    for found in (_differing(desk), _missing(desk), _extra(desk), _openings(desk)):
        for one in found:
            if one.day in desk.scope.days:
                add(connection, one)
    connection.execute("COMMIT")


def add(connection: sqlite3.Connection, one: Found) -> None:
    """Remember something that differs."""
    values = (one.cause, one.store, one.organization, one.day, one.model, one.margin, one.id, *one.off)
    connection.execute(_ADD, (*values, one.detail, one.counts))


def _worth(point: Point) -> Figures:
    return (
        1,
        point.prompt_tokens,
        point.completion_tokens,
        point.total_tokens,
        point.cost_nano or 0,
        point.markup_nano or 0,
        int(point.cost_nano is None),
    )


def _less(figures: Figures, others: Figures) -> Figures:
    return tuple(a - b for a, b in zip(figures, others, strict=True))


def _differing(desk: Desk) -> Iterator[Found]:
    """Points that are where they belong, with other fields."""
    n = len(POINT)
    query = f"""SELECT {_list("l", POINT)}, {_list("s", POINT)}, s.whole
        FROM stored_points s JOIN log_points l ON {_ON}
        WHERE NOT s.twice AND (({_list("l", POINT)}) IS NOT ({_list("s", POINT)}) OR NOT s.whole)"""
    for row in desk.rows(query):
        right, there, whole = Point(*row[:n]), Point(*row[n : 2 * n]), row[-1]
        there_worth = _worth(there) if whole else NOTHING
        cause, detail = _why_differs(desk, right, there, whole=bool(whole))
        # A day that was changed is in two cells.
        if right.day == there.day or not whole:
            yield _found(cause, right, _less(there_worth, _worth(right)), detail)
        else:
            yield _found(cause, right, _less(NOTHING, _worth(right)), detail)
            yield _found(cause, there, there_worth, detail, int(right.day not in desk.scope.days))


def _why_differs(desk: Desk, right: Point, there: Point, *, whole: bool) -> tuple[str, str]:
    if not whole:
        return "changed_point", UNSOUND
    names = [name for name in POINT if getattr(right, name) != getattr(there, name)]
    detail = "; ".join(_field(name, right, there) for name in names)
    if is_moving(desk, right.request_id):
        return LAG, detail
    return ("wrong_markup" if names == ["markup_nano"] else "changed_point"), detail


def _field(name: str, right: Point, there: Point) -> str:
    was, must = getattr(there, name), getattr(right, name)
    if name.endswith("_nano"):
        was, must = (None if nano is None else text_of(nano) for nano in (was, must))
    return f"{name} is {'unknown' if was is None else was}, must be {'unknown' if must is None else must}"


def _missing(desk: Desk) -> Iterator[Found]:
    query = f"""SELECT {_list("l", POINT)}, l.stamp_ns FROM log_points l
        LEFT JOIN stored_points s ON {_ON} WHERE s.stamp_ns IS NULL"""
    for row in desk.rows(query):
        point, stamp_ns = Point(*row[:-1]), row[-1]
        cause, detail = "missing_point", ""
        if is_moving(desk, point.request_id):
            cause = LAG
        elif (other := _neighbour(desk, point, stamp_ns)) and _has_no_room(desk, point, stamp_ns, other):
            cause, detail = "collision", f"{point.request_id} and {other}"
        elif _has(desk, "refused", point.request_id):
            cause = "refused"
        yield _found(cause, point, _less(NOTHING, _worth(point)), detail)


class Extra(msgspec.Struct, frozen=True):
    """A point that is nobody's winner: where it stands, whether it has all fields, and stands there twice."""

    point: Point
    stamp_ns: int
    whole: bool
    twice: bool


def extras(desk: Desk) -> Iterator[Extra]:
    """The points that are nobody's winner, or twice where one would do; of whichever day."""
    query = f"""SELECT {_list("s", POINT)}, s.stamp_ns, s.whole, s.twice FROM stored_points s
        LEFT JOIN log_points l ON {_ON} WHERE l.stamp_ns IS NULL OR s.twice"""
    for row in desk.rows(query):
        yield Extra(Point(*row[:-3]), row[-3], bool(row[-2]), bool(row[-1]))


def is_extra(desk: Desk, extra: Extra) -> bool:
    """Whether it is too much: it may be on its way out."""
    return extra.twice or not is_moving(desk, extra.point.request_id)


def _extra(desk: Desk) -> Iterator[Found]:
    for extra in extras(desk):
        point, cause = extra.point, "extra_point" if is_extra(desk, extra) else LAG
        detail = "with and without the tag request_id" if extra.twice else ""
        if not extra.whole:
            # It may say no day: it is shown on the first that is in question.
            detail = f"{UNSOUND}, at {extra.stamp_ns}"
            point = msgspec.structs.replace(point, day=point.day or desk.scope.days[0])
        yield _found(cause, point, _worth(point) if extra.whole else NOTHING, detail)


def _openings(desk: Desk) -> Iterator[Found]:
    n = len(OPENING)
    on = " AND ".join(f's."{name}" = l."{name}"' for name in OPENING_KEY)
    both = f"SELECT {_list('l', OPENING)}, {_list('s', OPENING)}"
    other = f"({_list('l', OPENING)}) IS NOT ({_list('s', OPENING)})"
    queries = (
        f"{both} FROM log_openings l LEFT JOIN stored_openings s ON {on} WHERE {other}",
        f"{both} FROM stored_openings s LEFT JOIN log_openings l ON {on} WHERE l.day IS NULL",
    )
    for query in queries:
        for row in desk.rows(query):
            right = Opening(*row[:n]) if row[0] is not None else None
            there = Opening(*row[n:]) if row[n] is not None else None
            found = _opening(desk, right, there)
            if found is not None:
                yield found


def _opening(desk: Desk, right: Opening | None, there: Opening | None) -> Found | None:
    one = right or there
    assert one is not None
    if not any(_balance(right)) and not any(_balance(there)):
        return None  # taken back, on both sides
    off = _less(_balance(there), _balance(right))
    detail = "is missing" if there is None else "must not be there" if right is None else "differs"
    model = one.row if one.margin == "model" else ""
    cause = LAG if is_moving(desk, opening_id(one)) else "opening"
    named = f"the {one.margin}'s balance{f' of {one.row}' if one.row else ''} {detail}"
    return Found(
        cause, INFLUXDB, one.organization, one.day, model, opening_id(one), off, named, margin=one.margin
    )


def _balance(opening: Opening | None) -> Figures:
    if opening is None or not (
        opening.requests or opening.total_tokens or opening.cost_nano or opening.markup_nano
    ):
        return NOTHING  # as the summaries have it
    return tuple(getattr(opening, name) for name in FIGURES)


def _found(cause: str, point: Point, off: Figures, detail: str, counts: int = 1) -> Found:
    return Found(
        cause, INFLUXDB, point.organization, point.day, point.model, point.request_id, off, detail, counts
    )


def is_moving(desk: Desk, id: str) -> bool:
    """Whether facts have touched it that InfluxDB may not have had when it was read, or has had before."""
    return _has(desk, "moving", id)


def _has(desk: Desk, table: str, id: str) -> bool:
    return desk.connection.execute(f"SELECT 1 FROM {table} WHERE id = ?", (id,)).fetchone() is not None


def _neighbour(desk: Desk, point: Point, stamp_ns: int) -> str:
    """Another winner with the same tags and time, where there is room for one; '' if there is none."""
    if not desk.shared_places:
        return ""
    place = (stamp_ns, point.organization, point.model, point.provider, point.source)
    row = desk.connection.execute(
        f"""SELECT request_id FROM log_points WHERE {_NEIGHBOUR} AND request_id <> ?
        ORDER BY request_id LIMIT 1""",
        (*place, point.request_id),
    ).fetchone()
    return "" if row is None else row[0]


def _has_no_room(desk: Desk, point: Point, stamp_ns: int, other: str) -> bool:
    """Whether another winner stands at its place; where none does, the first of them by its id must."""
    place = (stamp_ns, point.organization, point.model, point.provider, point.source)
    query = f"SELECT 1 FROM stored_points s JOIN log_points l ON {_ON} WHERE {_THERE} LIMIT 1"
    return other < point.request_id or desk.connection.execute(query, place).fetchone() is not None


def find_wrong_rates(desk: Desk, rate_of: RateOf) -> None:
    """What the log itself has marked up wrongly: no replay mends that."""
    connection = desk.connection
    connection.execute("BEGIN IMMEDIATE")
    for found in _wrong_rates(desk, rate_of):
        add(connection, found)
    connection.execute("COMMIT")


def _wrong_rates(desk: Desk, rate_of: RateOf) -> Iterator[Found]:
    days = ",".join("?" * len(desk.scope.days))
    query = f"SELECT {_list('l', POINT)} FROM log_points l WHERE day IN ({days}) AND cost_nano IS NOT NULL"
    for row in desk.rows(query, desk.scope.days):
        point = Point(*row)
        text = _contradiction(desk, point) or _against_rules(point, rate_of)
        if text:
            yield msgspec.structs.replace(_found("wrong_markup", point, NOTHING, text), store=LOG)


def _contradiction(desk: Desk, point: Point) -> str:
    row = desk.connection.execute(
        "SELECT text FROM contradicting WHERE id = ? AND offset = ?", (point.request_id, point.offset)
    ).fetchone()
    return "" if row is None else str(row[0])


def _against_rules(point: Point, rate_of: RateOf) -> str:
    """Why a markup is not what the settings of its time make it; '' when it is, or nothing says it."""
    assert point.cost_nano is not None
    # What no source dated was dated by the log, once: a later version keeps that date, and its rate.
    for known_ms in (point.logged_ms, point.time_ns // 1_000_000):
        rate = rate_of(point.organization, point.time_ns, known_ms)
        if rate is None or point.markup_nano == marked_up(point.cost_nano, rate):
            return ""
    rate = rate_of(point.organization, point.time_ns, point.logged_ms)
    assert rate is not None
    found = "unknown" if point.markup_nano is None else text_of(point.markup_nano)
    right = text_of(marked_up(point.cost_nano, rate))
    return f"the log marked {text_of(point.cost_nano)} up to {found}; at {rate}, in force then, it is {right}"
