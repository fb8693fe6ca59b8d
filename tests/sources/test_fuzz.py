"""Every source's parser over JSON that nobody sends: any objects, and golden bodies with parts replaced."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams import generation
from streams.errors import BadEvent
from streams.sources.interface import How
from tests.sources.bodies import MODULES, fields_of
from tests.sources.test_golden import CASES

EXAMPLES_MAX = 40
PLACES_MAX = 80
BODIES = {
    name: [json.loads(path.read_text()) for path in CASES if path.parent.name == name] for name in MODULES
}
HOWS = (How(organization="acme"), How(), How(litellm_organization="key_alias"))
QUIETLY = settings(
    max_examples=EXAMPLES_MAX,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Text:
    """JSON that no Python value has: written as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


ODDITIES: list[Any] = [
    *(Text(each) for each in ("1e400", "-0", "1E-400", "9" * 400, "-" + "9" * 30, "0." + "0" * 80 + "1")),
    *(Text(each) for each in ("[" * 3000 + "]" * 3000, '{"a":' * 1500 + "1" + "}" * 1500, '"\\ud800"')),
    *(Text(each) for each in ('"\\u0000"', "1.0", "1e2", "true", "{}", "[]", '""', "null", "[{}]")),
    *(
        2**63,
        2**64,
        -1,
        0,
        253402300800,
        1e300,
        "12",
        "2026-13-45",
        "9999-12-31T23:59:59Z",
        "0x10",
        "NaN",
    ),
]
ODD = st.sampled_from(ODDITIES)
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
LEAF = SIMPLE | st.text(max_size=20) | ODD
ANYTHING = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def written(value: Any) -> str:
    """A value as JSON, with what is to be written as it is."""
    if isinstance(value, Text):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{written(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def names_in(value: Any) -> set[str]:
    """Every name of a body, however deep."""
    if isinstance(value, dict):
        return set(value) | {name for each in value.values() for name in names_in(each)}
    return {name for each in value for name in names_in(each)} if isinstance(value, list) else set()


@st.composite
def mutated(draw: st.DrawFn, name: str) -> Any:
    """A golden body of a source, some of its values replaced or gone."""
    found = json.loads(json.dumps(draw(st.sampled_from(BODIES[name]))))
    for _ in range(draw(st.integers(1, 3))):
        holder = found
        while isinstance(holder, dict | list) and holder:
            key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
            inside = holder[key]
            if isinstance(inside, dict | list) and inside and draw(st.integers(0, 3)):
                holder = inside
                continue
            if draw(st.integers(0, 4)):
                holder[key] = draw(ANYTHING)
            else:
                del holder[key]
            break
    return found


def check(name: str, body: Any, hows: Sequence[How] = HOWS) -> None:
    """The parser raises nothing, and its events are taken or refused as any are."""
    try:
        fields = fields_of(written(body))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return  # the door's own refusal
    source = MODULES[name]
    source.matches(fields)
    for how in hows:
        for one in source.events(fields, how):
            if isinstance(one, BadEvent):
                continue
            try:
                generation.decode(one, how.organization)
            except BadEvent:
                continue


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each holder within a body, with each of its names."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(inside):
        yield value, key
        yield from places_in(each)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if BODIES[name]))
def test_every_value_may_be_odd(name: str) -> None:
    """Values of the fullest golden body, each made odd in each way, are read or refused."""
    body = json.loads(max(map(json.dumps, BODIES[name]), key=len))
    places = list(places_in(body))
    for holder, key in places[:: 1 + len(places) // PLACES_MAX]:
        kept = holder[key]
        for odd in ODDITIES:
            holder[key] = odd
            check(name, body, HOWS[:1])
        holder[key] = kept


@pytest.mark.parametrize("name", sorted(name for name in MODULES if BODIES[name]))
def test_a_mutated_body_is_read_or_refused(name: str) -> None:
    """Whatever stands in a body's place, only events and refusals come out."""

    @QUIETLY
    @given(mutated(name))
    def run(body: Any) -> None:
        check(name, body)

    run()


@pytest.mark.parametrize("name", sorted(name for name in MODULES if BODIES[name]))
def test_an_arbitrary_body_is_read_or_refused(name: str) -> None:
    """Any object with a source's names in it gives events or refusals, and nothing else."""
    names = st.sampled_from(sorted(names_in(BODIES[name]))) | st.text(max_size=5)

    @QUIETLY
    @given(st.dictionaries(names, ANYTHING | st.dictionaries(names, ANYTHING, max_size=5), max_size=8))
    def run(body: Any) -> None:
        check(name, body)

    run()
