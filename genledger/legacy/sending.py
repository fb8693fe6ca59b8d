"""Entries onto the log, a batch at a time, and waiting until the views have them.

    sender = Sender(client)
    sender.send(lines)                 # returns when the log has them
    wait_for_views(settings, sender.newest)

A batch that the service can't take now is sent again, a bounded number of times: the same entry told twice
is the same entry.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genledger.client import Answer, Client, Refused
from genledger.legacy import here
from genledger.output import say
from genledger.publisher import LATER, WAIT_S_MAX
from streams import clock
from streams.errors import GenledgerError, ServiceUnreachable
from streams.settings import Settings

ROUTE = "/api/v1/admin/openings"
BOOKS_ROUTE = "/api/v1/books"
NDJSON = "application/x-ndjson"
BATCH = 1000
ATTEMPTS_MAX = 12
TOO_LARGE = 413
LOOK_EVERY_S = 0.1
STANDSTILL_S = 120.0
CATCH_UP_S = 600.0


class Sender:
    """The service, as far as opening entries go; `newest` are the offsets of all that it has taken."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.newest: dict[int, int] = {}

    def send(self, lines: Sequence[bytes]) -> None:
        """Put a batch onto the log."""
        answer = self._answer(b"\n".join(lines) + b"\n")
        if answer.status == TOO_LARGE and len(lines) > 1:
            middle = len(lines) // 2
            self.send(lines[:middle])
            self.send(lines[middle:])
            return
        for partition, offset in self._client.taken(answer).json()["newest"].items():
            number = int(partition)
            self.newest[number] = max(offset, self.newest.get(number, -1))

    def _answer(self, body: bytes) -> Answer:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            wait_s = min(2 ** (attempt - 1), WAIT_S_MAX)
            try:
                answer = self._client.send("POST", ROUTE, body=body, content_type=NDJSON)
            except ServiceUnreachable as error:
                if attempt == ATTEMPTS_MAX:
                    raise
                why = str(error)
            else:
                if answer.status not in LATER:
                    return answer
                why, wait_s = str(Refused(answer)), answer.retry_after_s or wait_s
            say(f"{why}: again in {wait_s} s")
            time.sleep(wait_s)
        raise GenledgerError(f"{why}, {ATTEMPTS_MAX} times over: run the command again, it goes on from here")


def wait_for_views(
    settings: Settings, newest: Mapping[int, int], moved: Callable[[int, int], None] | None = None
) -> None:
    """Return when every view has read these places; an error when they stand still."""
    with here.views(settings) as found:
        total = left = found.behind(newest)
        still_s = clock.monotonic_s()
        while left:
            time.sleep(LOOK_EVERY_S)
            before, left = left, found.behind(newest)
            if left != before:
                still_s = clock.monotonic_s()
                if moved:
                    moved(max(total, left) - left, max(total, left))
            elif clock.monotonic_s() - still_s > STANDSTILL_S:
                raise GenledgerError(
                    f"the views are {left} records behind, and stand still: look at `genledger status`, then"
                    " run the command again"
                )


def wait_until_read(client: Client) -> None:
    """Return when the views have read what the log held when this was called."""
    held = {row["partition"]: row["records"] for row in _books(client)}
    deadline_s = clock.monotonic_s() + CATCH_UP_S
    while any(row["in_flight"] and row["read"] < held[row["partition"]] for row in _books(client)):
        if clock.monotonic_s() > deadline_s:
            raise GenledgerError("the views are far behind: wait until `genledger status` shows no lag")
        time.sleep(LOOK_EVERY_S)


def _books(client: Client) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = client.get(BOOKS_ROUTE)["partitions"]
    return found
