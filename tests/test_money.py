"""Money at the door."""

from hypothesis import example, given
from hypothesis import strategies as st

from streams import generation, money
from streams.errors import BadEvent


@given(st.from_regex(r"[0-2]?\.?[0-9_]{0,11}(e-?[0-9])?", fullmatch=True))
@example("0.")
@example("0.000000001")
@example("0.1234567895")
@example("0.0.1")
def test_a_cost_is_the_same_by_the_short_way(text: str) -> None:
    """Whichever way a cost takes, it is the same nano-dollars, or it is refused."""
    line = f'{{"id":"gen-1","organization":"acme","model":"m","cost":"{text}"}}'.encode()
    try:
        found = generation.decode(line).cost_nano
    except BadEvent:
        found = None
    try:
        wanted = money.nano_of(text)
    except ValueError:
        wanted = None
    assert found == wanted
