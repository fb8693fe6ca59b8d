"""The fact: what the ledger decided about one record. One record read, one fact, in the same partition.

    {"fate":"counted","id":"gen-1","partition":1,"offset":17,"prev":16,"time_ms":1795217400000,
     "plus":{"organization":"acme","day":"2026-11-20",...,"cost_nano":12300000,"markup_nano":15990000}}

A fact holds all that a view needs; nothing is looked up elsewhere. `plus` is what the id is worth from
here on, `minus` what it was worth before; `effects` says which of the two touch a total. `offset` is the
source record's, `prev` the one handled before it (-1: none), so that a missing fact is seen. The schema's
version is a record header (`schema: 1`; absent means 1).
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import msgspec

from streams.errors import LogMismatch
from streams.log.interface import Headers

SCHEMA_HEADERS: Headers = (("schema", b"1"),)

Fate = Literal[
    "counted",
    "amended",
    "duplicate",
    "superseded",
    "voided",
    "expired",
    "conflict",
    "forgotten",
    "opening",
    "horizon",
    "rerouted",
    "republished",
    "quarantined",
]
FATES: tuple[Fate, ...] = (
    "counted",
    "amended",
    "duplicate",
    "superseded",
    "voided",
    "expired",
    "conflict",
    "forgotten",
    "opening",
    "horizon",
    "rerouted",
    "republished",
    "quarantined",
)
# The tables of an opening balance are three margins of the same money: each row stands for itself.
Margin = Literal["", "day", "user", "model"]
# How far a run of the retention job has come in a partition; "" is not said.
Phase = Literal["", "started", "ended", "failed"]


class Entry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a generation is worth, and where: one side of a fact."""

    organization: str
    day: str  # the organisation's local day of created_ns
    today: str  # the organisation's local day at the fact's time
    model: str = ""
    user: str = ""  # the provider's user id; "" is no user
    user_id: str = ""  # the application's, by the mapping of that day; "" means the same as user
    provider: str = ""
    requests: int = 1  # 0 for a void: it is remembered, and worth nothing
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost_nano: int | None = None  # None: unknown, the request is unpriced
    markup_nano: int | None = None
    created_ns: int = 0
    dated: bool = False  # no created_at was given: the log dated it
    rate: str = "1"
    zone: str = "UTC"
    source: str = ""
    authority: str = "reported"
    revision: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    upstream_cost_nano: int | None = None
    is_byok: bool | None = None
    latency_ms: int | None = None
    finish_reason: str = ""
    session: str = ""
    margin: Margin = ""  # an opening balance stands for one row of one table
    unpriced_requests: int = 0  # of a balance; for one generation the missing cost says it
    today_zone: str = ""  # the timezone that `today` is reckoned in; "" means the same as zone


class Sweep(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A run of the retention job has begun in a partition, or has ended there."""

    phase: Phase
    days: int
    partitions: int
    started_ms: int
    error: str = ""


class Fact(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One decision. `reason` names why a record was not taken, or `forced`; `detail` explains it."""

    fate: Fate
    id: str
    partition: int
    offset: int
    prev: int
    time_ms: int  # the source record's log time
    plus: Entry | None = None
    minus: Entry | None = None
    reason: str = ""
    detail: str = ""
    run: str = ""  # of the retention job
    cutoff_ns: int | None = None
    horizon_ns: int | None = None
    # The how-manieth record of its partition: offsets have gaps on Kafka, the books count. 0: not said.
    number: int = 0
    # Of a conflict: whose the id was, and who claims it; "" of the ledger's own copy of what counted before.
    # Of a held version, where the organisation believes what the provider tells the sync: whose it is.
    holder: str = ""
    claimant: str = ""
    sweep: Sweep | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Fact)


def encode(fact: Fact) -> bytes:
    """A fact as the topic `usage` keeps it."""
    return _encoder.encode(fact)


def decode(value: bytes, headers: Headers = SCHEMA_HEADERS) -> Fact:
    """A record of `usage` as a fact. One of a later schema stops the reader: upgrade it first."""
    if headers is not SCHEMA_HEADERS and headers != SCHEMA_HEADERS:
        schema = dict(headers).get("schema", b"1")
        if schema != b"1":
            raise LogMismatch(f"a fact of schema {schema!r} is newer than this version: upgrade genledger")
    return _decoder.decode(value)


def digest(value: bytes) -> str:
    """What a position remembers of the last fact it took."""
    return blake2b(value, digest_size=8).hexdigest()


def effects(fact: Fact) -> Sequence[tuple[int, Entry]]:
    """The entries that change a total, each with its sign. None: no total moves."""
    fate, plus, minus = fact.fate, fact.plus, fact.minus
    if fate == "counted" and minus is None and plus is not None and plus.requests:
        return ((1, plus),)  # nearly all of them
    found = []
    if fate in ("counted", "amended", "conflict") or (fate == "opening" and _is_balance(fact)):
        if minus is not None and _counts(minus):
            found.append((-1, minus))
        if plus is not None and _counts(plus):
            found.append((1, plus))
    elif fate == "voided" and minus is not None and minus.requests:
        found.append((-1, minus))
    return found


def _counts(entry: Entry) -> bool:
    # An earlier system's row may have money and no requests; one that was taken back has nothing at all.
    return entry.requests > 0 or (
        entry.margin != "" and bool(entry.total_tokens or entry.cost_nano or entry.markup_nano)
    )


def _is_balance(fact: Fact) -> bool:
    return fact.plus is not None and fact.plus.margin != ""


def unpriced(entry: Entry) -> int:
    """How many of an entry's requests have no known cost."""
    return entry.unpriced_requests if entry.margin else int(entry.cost_nano is None and entry.requests > 0)
