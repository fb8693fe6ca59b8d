"""The ids that the audit counts are those that processed_generations holds, whatever the ledger decides."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from projections import cleanup, processed
from streams import records, times
from streams.directory import message_of
from streams.fact import Fact
from streams.known import Horizon
from streams.log.interface import Record
from streams.organizations import Change, Organization
from tests.ledger.sim import NOON_MS, Sim, event

IDS = ("gen-1", "gen-2", "gen-3")
CUTOFFS = tuple(times.nanoseconds_of(f"2026-{day}T00:00:00Z") for day in ("09-01", "11-19", "11-22"))
DATES = ("2026-08-01T00:00:00Z", "2026-11-18T23:59:00Z", "2026-11-20T10:00:00Z", None)
EVENTS = st.fixed_dictionaries(
    {
        "organization": st.sampled_from(("acme", "globex")),
        "model": st.sampled_from(("m", "openai/gpt-5")),
        "source": st.sampled_from(("litellm", "webhook", "sync")),
        "authority": st.sampled_from(("reported", "reconciled", "corrected")),
        "created_at": st.sampled_from(DATES),
        "cost": st.sampled_from(("1", "2", None)),
        "void": st.sampled_from((False, False, True)),
        "revision": st.sampled_from((None, 1, 2)),
    }
)
BALANCE = b'{"balance":[2,"day","acme","2025-01-01","","","",%d,0,0,0,9,100,120]}'
IDS_OF = st.sampled_from(IDS)
ACTIONS = st.one_of(
    st.tuples(st.just("post"), IDS_OF, EVENTS, st.booleans()),
    st.tuples(st.just("open"), IDS_OF, EVENTS),
    st.tuples(st.just("balance"), st.integers(0, 3)),
    st.tuples(st.just("forget"), IDS_OF, st.sampled_from(CUTOFFS)),
    st.tuples(st.just("horizon"), st.sampled_from(("r", "s")), st.sampled_from(CUTOFFS)),
    st.tuples(st.just("junk"), IDS_OF),
)


def ledger() -> Sim:
    """A ledger whose organisation acme believes one source of some models."""
    sim = Sim()
    named = Change(effective_ns=0, logged_ms=NOON_MS - 1000, truth="openai/=litellm")
    message = message_of(Organization(id="acme", created_ms=0, history=(named,)))
    sim.directory.apply(Record(message.topic, 0, 0, NOON_MS - 1000, message.key, message.value))
    return sim


def act(sim: Sim, what: str, *given: Any) -> None:
    """Put one record onto the log, and have it decided with all that comes of it."""
    match (what, *given):
        case "post", id, fields, forced:
            sim.post(id, (("schema", b"1"), ("force", b"1")) if forced else (), **fields)
        case "open", id, fields:
            fields |= {"cost": "0.02"}
            sim.append(id.encode(), b'{"known":%s}' % event(id=id, **fields), (("kind", b"opening"),))
        case "balance", requests:
            sim.append(b"balance-1", BALANCE % requests, (("kind", b"opening"),))
        case "forget", id, cutoff_ns:
            message = records.forget_message(id.encode(), Horizon("r", cutoff_ns, cutoff_ns), 0)
            sim.append(message.key, message.value, message.headers)
        case "horizon", run, cutoff_ns:
            message = records.horizon_message(Horizon(run, cutoff_ns, cutoff_ns, "started", 90, 1), 0)
            sim.append(message.key, message.value, message.headers)
        case _, id:
            sim.append(id.encode(), b"[]")
    sim.run()
    sim.time_ms += 1000


def rows(facts: list[Fact]) -> int:
    return len(processed.fold(facts).rows)


@settings(max_examples=300, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=25), cuts=st.lists(st.integers(0, 80), max_size=4))
def test_the_known_ids_are_the_rows_of_processed_generations(actions, cuts):
    """After each record, in batches of any size: counted, void, opened, taken over, held, forgotten."""
    sim = ledger()
    for action in actions:
        act(sim, *action)
    for end in range(len(sim.facts) + 1):
        assert cleanup.fold(sim.facts[:end]).known == rows(sim.facts[:end]), sim.fates[:end]
    edges = sorted({0, *(cut for cut in cuts if cut < len(sim.facts)), len(sim.facts)})
    batches = [sim.facts[first:last] for first, last in pairwise(edges)]
    assert sum(cleanup.fold(batch).known for batch in batches) == rows(sim.facts)


def test_the_sequences_meet_every_fate_that_moves_the_count():
    """Without this the property could hold for want of anything that happens."""
    fields = {"organization": "acme", "model": "m", "source": "webhook", "created_at": DATES[2], "cost": "1"}
    void = fields | {"void": True, "authority": "corrected", "revision": 1}
    doubted = fields | {"model": "openai/gpt-5"}
    sim = ledger()
    for action in (
        ("post", "gen-1", fields, False),
        ("post", "gen-1", void, False),
        ("post", "gen-2", void, False),
        ("post", "gen-3", doubted, False),
        ("post", "gen-3", doubted | {"source": "litellm"}, False),
        ("forget", "gen-1", CUTOFFS[2]),
        ("forget", "gen-1", CUTOFFS[2]),
        ("open", "gen-1", fields),
        ("open", "gen-1", fields | {"void": True}),
        ("balance", 3),
        ("post", "gen-2", fields | {"organization": "globex", "authority": "reconciled"}, False),
    ):
        act(sim, *action)
    counts = [cleanup.fold(sim.facts[: n + 1]).known for n in range(len(sim.facts))]
    assert counts == [rows(sim.facts[: n + 1]) for n in range(len(sim.facts))]
    assert {"counted", "voided", "forgotten", "opening", "quarantined"} <= set(sim.fates)
    assert counts[-1] == 2
