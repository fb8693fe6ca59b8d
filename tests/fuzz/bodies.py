"""Bodies that are nearly good: what chance alone would not write, so that answers of every kind are met.

They never name an organisation whose figures must stay, save to claim one of its ids.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.gateway.entries import JSON, TAKING, Entry


@dataclass(frozen=True)
class Sent:
    """A body as it is posted."""

    path: str
    type: str
    body: bytes


ODD = st.sampled_from(
    [
        "null",
        "true",
        "[]",
        "{}",
        '""',
        "-1",
        "1e400",
        "0.1",
        "9" * 40,
        '"\\u0000"',
        '"\\ud800"',
        '"' + "é" * 300 + '"',
    ]
)
_FIELDS: Mapping[str, Sequence[str]] = {
    "model": ['"m"', '"openai/gpt-5"', '"模型"'],
    "cost": ["0", "0.000000001", '"12.5"', "1e-9", "null", "1000000"],
    "organization": ['"fuzz-1"', '"fuzz-2"', '"f/ü z"'],
    "prompt_tokens": ["0", "7", "9007199254740993"],
    "completion_tokens": ["0", "5"],
    "user": ['"u-1"', '"ü"'],
}
_MORE: Mapping[str, Sequence[str]] = {
    "created_at": [
        '"2026-11-20T12:00:00Z"',
        '"2001-01-01T00:00:00Z"',
        '"9999-12-31T23:59:59Z"',
        '"1969-01-01T00:00:00Z"',
    ],
    "metadata": ['{"a":[1]}'],
    "void": ["true", "false"],
    "revision": ["0", "3", "9223372036854775807"],
    "authority": ['"estimate"', '"corrected"'],
    "what": ['"unknown to us"'],
}


def events(claimed: Sequence[str], *, may_claim_all: bool) -> Mapping[str, st.SearchStrategy[Sent]]:
    """For each endpoint that takes events, bodies by what is posted there. `claimed` are others' ids.

    `may_claim_all`: the caller has one organisation's key. One who owns the installation may take an id
    over, by an authority that is a read-back's, and so does not try it.
    """
    more = dict(_MORE)
    if may_claim_all:
        more["authority"] = [*_MORE["authority"], '"reconciled"']
    ids = st.sampled_from([*claimed, "fuzz-1", "fuzz-2", "fuzz-3", "é/ü", "a b"])
    return {f"POST {entry.path.partition('?')[0]}": _bodies(entry, ids, more) for entry in TAKING}


def _bodies(
    entry: Entry, ids: st.SearchStrategy[str], more: Mapping[str, Sequence[str]]
) -> st.SearchStrategy[Sent]:
    fields = {name: st.sampled_from(list(texts)) for name, texts in (_FIELDS | more).items()}
    texts = st.fixed_dictionaries({}, optional=fields)
    spoilt = st.none() | st.none() | st.tuples(st.sampled_from(sorted(fields)), ODD)

    def made(id: str, chosen: Mapping[str, str], odd: tuple[str, str] | None, again: int) -> Sent:
        body = entry.body(id, **(dict(chosen) | (dict([odd]) if odd else {})))
        if again and entry.type == JSON and entry.name not in ("traces", "manual"):
            body = b"[" + b",".join([body] * (again + 1)) + b"]"
        return Sent(entry.path, entry.type, body)

    return st.builds(made, ids, texts, spoilt, st.integers(0, 2))


def _posted(path: str, fields: Mapping[str, Sequence[object]], *always: str) -> st.SearchStrategy[Sent]:
    values = {name: st.sampled_from(list(some)) for name, some in fields.items()}
    needed = {name: values.pop(name) for name in always}
    found = st.fixed_dictionaries(needed, optional=values)
    return found.map(lambda value: Sent(path, JSON, json.dumps(value).encode()))


SETTINGS: Mapping[str, st.SearchStrategy[Sent]] = {
    "POST /api/v1/organizations": _posted(
        "/api/v1/organizations",
        {
            "id": ["fuzz-1", "fuzz-2", "f/ü z", "fuzz-1", "\0", ""],
            "markup": ["1.3", 1.5, 0, "-1", "1" * 20, None],
            "timezone": ["Europe/Warsaw", "UTC", "Mars/Olympus", None],
            "monthly_limit": ["100", 3.5, "x", None],
            "billing_email": ["a@example.com", "@", None],
            "active": [True, False],
            "truth": ["", "openai/*=litellm", "x", None],
            "effective": ["2026-11-01", "always", "2026-13-01", "1969-01-01"],
            "must_exist": [True, False],
        },
        "id",
    ),
    "POST /api/v1/users": _posted(
        "/api/v1/users",
        {
            "organization": ["fuzz-1", "nobody-knows"],
            "user": ["u-1", "ü", ""],
            "user_id": ["alice", None],
            "effective": ["2026-11-01", "2026-13-01", None],
        },
        "organization",
        "user",
        "user_id",
    ),
    "POST /api/v1/sync": _posted(
        "/api/v1/sync", {"organization": ["synced", "fuzz-1"], "everything": [True, False, 1]}
    ),
}
_BALANCE = {
    "margin": ["day", "user", "model", "week"],
    "organization": ["fuzz-1", "fuzz-2", "f/ü z", ""],
    "day": ["2025-01-31", "2025-02-30", 1],
    "user": ["", "u-1"],
    "model": ["", "m"],
    "requests": [0, 7, -1, 2**63 - 1, 2**63],
    "unpriced_requests": [0, 7],
    "cost_nano": [0, 300_000_000, 0.5],
}
_KNOWN = {
    "id": ["fuzz-old-1", "fuzz-old-2", "é/ü", ""],
    "organization": ["fuzz-1", "fuzz-2"],
    "model": ["unknown"],
    "created_at": ["2025-01-31T12:00:00Z", "9999-12-31T23:59:59Z", None],
    "authority": ["corrected"],
    "void": [True, False],
}
_OPENINGS = st.one_of(
    st.fixed_dictionaries({name: st.sampled_from(some) for name, some in fields.items()}).map(
        lambda value, kind=kind: {kind: value}  # type: ignore[misc]
    )
    for kind, fields in (("balance", _BALANCE), ("known", _KNOWN))
)
OPENINGS: Mapping[str, st.SearchStrategy[Sent]] = {
    "POST /api/v1/admin/openings": st.lists(_OPENINGS, max_size=3).map(
        lambda value: Sent("/api/v1/admin/openings", JSON, json.dumps(value).encode())
    )
}
KEYS: Mapping[str, st.SearchStrategy[Sent]] = {
    "POST /api/v1/keys": _posted(
        "/api/v1/keys",
        {"organization": ["fuzz-1", "", 1], "rights": ["producer", "reader", "admin", "king"]},
    ),
}
