"""The ledger's decision: the only place where "does this count?" is answered. Pure: no clock, no effect.

    decision = decide(known, record, here)

`known` is what the table holds of the record's key, `here` the partition, its horizon and the rules. One
record in, one fact out. The rows of the table in the design, from the top, are the functions below in
their order; `decide` is the first that fits.

After every record from which a fresh reader would not learn what the ledger knows of the key, the winner
is published again: so compaction, which keeps a key's newest record, keeps the truth.
"""

import msgspec
from msgspec.structs import replace

from streams import generation, openings, records, times, topics, version
from streams.errors import BadEvent
from streams.fact import Entry, Fact, Fate, Sweep
from streams.generation import SCHEMA_HEADERS, Generation
from streams.known import Anything, Balance, Held, Horizon, Known, date_of
from streams.log.interface import Message, Record
from streams.log.partition import partition_of
from streams.money import marked_up
from streams.records import Carried
from streams.rules import Rules
from streams.truth import SYNC

ERROR_LENGTH_MAX = 500
# What a record needs to be published again as it was.
KEPT_HEADERS = ("schema", "kind", "force", "known", "run", "cutoff_ns", "horizon_ns")
KEPT_BYTES_MAX = 4096


class Here(msgspec.Struct, frozen=True, gc=False):
    """What a decision stands on beside the key: where it is, what is forgotten, how it is rated."""

    partition: int
    partitions: int
    horizon: Horizon | None
    rules: Rules
    # By organisation and log time, for the batch that this is made for: many of its records share both.
    todays: dict[tuple[str, int], tuple[str, str]] = msgspec.field(default_factory=dict)


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A fact, what the table holds of the key from here on, and what else is to be written."""

    fate: Fate
    known: Anything | None
    plus: Entry | None = None
    minus: Entry | None = None
    publish: tuple[Message, ...] = ()
    reason: str = ""
    detail: str = ""
    retention: Horizon | None = None
    sweep: Sweep | None = None
    keep_bytes: bool = False
    # Of a conflict: whose the id was, and who claims it. Of the ledger's own copy nobody does.
    holder: str = ""
    claimant: str = ""


def decide(known: Anything | None, record: Record, here: Here, home: int | None = None) -> Decision:
    """The first row of the design's table that fits. `home` is the key's partition, if it is known."""
    headers, key = record.headers, record.key
    kind = None if not headers or headers == SCHEMA_HEADERS else records.header(record, records.KIND)
    try:
        if kind == records.HORIZON and key == records.horizon_key(here.partition):
            return _horizon(known, record, here)
        if home is None and key is not None:
            home = partition_of(key, here.partitions)
        if home is not None and home != here.partition:
            return _rerouted(known, record, here)
        if record.value is None:
            return _forgotten(known, record, here, kind)
        if kind == records.OPENING:
            return _opening(known, record, here)
        event = records.event_of(record)
        carried = records.carried_of(record) if kind == records.WINNER else None
        if carried is None:
            _check_taken(event, record, here)
        elif event.created_ns is None and carried.dated_ns is None:
            raise BadEvent("created_at", "is missing, and the winner carries no date")
        decision = _generation(known, event, carried, record, here)
        return decision if headers == SCHEMA_HEADERS else _as_forced(decision, record)
    except BadEvent as error:
        return _quarantined(known, error, record, here)


def counted(record: Record, here: Here, prev: int, number: int) -> tuple[Fact, Known] | None:
    """What `decide` and `fact_of` say of nearly every record: a plain event of an id that nobody knows.

    The caller has seen to it that it is one, in its own partition. None: it is wrong, undated, a void,
    before the horizon or of a source that may not be believed, and `decide` is to be asked.
    """
    try:
        event = generation.decode(record.value or b"")
    except BadEvent:
        return None
    created_ns, horizon = event.created_ns, here.horizon
    if (
        created_ns is None
        or event.void
        or event.id.encode() != record.key
        or created_ns > record.time_ms * times.MS_NS + generation.EARLY_NS_MAX
        or (horizon is not None and created_ns < horizon.horizon_ns)
        or not here.rules.accepts(event.organization, record.time_ms)
        or (
            (sources := here.rules.believed(event.organization, event.model, created_ns, record.time_ms))
            and event.source not in sources
        )
    ):
        return None
    if event.metadata:
        event = replace(event, metadata=b"")
    terms = here.rules.terms(event.organization, event.user, created_ns, record.time_ms)
    known = Known(event, terms, None, created_ns)
    plus = _entry(known, record, here)
    told = Fact(
        "counted", event.id, record.partition, record.offset, prev, record.time_ms, plus, number=number
    )
    return told, known


def _horizon(known: Anything | None, record: Record, here: Here) -> Decision:
    fresh = records.horizon_of(record)
    is_new = fresh.started_ms == 0  # else it is the ledger's own: a run that it has told of before
    if is_new:
        fresh = replace(fresh, started_ms=record.time_ms)
    after, sweep = fresh, None
    if isinstance(known, Horizon):
        after = _moved(known, fresh, is_new)
        sweep = after.phase if (after.run, after.phase) != (known.run, known.phase) else None
    elif fresh.phase == "started":
        sweep = fresh.phase
    told = sweep and Sweep(sweep, after.days, after.partitions, after.started_ms, records.error_of(record))
    publish = () if after == fresh else _again(after, record.key, here)
    return Decision("horizon", after, publish=publish, retention=after, sweep=told or None)


def _moved(known: Horizon, given: Horizon, is_new: bool) -> Horizon:
    """The horizon after one more record of it: a new run begins, or the one there is ends."""
    horizon_ns = max(known.horizon_ns, given.horizon_ns)
    if given.run == known.run:
        phase = given.phase if known.phase == "started" else known.phase
        return replace(known, phase=phase, horizon_ns=horizon_ns)
    # The end of a run that another one has overtaken, or its beginning told once more.
    if given.phase != "started" or (not is_new and given.started_ms <= known.started_ms):
        return replace(known, horizon_ns=horizon_ns)
    return replace(given, horizon_ns=horizon_ns)


def _rerouted(known: Anything | None, record: Record, here: Here) -> Decision:
    # Of keys that are misplaced on purpose there is one, the horizon's: it stays the newest under its key.
    standing = () if known is None else _again(known, record.key, here)
    if record.value is None:  # the null that took a misplaced record's place
        return Decision("rerouted", known, publish=standing)
    key = record.key or b""
    home = partition_of(key, here.partitions)
    forwarded = Message(topics.GENERATIONS, home, key, record.value, record.headers)
    gone = Message(topics.GENERATIONS, here.partition, key, None)
    return Decision("rerouted", known, publish=(forwarded, *(standing or (gone,))))


def _forgotten(known: Anything | None, record: Record, here: Here, kind: bytes | None) -> Decision:
    if kind != records.FORGET:
        raise BadEvent("", "a null without the retention job's headers", "null")
    run = records.horizon_of(record)
    if isinstance(known, Known) and known.latest_ns < run.cutoff_ns:
        minus = _entry(known, record, here)
        return Decision("forgotten", None, minus=minus, retention=run)
    if known is None or (isinstance(known, Held) and known.known.latest_ns < run.cutoff_ns):
        return Decision("forgotten", None, retention=run)
    return Decision("superseded", known, publish=_again(known, record.key, here), retention=run)


def _opening(known: Anything | None, record: Record, here: Here) -> Decision:
    event, balance = records.opening_of(record)
    if balance is not None:
        if not (record.key or b"").startswith(b"balance-"):
            raise BadEvent("key", "of a balance must begin with balance-", "key")
        openings.check_balance(balance)
        older = known if isinstance(known, Balance) else None
        minus = None if older is None else _margin(older, record, here)
        return Decision("opening", balance, plus=_margin(balance, record, here), minus=minus)
    if event is None or event.id.encode() != record.key:
        raise BadEvent("id", "is not the record's key", "key")
    if isinstance(known, Known):
        if event.void and known.opening:  # the migration was rolled back
            return Decision("opening", None, minus=_entry(known, record, here))
        return Decision("opening", known, publish=_again(known, record.key, here))
    if event.void:
        standing = () if known is None else _again(known, record.key, here)
        return Decision("opening", known, publish=standing)
    fresh = _fresh(event, None, record, here, opening=True)
    return Decision("opening", fresh, plus=_entry(fresh, record, here))


def _check_taken(event: Generation, record: Record, here: Here) -> None:
    """What an event is refused for once, when it comes: a winner was taken already, and stays one."""
    created_ns = event.created_ns
    if created_ns is not None and created_ns > record.time_ms * times.MS_NS + generation.EARLY_NS_MAX:
        raise BadEvent("created_at", "is more than 24 hours after the log took the event", "early")
    if not here.rules.accepts(event.organization, record.time_ms):
        raise BadEvent("organization", "is unknown, and unknown ones are rejected", "organization")


def _generation(
    known: Anything | None, event: Generation, carried: Carried | None, record: Record, here: Here
) -> Decision:
    fresh = _fresh(event, carried, record, here)
    doubt = _doubt(fresh, carried, record, here)
    if isinstance(known, Held):
        return _held(known.known, fresh, doubt, record, here)
    if known is None:
        return _unknown(fresh, doubt, record, here)
    if not isinstance(known, Known):
        raise BadEvent("id", "is a key of the log's own", "key")
    if known.winner.organization != event.organization:
        return _conflict(known, fresh, doubt, record, here)
    order = version.compare(event, known.winner)
    after = _merged(known, fresh, fresh if order > 0 else known, here)
    publish = _unless_told(after, fresh, doubt, record, here)
    if order == 0:
        return Decision("duplicate" if carried is None else "republished", after, publish=publish)
    if order < 0:
        return Decision("superseded", after, publish=publish)
    fate: Fate = "voided" if event.void else "amended"
    plus, minus = _entry(after, record, here), _entry(known, record, here)
    return Decision(fate, after, plus=plus, minus=minus, publish=publish)


def _as_forced(decision: Decision, record: Record) -> Decision:
    """Of what counts by force the fact says so, and who asked for it: it is on the log for good."""
    forced = records.header(record, records.FORCE)
    if forced is None or decision.fate not in ("counted", "voided", "amended"):
        return decision
    return replace(decision, reason="forced", detail=records.forced_by(forced))


def _doubt(fresh: Known, carried: Carried | None, record: Record, here: Here) -> str:
    """Why a call is not counted for this record alone; '' when it is. Who tells of it is not believed.

    A winner was decided once, and an administrator's word needs no source.
    """
    event = fresh.winner
    if carried is not None:
        return "no source that is believed has told of it" if carried.held else ""
    if event.authority == "corrected" or records.header(record, records.FORCE) is not None:
        return ""
    sources = here.rules.believed(event.organization, event.model, date_of(fresh), record.time_ms)
    if not sources or event.source in sources:
        return ""
    return f"of {event.model} the organisation believes {' and '.join(sources)}, not {event.source!r}"


def _unless_told(after: Known, fresh: Known, doubt: str, record: Record, here: Here) -> tuple[Message, ...]:
    """The winner once more, unless a reader that knows nothing of the id learns it from this record."""
    return () if after == fresh and not doubt else _again(after, record.key, here)


def _held(known: Known, fresh: Known, doubt: str, record: Record, here: Here) -> Decision:
    """A version of an id that counts nothing yet: its word is enough, or it is held like those before it."""
    event = fresh.winner
    if known.winner.organization != event.organization or fresh.opening:
        return _beside(known, fresh, doubt, record, here)
    order = version.compare(event, known.winner)
    after = _merged(known, fresh, fresh if order > 0 else known, here)
    if doubt:
        return _doubted(after, fresh, doubt, record, here)
    plus, publish = _entry(after, record, here), _unless_told(after, fresh, "", record, here)
    return Decision("voided" if after.winner.void else "counted", after, plus=plus, publish=publish)


def _beside(known: Known, fresh: Known, doubt: str, record: Record, here: Here) -> Decision:
    """Somebody else's word of an id that counts nothing yet: that keeps it from nobody.

    Unless its provider has proved whose it is: then nobody's lesser claim takes it, whichever came first.
    """
    if doubt:
        return _doubted(known, fresh, doubt, record, here)
    reconciled = version.AUTHORITY_RANK["reconciled"]
    mine, theirs = (version.AUTHORITY_RANK[one.winner.authority] for one in (known, fresh))
    if mine >= reconciled > theirs and not fresh.opening:
        decision = _conflict(known, fresh, "", record, here)
        assert isinstance(decision.known, Known)
        held = Held(decision.known)
    else:
        decision, held = _unknown(fresh, "", record, here), Held(known)
        if decision.fate != "expired":
            return decision
    return replace(decision, known=held, publish=_again(held, record.key, here))


def _doubted(after: Known, fresh: Known, doubt: str, record: Record, here: Here) -> Decision:
    """It is remembered and counts nothing."""
    held = Held(after)
    publish = () if after == fresh else _again(held, record.key, here)
    if records.header(record, records.KIND) == records.WINNER:
        return Decision("republished", held, publish=publish)
    detail = doubt[:ERROR_LENGTH_MAX]
    event = fresh.winner
    # Where the provider is believed, its own word is what counts the call: the sync is to ask for it.
    sources = here.rules.believed(event.organization, event.model, date_of(fresh), record.time_ms)
    return Decision(
        "quarantined",
        held,
        publish=publish,
        reason="source",
        detail=detail,
        keep_bytes=True,
        claimant=event.organization if SYNC in sources else "",
    )


def _unknown(fresh: Known, doubt: str, record: Record, here: Here) -> Decision:
    horizon = here.horizon
    if (
        horizon is not None
        and date_of(fresh) < horizon.horizon_ns
        and records.header(record, records.FORCE) is None
    ):
        return Decision(
            "expired",
            None,
            publish=(records.forget_message(record.key or b"", horizon, here.partition),),
            reason="expired",
            detail="its twin may have been forgotten: it is dated before the horizon",
            retention=horizon,
            keep_bytes=True,
        )
    if doubt:
        return _doubted(fresh, fresh, doubt, record, here)
    plus = _entry(fresh, record, here)
    if fresh.opening:
        return Decision("opening", fresh, plus=plus)
    return Decision("voided" if fresh.winner.void else "counted", fresh, plus=plus)


def _conflict(known: Known, fresh: Known, doubt: str, record: Record, here: Here) -> Decision:
    reconciled = version.AUTHORITY_RANK["reconciled"]
    mine = version.AUTHORITY_RANK[known.winner.authority]
    theirs = version.AUTHORITY_RANK[fresh.winner.authority]
    reason, detail = "conflict", f"the id belongs to organisation {known.winner.organization}"
    # The id is forgotten only when no version of it, of whomever, could still be told again.
    latest_ns = max(known.latest_ns, fresh.latest_ns)
    known = replace(known, latest_ns=latest_ns)
    conflict = Decision(
        "conflict",
        known,
        reason=reason,
        detail=detail,
        keep_bytes=True,
        holder=known.winner.organization,
        claimant=fresh.winner.organization,
    )
    if records.header(record, records.KIND) == records.WINNER:
        # What counted before a take-over, published again just before it: nobody has claimed anything.
        conflict = replace(conflict, holder="", claimant="")
    if theirs == reconciled and mine < reconciled:
        after = replace(fresh, latest_ns=latest_ns)
        plus, minus = _entry(fresh, record, here), _entry(known, record, here)
        detail = f"read back with its own provider key, taken over from {known.winner.organization}"
        publish = _unless_told(after, fresh, doubt, record, here)
        return replace(conflict, known=after, plus=plus, minus=minus, publish=publish, detail=detail)
    return replace(conflict, publish=_again(known, record.key, here))


def _quarantined(known: Anything | None, error: BadEvent, record: Record, here: Here) -> Decision:
    publish = () if known is None else _again(known, record.key, here)
    if [(message.value, message.headers) for message in publish] == [(record.value, record.headers)]:
        publish = ()  # it is what would be published: once more would be for ever
    detail = str(error)[:ERROR_LENGTH_MAX]
    return Decision(
        "quarantined", known, publish=publish, reason=error.reason, detail=detail, keep_bytes=True
    )


def _fresh(
    event: Generation, carried: Carried | None, record: Record, here: Here, *, opening: bool = False
) -> Known:
    """What a reader that knows nothing of the id would know after this record."""
    if event.metadata:
        event = replace(event, metadata=b"")
    if carried is not None:
        return Known(event, carried.terms, carried.dated_ns, carried.latest_ns, carried.opening)
    dated_ns = record.time_ms * times.MS_NS if event.created_ns is None else None
    date_ns = dated_ns if event.created_ns is None else event.created_ns
    assert date_ns is not None
    terms = here.rules.terms(event.organization, event.user, date_ns, record.time_ms)
    return Known(event, terms, dated_ns, date_ns, opening)


def _merged(known: Known, fresh: Known, winner: Known, here: Here) -> Known:
    """The winner, with what outlives each version: the first date by the log, the latest of all dates."""
    dated_ns = known.dated_ns if known.dated_ns is not None else fresh.dated_ns
    latest_ns = max(known.latest_ns, fresh.latest_ns)
    terms = winner.terms
    if winner is fresh and winner.winner.created_ns is None and dated_ns != fresh.dated_ns:
        # An undated version of an id that the log has dated before: the first date stands.
        event = winner.winner
        assert dated_ns is not None
        terms = here.rules.terms(event.organization, event.user, dated_ns, dated_ns // times.MS_NS)
    opening = known.opening and winner is known
    return Known(winner.winner, terms, dated_ns, latest_ns, opening)


def _again(known: Anything, key: bytes | None, here: Here) -> tuple[Message, ...]:
    """The record that makes the key's newest record its winner again."""
    if isinstance(known, Known):
        return (records.winner_message(known, here.partition),)
    if isinstance(known, Held):
        return (records.winner_message(known.known, here.partition, held=True),)
    if isinstance(known, Balance):
        return (records.balance_message(key or b"", known, here.partition),)
    return (records.horizon_message(known, here.partition),)


