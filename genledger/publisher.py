"""Sends lines to the service in batches, and knows what became of each.

    tally = Publisher(client, source="backfill", report=report).publish(lines)

A batch is at most 1,000 lines and 4 MiB. When the service can't take it now (408, 429, 503, 507, or no
answer), the same batch is sent again after the time it asks for, a bounded number of times: ids count
once, so nothing is counted twice. When a batch is refused as a whole, it is halved until the line that
is to blame stands alone. Nothing of a batch is reported before its fate is known.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from genledger.client import Answer, Client, Refused
from genledger.lines import LINE_BYTES_MAX, Line, Position, Source, Tally
from streams.errors import GenledgerError, ServiceUnreachable

ROUTE = "/api/v1/generations"
BATCH_LINES_MAX = 1000
BATCH_BYTES_MAX = 4 * 1024 * 1024
ATTEMPTS_MAX = 12
LATER = (408, 429, 503, 507)
# The body as a whole was refused: one line in it may be to blame.
WHOLE = (400, 413, 422)
WAIT_S_MAX = 30

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Rejected(msgspec.Struct, frozen=True):
    """A line that was not taken, and why."""

    line: int
    field: str
    error: str


class Reporter(Protocol):
    """Who wants to know."""

    def moved(self, position: Position, tally: Tally) -> None: ...
    def rejected(self, line: Rejected) -> None: ...
    def say(self, text: str) -> None: ...


class Publisher:
    """Publishes the lines of a source, in order, one batch after the other."""

    def __init__(self, client: Client, source: str, report: Reporter) -> None:
        self._client = client
        self._source = source
        self._report = report
        self._answered = False

    def publish(self, lines: Source) -> Tally:
        """Every line, from where an earlier run came to; what became of them all."""
        tally = lines.tally
        batch: list[Line] = []
        refused: list[Rejected] = []
        size = 0
        for line in lines:
            text = b"" if line.text is None else line.text.strip()
            problem = _problem(line)
            if problem:
                refused.append(Rejected(line.number, "", problem))
            elif text:
                batch.append(Line(line.number, self._with_source(text)))
                size += len(text) + 1
            if len(batch) + len(refused) >= BATCH_LINES_MAX or size >= BATCH_BYTES_MAX:
                tally = self._settle(lines, batch, refused, tally)
                batch, refused, size = [], [], 0
        tally = self._settle(lines, batch, refused, tally)
        lines.forget()
        return tally

    def _settle(self, lines: Source, batch: list[Line], refused: list[Rejected], tally: Tally) -> Tally:
        """Send a batch to its end, then say and remember what became of it."""
        position = lines.position
        refused = sorted([*refused, *self._send(batch)], key=lambda rejected: rejected.line)
        for rejected in refused:
            self._report.rejected(rejected)
        sent = {line.number for line in batch}
        accepted = len(batch) - sum(rejected.line in sent for rejected in refused)
        tally = Tally(position.line, tally.accepted + accepted, tally.rejected + len(refused))
        lines.remember(position, tally)
        self._report.moved(position, tally)
        return tally

    def _send(self, batch: Sequence[Line]) -> list[Rejected]:
        if not batch:
            return []
        answer = self._answer(b"\n".join(line.text or b"" for line in batch) + b"\n")
        if answer.status in (200, 202):
            return _rejected_of(answer.json(), batch)
        if answer.status not in WHOLE:
            raise Refused(answer)
        found = _rejected_of(_json_or_none(answer), batch)
        if found:
            return found
        if len(batch) == 1:
            error = Refused(answer)
            return [Rejected(batch[0].number, "", str(error))]
        middle = len(batch) // 2
        return [*self._send(batch[:middle]), *self._send(batch[middle:])]

    def _answer(self, body: bytes) -> Answer:
        """The service's word on a body, however often it says "later", within bounds."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                answer = self._client.send("POST", ROUTE, body=body, content_type="application/x-ndjson")
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
        try:
            fields = _object.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return text  # the service says what is wrong with it
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


def _rejected_of(answer: Any, batch: Sequence[Line]) -> list[Rejected]:
    """The refused ones of a batch, by their place in it."""
    items = answer.get("rejected") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        return []
    return [
        Rejected(batch[item["index"]].number, str(item.get("field") or ""), str(item["error"]))
        for item in items
    ]


def _json_or_none(answer: Answer) -> Any:
    try:
        return answer.json()
    except GenledgerError:
        return None
