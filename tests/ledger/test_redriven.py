"""What was rejected can be taken after all."""

from streams.fact import Fact
from streams.gateway.rejected import again
from streams.known import Horizon
from streams.log.interface import Record
from streams.records import horizon_key
from streams.times import nanoseconds_of
from tests.ledger.sim import NOON_MS, Sim


def test_a_winner_that_came_too_late_can_be_redriven() -> None:
    """A winner that the tombstone overtook is on `rejected`, and an administrator may force it."""
    sim = Sim().post(created_at="2026-11-01T00:00:00Z", cost="2").run()
    sim.post(created_at="2026-11-01T00:00:00Z", cost="1")
    # The retention run's tombstone stands before the winner that the second event has published again.
    day = nanoseconds_of("2026-11-15T00:00:00Z")
    sim.append(b"gen-1", None, (("kind", b"forget"), ("run", b"r"), ("cutoff_ns", b"%d" % day)))
    sim.table[horizon_key(0)] = Horizon("r", day, day)
    sim.run()
    facts: list[Fact] = sim.facts
    assert [one.fate for one in facts][:4] == ["counted", "superseded", "forgotten", "expired"]
    kept = sim.rejected[-1]
    record = Record(kept.topic, 0, 0, NOON_MS, kept.key, kept.value, kept.headers)
    message = again(record, "key_1f2e", 1)
    sim.append(message.key, message.value, message.headers)
    sim.run()
    assert sim.fates[-1] == "counted"
    assert (sim.facts[-1].reason, sim.facts[-1].detail) == ("forced", "counted by force, for key_1f2e")
