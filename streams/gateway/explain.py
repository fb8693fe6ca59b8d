"""One generation's whole story: its winner, where it is counted, and every decision about it.

    GET /api/v1/generations/gen-1
    GET /api/v1/generations/gen-1/duplicate?model=m&cost=0.0123&org=acme

The winner comes from the ledger's table; the history is a scan of the id's partition of `usage`, in
batches, with a turn for others between them and an end: what could not be read in time is `truncated`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from streams import fact, generation, money, times, topics
from streams.clock import monotonic_s
from streams.export import seen_by
from streams.fact import Entry, Fact
from streams.gateway.access import Caller
from streams.gateway.answers import answer, invalid, not_found
from streams.gateway.organizations import time_of
from streams.generation import Generation
from streams.known import Known
from streams.log.interface import Log
from streams.log.partition import partition_of
from streams.settings import Settings
from streams.snapshots import facts_from_ms

Lookup = Callable[[str], Awaitable[Known | None]]

HISTORY_FACTS_MAX = 1000
SCAN_RECORDS = 1000
SCANS_MAX = 2
# The seeds' tolerance: one millionth of a dollar.
TOLERANCE_NANO = 1000


class Explain:
    """The two handlers."""

    def __init__(self, log: Log, lookup: Lookup, settings: Settings) -> None:
        self._log = log
        self._lookup = lookup
        self._timeout_s = settings.explain_timeout_s
        self._scans = asyncio.Semaphore(SCANS_MAX)

    async def show(self, request: web.Request) -> web.Response:
        """GET /api/v1/generations/{id}"""
        id = request.match_info["id"]
        known = await self._visible(id, request["caller"])
        if known is None and request["caller"].organization:
            raise _absent()
        facts, truncated = await self._history(id)
        partition = partition_of(id.encode(), self._log.partitions(topics.USAGE))
        from_ms = await facts_from_ms(self._log, [partition])
        if known is None and not facts:
            raise _absent()
        organization = request["caller"].organization
        body = {
            "id": id,
            "known": known is not None,
            **(_known_of(known) if known else {"organization": None, "winner": None, "counted": None}),
            "history": [told(fact, organization) for fact in facts],
            "truncated": truncated,
            "facts_from": None if from_ms is None else time_of(from_ms),
        }
        return answer(200, body)

    async def duplicate(self, request: web.Request) -> web.Response:
        """GET /api/v1/generations/{id}/duplicate?model=&cost=&org="""
        cost_nano = _cost_of(request.query.get("cost", ""))
        known = await self._visible(request.match_info["id"], request["caller"])
        if known is not None and request.query.get("org", "") not in ("", known.winner.organization):
            known = None
        return answer(200, compared(known, request.query.get("model", ""), cost_nano))

    async def _visible(self, id: str, caller: Caller) -> Known | None:
        """What is known of an id, as far as the caller may know it."""
        known = await self._lookup(id)
        if known is not None and caller.organization not in ("", known.winner.organization):
            return None
        return known

    async def _history(self, id: str) -> tuple[list[Fact], bool]:
        """The newest facts of an id, oldest first, and whether something is missing."""
        key = id.encode()
        partition = partition_of(key, self._log.partitions(topics.USAGE))
        found: deque[Fact] = deque(maxlen=HISTORY_FACTS_MAX)
        count = 0
        deadline_s = monotonic_s() + self._timeout_s
        late = False
        async with self._scans:
            offset = self._log.start_offset(topics.USAGE, partition)
            end = self._log.end_offset(topics.USAGE, partition)
            while offset < end:
                late = monotonic_s() > deadline_s
                if late:
                    break
                records = await self._log.read(topics.USAGE, partition, offset, SCAN_RECORDS)
                if not records:
                    break
                for record in records:
                    if record.key == key and record.value is not None:
                        found.append(fact.decode(record.value, record.headers))
                        count += 1
                offset = records[-1].offset + 1
                await asyncio.sleep(0)
        return list(found), late or count > len(found)


def _absent() -> Exception:
    return not_found("there is no such generation")


def _cost_of(text: str) -> int | None:
    if not text:
        return None
    try:
        return money.nano_of(text)
    except ValueError as error:
        raise invalid("cost", str(error)) from None


def compared(known: Known | None, model: str, cost_nano: int | None) -> dict[str, Any]:
    """Whether a request of this model and cost is one that is known: the seeds' question. Pure."""
    if known is None:
        return {"known": False, "duplicate": False, "same_model": False, "cost_difference": None}
    # Of an id that a migration brought the model is not known: any may be it, as the seeds' question has it.
    same_model = known.opening or known.winner.model == model
    winner_nano = known.winner.cost_nano
    if cost_nano is None or winner_nano is None:
        # Unknown is not zero: only two unknown costs are alike.
        near, difference = cost_nano is winner_nano, None
    else:
        near = abs(cost_nano - winner_nano) < TOLERANCE_NANO
        difference = money.text_of(abs(cost_nano - winner_nano))
    return {
        "known": True,
        "duplicate": same_model and near,
        "same_model": same_model,
        "cost_difference": difference,
    }


def _known_of(known: Known) -> dict[str, Any]:
    winner: Generation = known.winner
    counted = None
    if not winner.void:
        counted = {
            "organization": winner.organization,
            "day": known.terms.day,
            "timezone": known.terms.zone,
            "markup": known.terms.rate,
            "user_id": known.terms.user_id or winner.user,
            "opening_balance": known.opening,
        }
    return {
        "organization": winner.organization,
        "winner": msgspec.Raw(generation.encode(winner)),
        "dated_by_log": None if known.dated_ns is None else _time_of(known.dated_ns),
        "counted": counted,
    }


def _time_of(time_ns: int) -> str:
    """With milliseconds always, and below them only what there is: nothing of an event's time is lost."""
    return times.text_of(time_ns) if time_ns % times.MS_NS else time_of(time_ns // times.MS_NS)


def told(fact: Fact, organization: str) -> dict[str, Any]:
    """A decision as JSON. To a caller of one organisation nothing of another's is told. Pure."""
    fact = seen_by(fact, organization)
    return {
        "partition": fact.partition,
        "offset": fact.offset,
        "time": time_of(fact.time_ms),
        "fate": fact.fate,
        "plus": _entry_of(fact.plus),
        "minus": _entry_of(fact.minus),
        "reason": fact.reason,
        "detail": fact.detail,
    }


def _entry_of(entry: Entry | None) -> dict[str, Any] | None:
    """One side of a fact: money as decimal text, time as RFC 3339."""
    if entry is None:
        return None
    found: dict[str, Any] = msgspec.to_builtins(entry)
    for name in ("cost", "markup", "upstream_cost"):
        nano = found.pop(f"{name}_nano", None)
        found[name] = None if nano is None else money.text_of(nano)
    found["created_at"] = _time_of(found.pop("created_ns", 0))
    return found
