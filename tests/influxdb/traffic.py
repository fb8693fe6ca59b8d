"""What is told besides the road's traffic: calls of one moment, odd names, ids that collide.

told = with_more(traffic, [*crowd(120), *odd_names(), *twins("acme")])
"""

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace

from tests.influxdb.expected import hashed
from tests.model.traffic import Delivery, Fields, Traffic

MOMENT = "2025-10-26T12:00:00.250Z"
NAMES = (
    "'; DROP TABLE x--",  # input rows 36 to 39
    '") |> yield()',
    "ends in a backslash\\",
    "ends in two\\\\",
    "${env.HOME}",
    "a,b=c d",
    'a "quoted" one',
    "50% of \\n",
    "%5C",
    " blanks about ",
    "ü\u202e\u2028",
)


def event(id: str, **fields: object) -> Fields:
    """One that shares its millisecond and all its tags with the others of its organisation."""
    common = {"organization": "acme", "model": "m", "provider": "p", "source": "sdk", "user": "u"}
    figures = {"prompt_tokens": 3, "completion_tokens": 4, "cost": "0.0000125", "created_at": MOMENT}
    return {"id": id, **common, **figures, **fields}


def crowd(size: int, organization: str = "crowd") -> list[Fields]:
    """Calls of the same millisecond, with all tags alike; no two of them fall on one nanosecond."""
    found: dict[int, Fields] = {}
    for n in itertools.count():
        id = f"{organization}-{n}"
        found.setdefault(hashed(id) % 10**6, event(id, organization=organization, prompt_tokens=n))
        if len(found) == size:
            break
    return list(found.values())


def odd_names() -> list[Fields]:
    """Each name in all that becomes a tag or a string; and nothing, where nothing may stand."""
    named = [
        event(f"odd-{n} {name}", organization=name, model=name, provider=name, user=name, latency_ms=n)
        for n, name in enumerate(NAMES)
    ]
    return [*named, event("odd-empty", provider="", source="", user="")]


def twins(organization: str) -> list[Fields]:
    """Two ids whose hashes leave the same remainder within a millisecond, by search."""
    seen: dict[int, str] = {}
    for n in itertools.count():
        id = f"{organization}-{n}"
        other = seen.setdefault(hashed(id) % 10**6, id)
        if other != id:
            return [event(found, organization=organization) for found in (other, id)]
    raise AssertionError


def with_more(traffic: Traffic, events: Iterable[Fields]) -> Traffic:
    """The traffic and these events behind it, with numbers of their own."""
    lines = dict(traffic.lines)
    deliveries = list(traffic.deliveries)
    for fields in events:
        number = len(lines)
        line = json.dumps({**fields, "metadata": {"n": number}}, ensure_ascii=False).encode()
        lines[number] = line
        deliveries.append(Delivery(str(fields["id"]), str(fields["organization"]), line, 0.0))
    return replace(traffic, lines=lines, deliveries=deliveries)
