"""What must be in InfluxDB, from the independent model; and what is there, in the same words.

    points = expected(model)                                   # by id
    assert stored(influx.rows(bucket, "llm_usage")) == points

The nanosecond of a point, its tags' texts and its sums of money are reckoned here, not by the product.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.influxdb.real import Influx
from tests.model.ledger import Model
from tests.road.files import VIEWS, Records, connect

TAGS = ("organization", "model", "provider", "source")
FIGURES = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost_nano",
    "markup_nano",
    "cost",
    "unpriced",
)

Point = dict[str, Any]


def hashed(id: str) -> int:
    """The number that spreads ids over a moment."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big")


def stamp_ns(date_ns: int, id: str) -> int:
    """Within its millisecond; within its second, where nothing finer was told."""
    moment_ns = 10**9 if date_ns % 10**9 == 0 else 10**6
    return date_ns - date_ns % moment_ns + hashed(id) % moment_ns


def expected(model: Model) -> dict[str, Point]:
    """The winners that are not void, by id."""
    points: dict[str, Point] = {}
    for id, known in model.ids.items():
        worth = model.worth(known)
        if worth is not None:
            cost_nano = worth.cost_nano
            # What the log dated is dated to the second.
            fine_ns = 10**9 if known.winner.created_ns is None else 1
            date_ns = known.date_ns // fine_ns * fine_ns
            points[id] = {
                "organization": worth.organization,
                "model": worth.model,
                "provider": worth.provider,
                "source": known.winner.source,
                "time_ns": stamp_ns(date_ns, id),
                "request_id": id,
                "user": worth.user,
                "user_id": worth.user_id,
                "day": worth.day,
                "prompt_tokens": worth.prompt_tokens,
                "completion_tokens": worth.completion_tokens,
                "total_tokens": worth.total_tokens,
                "cost_nano": cost_nano or 0,
                "markup_nano": worth.markup_nano or 0,
                "cost": (cost_nano or 0) / 10**9,
                "unpriced": int(cost_nano is None),
                "requests": 1,
                "latency_ms": known.winner.latency_ms,
                "created_ns": date_ns,
                "logged_ms": known.won_ms,
            }
    return points


def stored(rows: Iterable[Mapping[str, Any]]) -> dict[str, Point]:
    """The points among rows, by id; voids are checked and left out."""
    points: dict[str, Point] = {}
    for row in rows:
        point = dict(row)
        for tag in (*TAGS, "request_id"):
            point[tag] = unquote(point.get(tag, ""))
        untimed = point.pop("untimed")
        point["latency_ms"] = None if untimed else point["latency_ms"]
        del point["offset"]
        if point["requests"] == 0:
            assert not any(point[figure] for figure in FIGURES), f"a void that says something: {row}"
            continue
        assert point["request_id"] not in points, (
            f"two points of one id: {row}, {points[point['request_id']]}"
        )
        points[point["request_id"]] = point
    return points


def place(point: Point) -> tuple[Any, ...]:
    """What makes two points one, where the id is no tag."""
    return (*(point[tag] for tag in TAGS), point["time_ns"])


def differences(have: Mapping[str, Point], want: Mapping[str, Point]) -> list[str]:
    """The first points that are not as they must be, each in a line."""
    found = []
    for id in sorted({*have, *want}):
        if id not in have or id not in want:
            found.append(f"{id}: {'must not be there' if id in have else 'missing'}")
        elif have[id] != want[id]:
            names = {*have[id], *want[id]}
            wrong = {
                n: (have[id].get(n), want[id].get(n)) for n in names if have[id].get(n) != want[id].get(n)
            }
            found.append(f"{id}: (has, must have) {wrong}")
    return found[:20]


def positions(rows: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """How far the points have come on `usage`, by partition, from what the bucket says."""
    newest = sorted(rows, key=lambda row: row["time_ns"])
    return {int(row["partition"]): json.loads(row["at"])["usage_offset"] for row in newest}


def all_sent(rows: Iterable[Mapping[str, Any]], log: Records) -> bool:
    """Has the bucket's position taken every fact?"""
    taken = positions(rows)
    log.refresh()
    return all(
        not log.after(topic, number, taken.get(number, -1))
        for topic, number in log.places()
        if topic == "usage"
    )


def is_sent(influx: Influx, bucket: str, log: Records) -> bool:
    """The same of a real server."""
    return all_sent(influx.rows(bucket, "genledger_positions"), log)


def sqlite_points(data: Path) -> list[tuple[object, ...]]:
    """The rows of usage_points."""
    if not (data / VIEWS).exists():
        return []
    with closing(connect(data / VIEWS)) as connection:
        return list(connection.execute("SELECT * FROM usage_points ORDER BY id"))
