"""Money is an integer of nano-dollars, from the JSON text to the last sum. No float is on the way.

>>> nano_of("0.0123")
12300000
>>> text_of(12300000)
'0.0123'
>>> marked_up(12300000, "1.3")
15990000

Digits below a nano-dollar are rounded half-even, once, here. A minus sign, more than a million dollars
for one generation, and anything that is not a plain decimal number are refused.
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache

NANO = 1_000_000_000
COST_NANO_MAX = 1_000_000 * NANO
TEXT_LENGTH_MAX = 64
RATE_MAX = Decimal(1000)

# What a last digit is worth, by the number of digits behind the point.
SCALE: tuple[int, ...] = tuple(10 ** (9 - digits) for digits in range(10))
# Wide enough that no step before the one rounding to the nano-dollar can round.
_EXACT = Context(prec=160, rounding=ROUND_HALF_EVEN)
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,11})(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,3}))?")
_RATE = re.compile(r"(0|[1-9][0-9]{0,3})(?:\.[0-9]{1,12})?")


def nano_of(text: str) -> int:
    """Decimal text to nano-dollars; `ValueError` says what is wrong with it."""
    match = _NUMBER.fullmatch(text) if len(text) <= TEXT_LENGTH_MAX else None
    if match is None:
        raise ValueError("must be a decimal number of dollars, 0 or more, of at most 64 characters")
    if match[3] is None and (match[2] is None or len(match[2]) <= 9):
        nano = int(match[1]) * NANO + (int(match[2].ljust(9, "0")) if match[2] else 0)
    else:
        nano = int(_EXACT.multiply(Decimal(text), Decimal(NANO)).to_integral_value(ROUND_HALF_EVEN))
    if nano > COST_NANO_MAX:
        raise ValueError("must be at most 1000000 dollars for one generation")
    return nano


def text_of(nano: int) -> str:
    """Nano-dollars as the shortest decimal text: exact, no exponent."""
    whole, fraction = divmod(abs(nano), NANO)
    text = f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text


@lru_cache(maxsize=4096)
def rate_of(text: str) -> tuple[int, int]:
    """A markup's text as an exact fraction; `ValueError` says what is wrong with it."""
    if _RATE.fullmatch(text) is None or Decimal(text) > RATE_MAX:
        raise ValueError("must be a decimal number from 0 to 1000 with at most 12 digits after the point")
    return Decimal(text).as_integer_ratio()


def marked_up(cost_nano: int, rate: str) -> int:
    """What the customer pays for a cost at a markup, rounded half-even to the nano-dollar."""
    numerator, denominator = rate_of(rate)
    if denominator == 1:
        return cost_nano * numerator
    quotient, remainder = divmod(cost_nano * numerator, denominator)
    twice = remainder * 2
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient
