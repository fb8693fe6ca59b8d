"""One partition of the ledger in memory: the real `decide`, an append-only list for the log, no I/O.

sim = Sim()
sim.post(id="gen-1", cost="0.01")
sim.run()
sim.fates                        # ["counted"]
"""

from typing import Any

import msgspec

from streams import fact, ledger, records
from streams.directory import Directory
from streams.fact import Fact
from streams.known import Anything, Horizon
from streams.ledger import Here
from streams.log.interface import Headers, Message, Record
from streams.rules import Rules
from streams.times import nanoseconds_of

NOON_MS = nanoseconds_of("2026-11-20T12:00:00Z") // 1_000_000
DEFAULTS = {"organization": "acme", "model": "m-1", "created_at": "2026-11-20T10:00:00Z"}


def event(**fields: Any) -> bytes:
    """The JSON of an event; None leaves a default out."""
    given = {name: value for name, value in (DEFAULTS | fields).items() if value is not None}
    return msgspec.json.encode(given)


class Sim:
    """Records in, facts out; what the ledger publishes comes back as records."""

    def __init__(self, time_ms: int = NOON_MS) -> None:
        self.time_ms = time_ms
        self.directory = Directory(log=None)  # type: ignore[arg-type]
        self.rules = Rules(self.directory, "1.5", "UTC")
        self.log: list[Record] = []
        self.table: dict[bytes, Anything] = {}
        self.facts: list[Fact] = []
        self.rejected: list[Message] = []
        self.forwarded: list[Message] = []
        self._next = 0

    def append(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Put a record onto the log as it is."""
        self.log.append(Record("generations", 0, len(self.log), self.time_ms, key, value, headers))

    def post(self, id: str = "gen-1", headers: Headers = (), **fields: Any) -> "Sim":
        """Put an event onto the log."""
        self.append(id.encode(), event(id=id, **fields), headers)
        return self

    def run(self) -> "Sim":
        """Decide every record there is, and those that the ledger publishes meanwhile."""
        while self._next < len(self.log):
            assert len(self.log) < 10_000, "the ledger publishes without end"
            self._decide(self.log[self._next])
            self._next += 1
        return self

    def _decide(self, record: Record) -> None:
        horizon = self.table.get(records.horizon_key(0))
        here = Here(0, 1, horizon if isinstance(horizon, Horizon) else None, self.rules)
        decision = ledger.decide(self.table.get(record.key or b""), record, here)
        if record.key is not None:
            if decision.known is None:
                self.table.pop(record.key, None)
            else:
                self.table[record.key] = decision.known
        value = fact.encode(ledger.fact_of(decision, record, record.offset - 1))
        self.facts.append(fact.decode(value, fact.SCHEMA_HEADERS))
        if decision.keep_bytes:
            self.rejected.append(ledger.rejected_message(decision, record))
        for message in decision.publish:
            if message.partition == 0:
                self.append(message.key, message.value, message.headers)
            else:
                self.forwarded.append(message)

    @property
    def fates(self) -> list[str]:
        """What became of each record, in order."""
        return [fact.fate for fact in self.facts]

    @property
    def totals(self) -> dict[tuple[str, str], tuple[int, int, int, int]]:
        """(organisation, day): requests, tokens, cost and markup in nano-dollars; zeros left out."""
        found: dict[tuple[str, str], tuple[int, int, int, int]] = {}
        for one in self.facts:
            for sign, entry in fact.effects(one):
                key = (entry.organization, entry.day)
                requests, tokens, cost, markup = found.get(key, (0, 0, 0, 0))
                found[key] = (
                    requests + sign * entry.requests,
                    tokens + sign * entry.total_tokens,
                    cost + sign * (entry.cost_nano or 0),
                    markup + sign * (entry.markup_nano or 0),
                )
        return {key: value for key, value in found.items() if any(value)}

    def compacted(self) -> "Sim":
        """A new ledger that reads what compaction would leave of this one's log."""
        last = {record.key: record.offset for record in self.log}
        kept = [record for record in self.log if last[record.key] == record.offset]
        other = Sim(self.time_ms)
        other.directory, other.rules = self.directory, self.rules
        other.log = [msgspec.structs.replace(record, offset=n) for n, record in enumerate(kept)]
        return other
