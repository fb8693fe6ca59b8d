"""Sends lines to the service in batches, and knows what became of each.

    ledger = ledger_of(client)             # which ledger the service has
    tally = Publisher(client, source="backfill", strict=False, report=report).publish(lines)

A batch is at most 1,000 lines and 4 MiB. When the service can't take it now (408, 429, 503, 507, or no
answer), the same batch is sent again after the time it asks for, a bounded number of times: ids count
once, so nothing is counted twice. When a batch is refused as a whole, it is halved until the line that
is to blame stands alone. Nothing of a batch is reported before its fate is known.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from genledger.client import UNAUTHORIZED, Answer, Client, Refused
from genledger.lines import LINE_BYTES_MAX, Line, Position, Source, Tally
from streams.errors import GenledgerError, ServiceUnreachable

ROUTE = "/api/v1/generations"
STATUS_ROUTE = "/api/v1/status"
BATCH_LINES_MAX = 1000
BATCH_BYTES_MAX = 4 * 1024 * 1024
ATTEMPTS_MAX = 12
LATER = (408, 429, 503, 507)
# The body as a whole was refused: one line in it may be to blame.
WHOLE = (400, 413, 422)
WAIT_S_MAX = 30
IGNORED_FIELDS_MAX = 50

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Rejected(msgspec.Struct, frozen=True):
    """A line that was not taken, as it came, and why. `text` is None when it is too long to keep."""

    line: int
    field: str
    error: str
    text: bytes | None


class Reporter(Protocol):
    """Who wants to know."""

    def moved(self, position: Position, tally: Tally) -> None: ...
    def rejected(self, line: Rejected) -> None: ...
    def say(self, text: str) -> None: ...


class Batch(msgspec.Struct):
    """What is sent at once: the lines that may be events, and those that can't be."""

    lines: list[Line] = []
    refused: list[Rejected] = []
    blank: int = 0
    size_bytes: int = 0

    def add(self, line: Line) -> None:
        """One more line, whatever it is."""
        problem = _problem(line)
        text = b"" if line.text is None else line.text.strip()
        if problem:
            self.refused.append(Rejected(line.number, "", problem, text or None))
        elif text:
            self.lines.append(Line(line.number, text))
            self.size_bytes += len(text) + 1
        else:
            self.blank += 1

    @property
    def full(self) -> bool:
        """Whether it is to be sent."""
        return (
            len(self.lines) + len(self.refused) + self.blank >= BATCH_LINES_MAX
            or self.size_bytes >= BATCH_BYTES_MAX
        )


class Fate(msgspec.Struct, frozen=True):
    """What became of lines that were sent."""

    rejected: tuple[Rejected, ...] = ()
    ignored_lines: int = 0
    ignored_fields: tuple[str, ...] = ()

    def __add__(self, other: "Fate") -> "Fate":
        return Fate(
            (*self.rejected, *other.rejected),
            self.ignored_lines + other.ignored_lines,
            _together(self.ignored_fields, other.ignored_fields),
        )


def ledger_of(client: Client) -> str:
    """The identity of the service's ledger; '' when it does not tell, as to a producer's key."""
    answer = client.send("GET", STATUS_ROUTE)
    if answer.status == UNAUTHORIZED:
        raise Refused(answer)
    found = _json_or_none(answer) if answer.status < 300 else None
    return str(found.get("log") or "") if isinstance(found, dict) else ""


