"""What was written by the first version must decode, to the same values, in every later one."""

import json
from pathlib import Path

import msgspec
import pytest

from streams import fact, generation

GOLDEN = Path(__file__).parent / "golden"
EVENTS = (GOLDEN / "events.ndjson").read_bytes().splitlines()
FACTS = (GOLDEN / "facts.ndjson").read_bytes().splitlines()
EVENTS_DECODED = json.loads((GOLDEN / "events.decoded.json").read_bytes())
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
    from streams.errors import LogMismatch

    with pytest.raises(LogMismatch):
        fact.decode(FACTS[0], (("schema", b"2"),))
