"""What was written by the first version must decode, to the same values, in every later one."""

import json
from pathlib import Path

import msgspec
import pytest

from streams import fact, generation, known
from streams.errors import LogMismatch

GOLDEN = Path(__file__).parent / "golden"
EVENTS = (GOLDEN / "events.ndjson").read_bytes().splitlines()
FACTS = (GOLDEN / "facts.ndjson").read_bytes().splitlines()
EVENTS_DECODED = json.loads((GOLDEN / "events.decoded.json").read_bytes())
SEEN = [bytes.fromhex(line) for line in (GOLDEN / "seen.hex").read_text().split()]
SEEN_DECODED = json.loads((GOLDEN / "seen.decoded.json").read_bytes())
FACTS_DECODED = json.loads((GOLDEN / "facts.decoded.json").read_bytes())


def _differences(event, expected):
    """Where an event is not as recorded. A field that a later version adds must say nothing here."""
    values = {name: getattr(event, name) for name in event.__struct_fields__}
    values["metadata"] = values["metadata"].decode()
    return {
        name: value
        for name, value in values.items()
        if (value != expected[name] if name in expected else bool(value))
    }


def _fact_as_json(decoded):
    return json.loads(msgspec.json.encode(decoded))


@pytest.mark.parametrize("number", range(len(EVENTS)))
def test_an_event_means_what_it_meant(number):
    """Each golden event decodes to the values recorded with it."""
    event = generation.decode(EVENTS[number])
    assert _differences(event, EVENTS_DECODED[number]) == {}


@pytest.mark.parametrize("number", range(len(EVENTS)))
def test_an_event_survives_being_written_again(number):
    """A golden event, written again by this version, is the same event."""
    event = generation.decode(EVENTS[number])
    assert generation.decode(generation.encode(event)) == event


@pytest.mark.parametrize("number", range(len(FACTS)))
def test_a_fact_means_what_it_meant(number):
    """Each golden fact decodes to the values recorded with it, and moves the same totals."""
    decoded = fact.decode(FACTS[number])
    expected = FACTS_DECODED[number]
    assert _fact_as_json(decoded) == expected["fact"]
    moved = [
        [sign, entry.requests, entry.total_tokens, entry.cost_nano, entry.markup_nano, entry.day]
        for sign, entry in fact.effects(decoded)
    ]
    assert moved == expected["effects"]


def test_every_fate_has_a_golden_fact():
    """No fate can change its meaning unseen."""
    assert {json.loads(line)["fate"] for line in FACTS} == set(fact.FATES)


def test_a_fact_from_the_future_stops_the_reader():
    """A fact of a later schema is not guessed at."""
    with pytest.raises(LogMismatch, match="upgrade genledger"):
        fact.decode(FACTS[0], (("schema", b"2"),))


def _unlike(value, expected):
    """Where a value of the table is not as recorded, fields within fields; a later field must say nothing."""
    found = {}
    for name in value.__struct_fields__:
        inner = getattr(value, name)
        if name not in expected:
            if inner:
                found[name] = inner
        elif hasattr(inner, "__struct_fields__"):
            found |= {f"{name}.{key}": wrong for key, wrong in _unlike(inner, expected[name]).items()}
        elif inner != expected[name]:
            found[name] = inner
    return found


@pytest.mark.parametrize("number", range(len(SEEN)))
def test_what_was_known_of_a_key_is_known(number):
    """Each golden value of the table decodes to what is recorded with it, and can be written again."""
    value = known.decode(SEEN[number])
    expected = SEEN_DECODED[number]
    assert type(value).__name__ == expected["kind"]
    assert set(expected["value"]) <= set(value.__struct_fields__), "a field has gone"
    assert _unlike(value, expected["value"]) == {}
    assert known.decode(known.encode(value)) == value


def test_every_layout_of_the_table_has_a_golden_value():
    """No layout can change its meaning unseen."""
    assert {msgspec.msgpack.decode(value)[0] for value in SEEN} == set(known.KINDS)


def test_a_value_from_the_future_stops_the_ledger():
    """A value of a later layout is not guessed at; one that is broken is no later layout."""
    later = [max(known.KINDS) + 1, *msgspec.msgpack.decode(SEEN[0])[1:]]
    with pytest.raises(LogMismatch, match=r"has layout 5, .* upgrade genledger"):
        known.decode(msgspec.msgpack.encode(later))
    for broken in ([1, "gen-1"], [], {"id": "gen-1"}):
        with pytest.raises(msgspec.ValidationError):
            known.decode(msgspec.msgpack.encode(broken))
