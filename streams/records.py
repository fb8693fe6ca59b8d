"""The records on `generations` that are not plain events, told apart by the header `kind`.

| kind    | key                   | value            | who publishes it                                   |
| ------- | --------------------- | ---------------- | -------------------------------------------------- |
| (none)  | generation id         | the event        | producers                                          |
| winner  | generation id         | the event        | the ledger, after a record that is not the winner  |
| forget  | generation id         | null             | the retention job: the id may go                   |
| horizon | horizon-<partition>   | null             | the retention job: older ids may have been forgotten; |
|         |                       |                  | the ledger: the run has ended here, or failed      |
| opening | generation id, or row | JSON             | the migration: a known id, or a balance            |

A winner carries in the header `known` what the ledger knows beyond the event: how it was dated and rated.
`force` on an event lets an administrator count what the horizon, or the source of truth, would refuse; its
value names who asked for it, and the fact says so.
"""

import re
from typing import cast, get_args

import msgspec

from streams import generation, known, money, times, topics
from streams.errors import BadEvent
from streams.fact import Phase
from streams.generation import Generation
from streams.known import Balance, Horizon, Known, Terms, TimeNs
from streams.log.interface import Message, Record

KIND = "kind"
WINNER, FORGET, HORIZON, OPENING = b"winner", b"forget", b"horizon", b"opening"
FORCE = "force"
# The reason on `generations.rejected` of what is no event: a line that InfluxDB does not take.
REFUSED_POINT = b"influxdb"
HEADERS_BYTES_MAX = 16_384
ERROR_BYTES_MAX = 500
FORCED_BYTES_MAX = 128
_RUN = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class Carried(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a re-published winner carries beside its event."""

    terms: Terms
    latest_ns: TimeNs
    dated_ns: TimeNs | None = None
    opening: bool = False
    held: bool = False  # it counts nothing yet: no source that is believed has told of it


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of an opening record: exactly one of the two."""

    known: msgspec.Raw = generation.ABSENT
    balance: Balance | None = None


_carried = msgspec.json.Decoder(Carried)
_opening = msgspec.json.Decoder(Opening)
_encoder = msgspec.json.Encoder()


def header(record: Record, name: str) -> bytes | None:
    """A header's value; the last one where a name stands twice, None where it does not stand."""
    found = None
    for key, value in record.headers:
        if key == name:
            found = value
    return found


def winner_message(thing: Known, partition: int, *, held: bool = False) -> Message:
    """The winner of an id, published again with all that is known of it."""
    carried = Carried(thing.terms, thing.latest_ns, thing.dated_ns, thing.opening, held)
    headers = (*generation.SCHEMA_HEADERS, (KIND, WINNER), ("known", _encoder.encode(carried)))
    value = generation.encode(thing.winner)
    return Message(topics.GENERATIONS, partition, thing.winner.id.encode(), value, headers)


def balance_message(key: bytes, balance: Balance, partition: int) -> Message:
    """An opening balance, published again."""
    value = _encoder.encode({"balance": balance})
    return Message(topics.GENERATIONS, partition, key, value, (*generation.SCHEMA_HEADERS, (KIND, OPENING)))


def forget_message(key: bytes, horizon: Horizon, partition: int) -> Message:
    """The retention job's tombstone for an id."""
    headers = ((KIND, FORGET), ("run", horizon.run.encode()), ("cutoff_ns", b"%d" % horizon.cutoff_ns))
    return Message(topics.GENERATIONS, partition, key, None, headers)


def horizon_key(partition: int) -> bytes:
    """The key of a partition's horizon, on the log and in the table."""
    return b"horizon-%d" % partition


def horizon_message(horizon: Horizon, partition: int, error: str = "") -> Message:
    """A partition's horizon, and how far the run that set it has come there."""
    headers = (
        (KIND, HORIZON),
        ("run", horizon.run.encode()),
        ("cutoff_ns", b"%d" % horizon.cutoff_ns),
        ("horizon_ns", b"%d" % horizon.horizon_ns),
        ("phase", horizon.phase.encode()),
        ("days", b"%d" % horizon.days),
        ("partitions", b"%d" % horizon.partitions),
        ("started_ms", b"%d" % horizon.started_ms),
        *((("error", error.encode()[:ERROR_BYTES_MAX]),) if error else ()),
    )
    return Message(topics.GENERATIONS, partition, horizon_key(partition), None, headers)


def horizon_of(record: Record) -> Horizon:
    """The run, cutoff and horizon in a record's headers; `BadEvent` when they are not there."""
    found = dict(record.headers)
    try:
        run, phase = found["run"].decode(), found.get("phase", b"").decode()
        cutoff_ns = int(found["cutoff_ns"])
        horizon_ns = int(found.get("horizon_ns", found["cutoff_ns"]))
        days, partitions, started_ms = (
            int(found.get(name, 0)) for name in ("days", "partitions", "started_ms")
        )
    except (KeyError, ValueError):
        raise BadEvent("", "lacks the retention job's headers", "null") from None
    if any(not 0 <= figure < 2**63 for figure in (cutoff_ns, horizon_ns, days, partitions, started_ms)):
        raise BadEvent("", "has a cutoff or horizon that is no time", "null")
    if _RUN.fullmatch(run) is None or phase not in get_args(Phase):
        raise BadEvent("", "names no run of the retention job", "null")
    return Horizon(run, cutoff_ns, horizon_ns, cast("Phase", phase), days, partitions, started_ms)


def error_of(record: Record) -> str:
    """Why a run has failed, as its end says."""
    return (header(record, "error") or b"")[:ERROR_BYTES_MAX].decode(errors="replace")


def carried_of(record: Record) -> Carried | None:
    """What a re-published winner carries; None for any other record."""
    if header(record, KIND) != WINNER:
        return None
    try:
        carried = _carried.decode(header(record, "known") or b"")
        money.rate_of(carried.terms.rate)
        times.zone_of(carried.terms.zone)
        times.date_text(carried.terms.day)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise BadEvent("", "a winner without what is known of it") from None
    return carried


def opening_of(record: Record) -> tuple[Generation | None, Balance | None]:
    """A known id's event, or a balance; `BadEvent` when it is neither."""
    try:
        found = _opening.decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEvent("", f"not an opening entry: {error}") from None
    if found.balance is not None:
        return None, found.balance
    return generation.decode(found.known), None


def event_of(record: Record) -> Generation:
    """The event of a record, checked against its headers and key; `BadEvent` with the reason."""
    if record.headers and record.headers != generation.SCHEMA_HEADERS:
        if sum(len(name) + len(value) for name, value in record.headers) > HEADERS_BYTES_MAX:
            raise BadEvent("", f"has headers of more than {HEADERS_BYTES_MAX} bytes", "headers")
        schema = header(record, generation.SCHEMA_HEADER)
        if schema not in (None, b"1"):
            raise BadEvent("", f"is of schema {schema!r}, newer than this version", "schema")
    event = generation.decode(record.value or b"")
    if event.id.encode() != record.key:
        raise BadEvent("id", "is not the record's key", "key")
    return event


def forced_by(value: bytes) -> str:
    """Who had an event counted, in words; `1` is what a record says that names nobody."""
    if value in (b"", b"1"):
        return "counted by force"
    return f"counted by force, for {value[:FORCED_BYTES_MAX].decode(errors='backslashreplace')}"


def anything_of(value: bytes | None) -> known.Anything | None:
    """What the table holds under a key."""
    return None if value is None else known.decode(value)
