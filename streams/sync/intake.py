"""What the provider tells in one run, compared with the ledger, and published where it is more.

    intake = Intake("acme", ledger, now_ms)
    event = intake.read(data)          # None: it can't be read as an event, and is counted as failed
    await intake.settle([event])       # asks the ledger, publishes what is new, counts

The same answer makes the same event, so what was published once is a duplicate the next time.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Literal

import msgspec

from streams import generation, times, version
from streams.errors import BadEvent
from streams.generation import Generation
from streams.sources import openrouter
from streams.sync.interface import Ledger
from streams.truth import SYNC

Verdict = Literal["synced", "amended", "duplicate"]


def event_of(data: msgspec.Raw, organization: str) -> Generation:
    """The provider's record of a generation as a reconciled event of the key's organisation."""
    event = generation.decode(openrouter.generation_of(data, organization))
    return msgspec.structs.replace(event, organization=organization, authority="reconciled", source=SYNC)


def verdict(event: Generation, winner: Generation | None) -> Verdict:
    """Whether the ledger lacks an event, holds less than it, or holds as much."""
    if winner is None:
        return "synced"
    if winner.organization != event.organization:
        # Whose key reads it back may take an id over, up to the one who read it back before.
        ranks = version.AUTHORITY_RANK
        return "amended" if ranks[winner.authority] < ranks[event.authority] else "duplicate"
    return "amended" if version.compare(event, winner) > 0 else "duplicate"


class Intake:
    """One run's events and counts. Each generation counts once, however often the run is told of it."""

    def __init__(self, organization: str, ledger: Ledger, now_ms: int) -> None:
        self._organization = organization
        self._ledger = ledger
        self._latest_ns = now_ms * times.MS_NS + generation.EARLY_NS_MAX
        self._told: dict[str, Generation] = {}
        self._unreadable: set[bytes] = set()
        self.synced = 0
        self.amended = 0
        self.duplicates = 0

    @property
    def failed(self) -> int:
        """How many of those told of are no events."""
        return len(self._unreadable)

    @property
    def total(self) -> int:
        """How many generations the provider told of."""
        return self.synced + self.amended + self.duplicates + self.failed

    def read(self, data: msgspec.Raw, id: str = "") -> Generation | None:
        """The event in one answer; None when there is none, or that of another id: that is counted."""
        try:
            event = event_of(data, self._organization)
        except BadEvent:
            event = None
        # One dated so far ahead the ledger refuses, however often it is published.
        is_early = event is not None and (event.created_ns or 0) > self._latest_ns
        if event is None or is_early or (id and event.id != id):
            self.fail(id or bytes(data))
            return None
        return event

    def fail(self, what: str | bytes) -> None:
        """Count an answer that can't be read, by its id or its bytes: once."""
        content = what.encode() if isinstance(what, str) else what
        self._unreadable.add(blake2b(content, digest_size=16).digest())

    async def settle(self, events: Iterable[Generation]) -> None:
        """Publish what the ledger lacks or holds less of. Nothing is counted before it is durable."""
        fresh = self._fresh(events)
        if not fresh:
            return
        winners = await self._ledger.winners(list(fresh))
        verdicts = {id: verdict(event, winners.get(id)) for id, event in fresh.items()}
        await self._publish([fresh[id] for id, said in verdicts.items() if said != "duplicate"])
        self._told.update(fresh)
        said = list(verdicts.values())
        self.synced += said.count("synced")
        self.amended += said.count("amended")
        self.duplicates += said.count("duplicate")

    def _fresh(self, events: Iterable[Generation]) -> Mapping[str, Generation]:
        """Those that the run was not told of yet, or told less of; the greatest version of each."""
        fresh: dict[str, Generation] = {}
        for event in events:
            told = fresh.get(event.id) or self._told.get(event.id)
            if told is None or version.compare(event, told) > 0:
                fresh[event.id] = event
        return fresh

    async def _publish(self, events: Sequence[Generation]) -> None:
        if events:
            await self._ledger.publish(events)