class Publisher:
    """Publishes the lines of a source, in order, one batch after the other."""

    def __init__(self, client: Client, source: str, report: Reporter, *, strict: bool = False) -> None:
        self._client = client
        self._source = source
        self._query: dict[str, object] = {"strict": 1} if strict else {}
        self._report = report
        self._answered = False

    def publish(self, lines: Source) -> Tally:
        """Every line, from where an earlier run came to; what became of them all."""
        tally = lines.tally
        batch = Batch()
        for line in lines:
            batch.add(line)
            if batch.full:
                tally = self._settle(lines, batch, tally)
                batch = Batch()
        tally = self._settle(lines, batch, tally)
        lines.forget()
        return tally

    def _settle(self, lines: Source, batch: Batch, tally: Tally) -> Tally:
        """Send a batch to its end, then say and remember what became of it."""
        position = lines.position
        fate = self._send(batch.lines)
        refused = sorted([*batch.refused, *fate.rejected], key=lambda rejected: rejected.line)
        for rejected in refused:
            self._report.rejected(rejected)
        tally = Tally(
            lines=position.line,
            accepted=tally.accepted + len(batch.lines) - len(fate.rejected),
            rejected=tally.rejected + len(refused),
            blank=tally.blank + batch.blank,
            ignored_lines=tally.ignored_lines + fate.ignored_lines,
            ignored_fields=_together(tally.ignored_fields, fate.ignored_fields),
        )
        lines.remember(position, tally)
        self._report.moved(position, tally)
        return tally

    def _send(self, batch: Sequence[Line]) -> Fate:
        if not batch:
            return Fate()
        answer = self._answer(b"\n".join(self._with_source(line.text or b"") for line in batch) + b"\n")
        if answer.status in (200, 202):
            return _fate_of(answer.json(), batch)
        if answer.status not in WHOLE:
            raise Refused(answer)
        found = _fate_of(_json_or_none(answer), batch)
        if found.rejected:
            return found
        if len(batch) == 1:
            [line] = batch
            return Fate((Rejected(line.number, "", str(Refused(answer)), line.text),))
        middle = len(batch) // 2
        return self._send(batch[:middle]) + self._send(batch[middle:])

    def _answer(self, body: bytes) -> Answer:
        """The service's word on a body, however often it says "later", within bounds."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                answer = self._client.send(
                    "POST", ROUTE, self._query, body=body, content_type="application/x-ndjson"
                )
            except ServiceUnreachable:
                # Nobody has ever answered: there is no service. Once one has, it may be restarting.
                if not self._answered or attempt == ATTEMPTS_MAX:
                    raise
                self._wait(f"no answer from {self._client.url}", attempt, None)
                continue
            self._answered = True
            if answer.status not in LATER:
                return answer
            if attempt < ATTEMPTS_MAX:
                self._wait(str(Refused(answer)), attempt, answer.retry_after_s)
        raise GenledgerError(
            f"{Refused(answer)}, {ATTEMPTS_MAX} times over: run the command again later, it goes on from here"
        )

    def _wait(self, why: str, attempt: int, asked_s: int | None) -> None:
        wait_s = min(2 ** (attempt - 1), WAIT_S_MAX) if asked_s is None else asked_s
        self._report.say(f"{why}: again in {wait_s} s")
        time.sleep(wait_s)

    def _with_source(self, text: bytes) -> bytes:
        if not self._source:
            return text
        fields = _fields(text)
        if not fields:
            return text
        if fields.get("source", b"null") == b"null":
            fields["source"] = msgspec.Raw(msgspec.json.encode(self._source))
        return msgspec.json.encode(fields)


def _problem(line: Line) -> str:
    """What makes a line spoil the whole body it would be sent in; '' if nothing does."""
    if line.text is None:
        return f"is longer than {LINE_BYTES_MAX} bytes"
    try:
        line.text.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8: {error.reason} at byte {error.start}"
    return ""


def _fate_of(answer: Any, batch: Sequence[Line]) -> Fate:
    """What the answer says of a batch's lines, by their place in it."""
    items = answer.get("rejected") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        return Fate()
    found = {item["index"]: item for item in items}
    rejected = tuple(
        Rejected(batch[n].number, str(item.get("field") or ""), str(item["error"]), batch[n].text)
        for n, item in found.items()
    )
    names = tuple(map(str, answer.get("ignored_fields") or ()))
    taken = [line for n, line in enumerate(batch) if n not in found]
    return Fate(rejected, _lines_with(names, taken), names) if names and taken else Fate(rejected)


def _lines_with(names: Sequence[str], lines: Sequence[Line]) -> int:
    """How many lines have any of these fields: the service tells the names of a whole batch."""
    wanted = set(names)
    return sum(not wanted.isdisjoint(_fields(line.text or b"")) for line in lines)


def _fields(text: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _object.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}  # the service says what is wrong with it


def _together(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))[:IGNORED_FIELDS_MAX]


def _json_or_none(answer: Answer) -> Any:
    try:
        return answer.json()
    except GenledgerError:
        return None