def _entry(known: Known, record: Record, here: Here) -> Entry:
    """What a known generation is worth. A void is worth nothing, and remembered."""
    event, terms = known.winner, known.terms
    cost_nano = event.cost_nano
    void = event.void
    today, today_zone = _today(event.organization, record.time_ms, here)
    # By position, in the order of the fields: by name it takes twice as long.
    return Entry(
        event.organization,
        terms.day,
        today,
        event.model,
        event.user,
        terms.user_id,
        event.provider,
        0 if void else 1,
        0 if void else event.prompt_tokens,
        0 if void else event.completion_tokens,
        0 if void else event.total_tokens,
        None if void else cost_nano,
        None if void or cost_nano is None else marked_up(cost_nano, terms.rate),
        date_of(known),
        event.created_ns is None,
        terms.rate,
        terms.zone,
        event.source,
        event.authority,
        event.revision,
        event.reasoning_tokens,
        event.cached_tokens,
        event.upstream_cost_nano,
        event.is_byok,
        event.latency_ms,
        event.finish_reason,
        event.session,
        today_zone="" if today_zone == terms.zone else today_zone,
    )


def _today(organization: str, time_ms: int, here: Here) -> tuple[str, str]:
    key = organization, time_ms
    found = here.todays.get(key)
    if found is None:
        found = here.todays[key] = here.rules.today(organization, time_ms)
    return found


