"""The bounds of an event's texts."""

import msgspec
import pytest

from streams.errors import BadEvent
from streams.generation import TEXT_BYTES_MAX, Generation, decode


def event(**fields: str) -> Generation:
    return decode(msgspec.json.encode({"id": "gen-1", "organization": "acme", "model": "m-1"} | fields))


@pytest.mark.parametrize("letter", ["x", "ż"])
@pytest.mark.parametrize(("name", "most"), TEXT_BYTES_MAX.items())
def test_a_text_is_as_long_as_its_bound_allows(name: str, most: int, letter: str) -> None:
    """Every text is taken up to its bound in bytes; one byte more is refused, by the field's name."""
    text = letter * (most // len(letter.encode()))
    assert getattr(event(**{name: text}), name) == text
    with pytest.raises(BadEvent) as refused:
        event(**{name: f"{text}x"})
    assert refused.value.field == name
