"""Opening records by themselves: what the ledger makes of them."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genledger.legacy import entries, exact
from genledger.legacy.entries import KnownId
from projections import processed
from streams import openings, times
from streams.errors import BadEvent
from streams.gateway.explain import compared
from streams.known import Known
from streams.openings import BalanceWire
from tests.ledger.sim import Sim
from tests.migrate.legacy import nano

ROW = KnownId("gen-1", "acme", "2026-11-20", 20_000_000, 70)
DAY = {"margin": "day", "organization": "acme", "day": "2026-11-20", "requests": 3, "cost_nano": 9}


def put(sim: Sim, line: bytes) -> Sim:
    """An opening entry as the door puts it on the log."""
    message = openings.message_of(line, 1, 2**62)
    sim.append(message.key, message.value, message.headers)
    return sim


@pytest.mark.parametrize(
    "later",
    [
        {"cost": "0.02", "total_tokens": 70},
        {"cost": "0.03", "total_tokens": 90},
        {"cost": None, "total_tokens": 90},
        {"cost": "0.03", "authority": "corrected", "revision": 7},
    ],
)
@pytest.mark.parametrize("authority", ["reported", "reconciled"])
def test_a_later_version_of_a_known_id_changes_nothing(authority: str, later: dict[str, Any]) -> None:
    """Equal or different, with a cost or without, from whatever source: its money stays in the balance."""
    sim = put(Sim(), entries.known_line(ROW, "UTC"))
    sim.post(**{"authority": authority, "user": "u-1"} | later).run()
    assert sim.fates == ["opening", "superseded", "republished"]
    assert sim.totals == {}
    assert sim.compacted().run().fates == ["opening"]


def test_an_id_that_was_counted_before_stays_counted() -> None:
    """A known id that comes after its generation moves nothing: that its day overlaps is found before."""
    sim = Sim().post(cost="0.02").run()
    before = dict(sim.totals)
    put(sim, entries.known_line(ROW, "UTC")).run()
    assert sim.totals == before


def test_an_entry_taken_back_leaves_nothing() -> None:
    """The id is as unknown as before, its row goes, and a generation of it counts."""
    line = entries.known_line(ROW, "UTC")
    sim = put(put(Sim(), line), entries.taken_back(line)).run()
    assert sim.table == {}
    changes = processed.fold(sim.facts)
    assert (changes.rows, changes.forgotten) == ({}, {"gen-1"})
    assert put(sim, entries.taken_back(line)).run().table == {}  # once more is nothing
    assert sim.post(cost="0.02").run().fates[-1] == "counted"


def test_a_balance_told_twice_counts_once_and_taken_back_not_at_all() -> None:
    """The same row is the same key, whatever it holds; zeros take it back, and are nothing by themselves."""
    line = msgspec.json.encode({"balance": DAY})
    sim = put(put(Sim(), line), line).run()
    assert sim.totals == {("acme", "2026-11-20"): (3, 0, 9, 0)}
    put(sim, entries.taken_back(line)).run()
    assert set(sim.totals.values()) <= {(0, 0, 0, 0)}
    assert put(Sim(), entries.taken_back(line)).run().totals == {}


def test_money_without_requests_counts_in_a_balance() -> None:
    """A row that somebody booked by hand has no requests, and money."""
    sim = put(Sim(), msgspec.json.encode({"balance": {**DAY, "requests": 0}})).run()
    assert sim.totals == {("acme", "2026-11-20"): (0, 0, 9, 0)}


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Warsaw", "UTC"])
def test_a_known_id_is_of_the_day_that_the_file_has(zone: str) -> None:
    """Noon of the organisation's day is that day, in every timezone."""
    line = entries.known_line(ROW, zone)
    created_at = msgspec.json.decode(line)["known"]["created_at"]
    assert times.day_of(times.nanoseconds_of(created_at), zone) == ROW.day


def test_is_duplicate_asks_no_model_of_an_id_that_came_without() -> None:
    """processed_generations kept no model, so the cost decides, as the seed's is_duplicate has it."""
    sim = put(Sim(), entries.known_line(ROW, "UTC")).run()
    known = sim.table[b"gen-1"]
    assert isinstance(known, Known)
    assert compared(known, "gpt-5", 20_000_999)["duplicate"]
    assert not compared(known, "gpt-5", 20_001_000)["duplicate"]


@given(st.floats(min_value=0, max_value=1e9), st.floats(min_value=0, max_value=1e3))
def test_a_real_is_read_as_its_shortest_text(one: float, other: float) -> None:
    """As an independent model rounds it, and at most half a nano-dollar from the number."""
    assert exact.nano_of(one + other) == nano(one + other)


def test_a_third_of_a_dollar_and_a_sum_of_dimes() -> None:
    """0.1 + 0.2 is thirty cents; a tie goes to the even nano-dollar."""
    assert exact.nano_of(0.1 + 0.2) == 300_000_000
    assert [exact.nano_of(text) for text in ("5e-10", "1.5e-9", "2.5e-9", "0.1")] == [0, 2, 2, 100_000_000]
    assert exact.rate_of(1.1 + 0.2) == "1.3"


_NAMES = st.text(max_size=3)


@given(st.tuples(_NAMES, _NAMES, _NAMES), st.tuples(_NAMES, _NAMES, _NAMES))
@example(("ab", "c", ""), ("a", "bc", ""))
@example(("a", "b", "c"), ("a", "bc", ""))
def test_no_two_rows_share_a_key(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Whatever characters the names hold."""
    keys = [
        openings.key_of(BalanceWire(margin="user", organization=a, day=b, user=c)) for a, b, c in (one, other)
    ]
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"margin": "week"}, "balance.margin"),
        ({"organization": ""}, "organization"),
        ({"day": "2026-02-30"}, "day"),
        ({"user": "u-1"}, "user"),
        ({"margin": "model"}, "model"),
        ({"margin": "user", "user": "a\nb"}, "user"),
        ({"margin": "user", "user": "é" * 200}, "user"),
        ({"unpriced_requests": 4}, "unpriced_requests"),
        ({"requests": -1}, "balance.requests"),
        ({"cost_nano": 2**63}, "balance.cost_nano"),
        ({"cost": "1"}, "balance"),
    ],
)
def test_a_balance_that_names_no_row_is_refused(change: dict[str, Any], field: str) -> None:
    """The field is named."""
    with pytest.raises(BadEvent) as refused:
        openings.message_of(msgspec.json.encode({"balance": DAY | change}), 4, 2**62)
    assert refused.value.field == field


def test_a_bad_balance_on_the_log_is_quarantined() -> None:
    """Where it came by Kafka, past the door, too."""
    body = b'{"balance":[2,"day","acme","one day","","","",1,0,0,0,9,100,120]}'
    sim = Sim()
    sim.append(b"balance-1", body, (("kind", b"opening"),))
    assert sim.run().fates == ["quarantined"]
