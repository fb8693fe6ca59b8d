"""What a cell of a legacy table means, exactly. Pure.

>>> nano_of(0.1 + 0.2)                 # 0.30000000000000004: its shortest text, rounded half-even to the nano
300000000
>>> day_of("2025-01-31")
'2025-01-31'

SQLite lets any cell hold anything. A cell that can't be meant is a `BadCell`, which says what it should be.
"""

from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from streams.errors import GenledgerError
from streams.money import NANO

AMOUNT_MAX = 2**63 - 1
AMOUNT_DIGITS = 19
RATE_DIGITS = 12
RATE_MAX = 1000
TEXT_LENGTH_MAX = 64
# Wide enough for the largest float's digits: nothing rounds before the one rounding.
_WIDE = Context(prec=700, rounding=ROUND_HALF_EVEN)

Cell = str | int | float | bytes | None


class BadCell(GenledgerError):
    """A cell that can't be taken; `column` names it."""

    def __init__(self, column: str, error: str) -> None:
        super().__init__(f"{column} {error}")
        self.column = column
        self.error = error


def _decimal(cell: Cell, column: str) -> Decimal:
    """The shortest decimal text that the number has. A float's is what people see of it."""
    if isinstance(cell, (int, float)) or (isinstance(cell, str) and len(cell) <= TEXT_LENGTH_MAX):
        try:
            number = Decimal(repr(cell) if isinstance(cell, float) else str(cell).strip())
        except InvalidOperation:
            number = Decimal("nan")
        if number.is_finite():
            return number
    raise BadCell(column, "is not a number" if cell is not None else "is missing")


def nano_of(cell: Cell, column: str = "cost") -> int:
    """Dollars as nano-dollars, rounded half-even where there are more digits."""
    number = _decimal(cell, column)
    if number.adjusted() > AMOUNT_DIGITS:  # its digits alone would fill the memory
        raise BadCell(column, "is more than 64 bits of nano-dollars hold" if number > 0 else "is negative")
    nano = int((_WIDE.multiply(number, Decimal(NANO))).to_integral_value(ROUND_HALF_EVEN))
    if nano < 0:
        raise BadCell(column, "is negative")
    if nano > AMOUNT_MAX:
        raise BadCell(column, "is more than 64 bits of nano-dollars hold")
    return nano


def count_of(cell: Cell, column: str) -> int:
    """A whole number, 0 or more."""
    number = _decimal(cell, column)
    if number != number.to_integral_value():
        raise BadCell(column, "is not a whole number")
    if number < 0:
        raise BadCell(column, "is negative")
    if number > AMOUNT_MAX:
        raise BadCell(column, "is more than 64 bits hold")
    return int(number)


def day_of(cell: Cell, column: str = "usage_date") -> str:
    """A day as YYYY-MM-DD; nothing else sorts and compares as days do."""
    text = cell if isinstance(cell, str) else ""
    try:
        if date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise BadCell(column, "is not a day such as 2025-01-31")


def text_of(cell: Cell, column: str, *, empty: bool = False) -> str:
    """Text. What is missing is empty."""
    if cell is None or cell == "":
        if not empty:
            raise BadCell(column, "is missing")
        return ""
    if isinstance(cell, bytes):
        raise BadCell(column, "is not text")
    return cell if isinstance(cell, str) else str(cell)


def rate_of(cell: Cell, column: str = "markup_rate") -> str:
    """A markup as the text that the settings take: at most 12 digits after the point."""
    number = _decimal(cell, column)
    if not 0 <= number <= RATE_MAX:
        raise BadCell(column, f"is not from 0 to {RATE_MAX}")
    return f"{number.quantize(Decimal(1).scaleb(-RATE_DIGITS), ROUND_HALF_EVEN, _WIDE).normalize(_WIDE):f}"


def is_on(cell: Cell) -> bool:
    """A flag. What was never said is yes."""
    return str(cell).strip().lower() not in ("0", "false", "f", "no")
