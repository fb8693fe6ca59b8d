"""A partition's ledger with the retention job's records, decided by the real `decide`."""

from typing import Any

import msgspec

from streams import records, times
from streams.fact import Fact
from streams.known import Horizon
from tests.ledger.sim import NOON_MS, Sim

CUTOFF_NS = times.nanoseconds_of("2026-11-20T00:00:00Z")


def run_of(name: str, partitions: int = 1, phase: Any = "started", cutoff_ns: int = CUTOFF_NS) -> Horizon:
    return Horizon(name, cutoff_ns, cutoff_ns, phase, 90, partitions)


class Ledger(Sim):
    """One partition whose facts say so, with the retention job's records."""

    def __init__(self, partition: int = 0, time_ms: int = NOON_MS) -> None:
        super().__init__(time_ms)
        self.partition = partition

    def begin(self, name: str, partitions: int = 1, **fields: Any) -> "Ledger":
        return self._horizon(run_of(name, partitions, **fields))

    def end(self, name: str, partitions: int = 1, error: str = "") -> "Ledger":
        return self._horizon(run_of(name, partitions, "failed" if error else "ended"), error)

    def _horizon(self, run: Horizon, error: str = "") -> "Ledger":
        self.time_ms += 1000
        message = records.horizon_message(run, 0, error)
        self.append(message.key, message.value, message.headers)
        return self._ran()

    def forget(self, id: str, name: str, **fields: Any) -> "Ledger":
        message = records.forget_message(id.encode(), run_of(name, **fields), 0)
        self.append(message.key, message.value, message.headers)
        return self._ran()

    def call(self, id: str, organization: str = "acme", **fields: Any) -> "Ledger":
        given = {"created_at": "2026-11-19T10:00:00Z", "prompt_tokens": 30, "cost": "0.0005"} | fields
        self.post(id, organization=organization, **given)
        return self._ran()

    def _ran(self) -> "Ledger":
        self.run()
        return self

    @property
    def told(self) -> list[Fact]:
        return [msgspec.structs.replace(fact, partition=self.partition) for fact in self.facts]


def night(partition: int = 0, partitions: int = 1, name: str = "night-1") -> Ledger:
    """Eight ids of 330 tokens and $0.004 go, six stay."""
    ledger = Ledger(partition)
    for n in range(8):
        ledger.call(f"old-{n}", "acme" if n < 5 else "globex", prompt_tokens=41 if n < 6 else 42)
    for n in range(6):
        ledger.call(f"new-{n}", created_at="2026-11-20T10:00:00Z")
    ledger.begin(name, partitions)
    for n in range(8):
        ledger.forget(f"old-{n}", name)
    return ledger.end(name, partitions)
