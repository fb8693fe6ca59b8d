"""What the ledger knows of a key: the value of the table "seen" and of its changelog.

A generation's id is `Known`: the whole winner, how it was rated, and the latest created_at of all versions
read; `Held` when only sources that are not believed have told of it. The key of an opening balance is a
`Balance`, a partition's horizon a `Horizon`. Kept as msgpack arrays whose first element is the kind, which is
also the schema: a changed layout gets a new number, and the old one stays readable. A number that this
version does not know stops it: nothing is decided on a guess.
"""

from typing import Annotated

import msgspec

from streams.errors import LogMismatch
from streams.fact import Margin, Phase
from streams.generation import Generation

# 64 bits are what the table, the fact and SQLite hold.
TimeNs = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Terms(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How one generation is rated: by the settings that were in force, decided once."""

    rate: str
    zone: str
    day: str
    user_id: str


class Known(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """The winner of an id, with all that must outlive its records."""

    winner: Generation  # without its metadata
    terms: Terms
    dated_ns: TimeNs | None  # log time of the first record of the id that had no created_at
    latest_ns: TimeNs  # the latest date of all versions read: retention goes by it
    opening: bool = False  # its money is in an opening balance, not in a fact of its own


class Balance(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """An opening balance: one row of one table of a system before this one."""

    margin: Margin
    organization: str
    day: str
    user: str
    model: str
    provider: str
    requests: Amount
    unpriced_requests: Amount
    prompt_tokens: Amount
    completion_tokens: Amount
    total_tokens: Amount
    cost_nano: Amount
    markup_nano: Amount


class Horizon(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """What is dated before it may have been forgotten: it rises, never falls. And the run that said so."""

    run: str
    cutoff_ns: int
    horizon_ns: int
    phase: Phase = ""
    days: int = 0  # that ids were to be kept, by the settings of the run
    partitions: int = 0  # that the run has to do with
    started_ms: int = 0  # the log time of its beginning here


class Held(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """An id that counts nothing until a source that is believed tells of it: the greatest version so far.

    Without it the figures would depend on which of two sources came first.
    """

    known: Known


Anything = Known | Balance | Horizon | Held


class _Dated(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """Of a Known only what retention goes by; the rest is passed over, at a tenth of the time."""

    winner: msgspec.Raw
    terms: msgspec.Raw
    dated_ns: msgspec.Raw
    latest_ns: TimeNs


class _HeldDated(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    known: _Dated


class _BalanceUndated(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    pass


class _HorizonUndated(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    pass


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Known | Balance | Horizon | Held)
_dated = msgspec.msgpack.Decoder(_Dated | _HeldDated | _BalanceUndated | _HorizonUndated)
KINDS = tuple(each.__struct_config__.tag for each in (Known, Balance, Horizon, Held))


def date_of(known: Known) -> int:
    """When the generation was, in nanoseconds: as its winner says, else as the log first had it."""
    created_ns = known.winner.created_ns
    if created_ns is not None:
        return created_ns
    assert known.dated_ns is not None
    return known.dated_ns


def encode(known: Anything) -> bytes:
    """As the table and its changelog keep it."""
    return _encoder.encode(known)


def decode(value: bytes) -> Anything:
    """What `encode` wrote, in this version or an older one; `LogMismatch` for a later one's."""
    try:
        found: Anything = _decoder.decode(value)
    except msgspec.ValidationError:
        kind = _kind(value)
        if kind is None or kind in KINDS:
            raise
        raise LogMismatch(
            f'an entry of "seen" has layout {kind}, newer than this version, which knows'
            f" {', '.join(map(str, KINDS))}: upgrade genledger"
        ) from None
    return found


def latest_ns_of(value: bytes) -> int | None:
    """The latest date of an id, read from its value without the rest; None for what never goes by age.

    What `decode` can't read this may: who acts on it decodes first.
    """
    try:
        found = _dated.decode(value)
    except msgspec.MsgspecError:
        decode(value)  # it says what is wrong
        raise
    if isinstance(found, _HeldDated):
        found = found.known
    return found.latest_ns if isinstance(found, _Dated) else None


def _kind(value: bytes) -> int | None:
    """The layout that a value says it has; None when it says nothing of the sort."""
    found = msgspec.msgpack.decode(value)
    first = found[0] if isinstance(found, list) and found else None
    return first if isinstance(first, int) else None
