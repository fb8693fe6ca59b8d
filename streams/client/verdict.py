"""What an answer of the gateway means for the lines that were sent. Pure.

>>> judge(Answer(202, b'{"accepted":1,"rejected":[{"index":1,"field":"cost","error":"must be text"}]}'), 2)
Settled(rejected={1: Rejection(status=202, code='', field='cost', error='must be text')})
>>> judge(Answer(503, b"", retry_after_s=5), 2)
Later(why='503', asked_s=5, broken=False)

Only the gateway's own word settles a line. Whatever else answers (a proxy's page, an error of no known
kind) is no answer: the lines are sent again.
"""

import random
from collections.abc import Mapping
from typing import Any

import msgspec

from streams.errors import GenledgerError

ACCEPTED, TAKEN_NONE = (200, 202), (403, 422)
# The body as a whole: one line in it may be to blame. That it is too large a proxy may say, too.
WHOLE, TOO_LARGE = (400, 413, 422), 413
BROKEN = 500
RETRY_AFTER_S_MAX = 300
BACKOFF_S_MIN = 0.25


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    body: bytes
    retry_after_s: int | None = None


class Unanswered(GenledgerError):
    """Nothing came back, or not in time."""


class Rejection(msgspec.Struct, frozen=True):
    """Why an event was not taken, and never will be as it is."""

    status: int
    code: str
    field: str
    error: str


class Settled(msgspec.Struct, frozen=True):
    """The gateway has spoken about each line: taken, save those rejected, by their place."""

    rejected: Mapping[int, Rejection]


class Later(msgspec.Struct, frozen=True):
    """Send the same again. `broken`: the gateway failed, perhaps on one of the lines."""

    why: str
    asked_s: int | None = None
    broken: bool = False


class Halve(msgspec.Struct, frozen=True):
    """Refused as a whole: in halves the line to blame is found. `why` stands for a line that is alone."""

    why: Rejection


Verdict = Settled | Later | Halve


def judge(answer: Answer | Unanswered, count: int) -> Verdict:
    """What becomes of `count` lines."""
    if isinstance(answer, Unanswered):
        return Later(str(answer))
    status = answer.status
    found = _object(answer.body)
    if status in (*ACCEPTED, *TAKEN_NONE):
        rejected = _rejected(found, status, count)
        if rejected is not None:
            return Settled(rejected)
    if status == TOO_LARGE or (status in WHOLE and "code" in _error(found)):
        return Halve(_whole(found, status))
    code = str(_error(found).get("code") or "")
    return Later(f"{status} {code}".strip(), answer.retry_after_s, status == BROKEN)


def backoff_s(attempt: int, most_s: float) -> float:
    """How long to wait after so many tries: doubled each time, bounded, and not the same for everybody."""
    wait_s: float = min(most_s, BACKOFF_S_MIN * 2 ** min(attempt - 1, 30))
    factor: float = random.uniform(0.5, 1)  # noqa: S311 -- spreads retries, guards nothing
    return wait_s * factor


def _rejected(found: Mapping[str, Any], status: int, count: int) -> dict[int, Rejection] | None:
    """The rejected lines; None when this is no answer of the gateway about these lines."""
    accepted, items = found.get("accepted"), found.get("rejected")
    if not isinstance(accepted, int) or not isinstance(items, list) or accepted + len(items) != count:
        return None
    rejected = {}
    for item in items:
        place = item.get("index") if isinstance(item, dict) else None
        if not isinstance(place, int) or not 0 <= place < count:
            return None
        rejected[place] = Rejection(
            status, *(str(item.get(name) or "") for name in ("code", "field", "error"))
        )
    return rejected if len(rejected) == len(items) else None


def _whole(found: Mapping[str, Any], status: int) -> Rejection:
    error = _error(found)
    texts = [str(error.get(name) or "") for name in ("code", "field", "message")]
    return Rejection(status, texts[0], texts[1], texts[2] or f"refused with {status}")


def _error(found: Mapping[str, Any]) -> Mapping[str, Any]:
    error = found.get("error")
    return error if isinstance(error, dict) else {}


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