def _margin(balance: Balance, record: Record, here: Here) -> Entry:
    """What an opening balance is worth: one row of one table."""
    today, today_zone = _today(balance.organization, record.time_ms, here)
    return Entry(
        organization=balance.organization,
        day=balance.day,
        today=today,
        zone=today_zone,
        model=balance.model,
        user=balance.user,
        user_id=here.rules.user_id(balance.organization, balance.user, balance.day, record.time_ms),
        provider=balance.provider,
        requests=balance.requests,
        prompt_tokens=balance.prompt_tokens,
        completion_tokens=balance.completion_tokens,
        total_tokens=balance.total_tokens,
        cost_nano=balance.cost_nano,
        markup_nano=balance.markup_nano,
        margin=balance.margin,
        unpriced_requests=balance.unpriced_requests,
    )


def fact_of(decision: Decision, record: Record, prev: int, number: int = 0) -> Fact:
    """The decision as the log keeps it."""
    id, retention = (record.key or b"").decode(errors="backslashreplace")[:1024], decision.retention
    run, cutoff_ns, horizon_ns = "", None, None
    if retention is not None:
        run, cutoff_ns = retention.run, retention.cutoff_ns
        horizon_ns = retention.horizon_ns if decision.fate == "horizon" else None
    # By position, as in `_entry`.
    return Fact(
        decision.fate,
        id,
        record.partition,
        record.offset,
        prev,
        record.time_ms,
        decision.plus,
        decision.minus,
        decision.reason,
        decision.detail,
        run,
        cutoff_ns,
        horizon_ns,
        number,
        decision.holder,
        decision.claimant,
        decision.sweep,
    )


def rejected_message(decision: Decision, record: Record) -> Message:
    """A record that was not taken, with its bytes as they came, why, and where it stood."""
    kept = tuple((name, value) for name, value in record.headers if name in KEPT_HEADERS)
    headers = (
        ("reason", decision.reason.encode()),
        ("error", decision.detail.encode()),
        ("partition", b"%d" % record.partition),
        ("offset", b"%d" % record.offset),
        *((name, value[:KEPT_BYTES_MAX]) for name, value in kept),
    )
    return Message(topics.REJECTED, record.partition, record.key, record.value, headers)
