"""The views' process: the read side of `genledger serve`, beside the door and the ledger.

    ViewsProcess(settings, without).start()     # in the service
    python -m genledger.views                   # what it starts

It opens the log to read only, so the two sides share nothing but the log and a database: folding a large
batch keeps no request waiting, and the second core has work. See `child.py` for how the two talk.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec

from genledger.child import Child, Order, run_child, tell
from genledger.roles.opening import open_watched
from genledger.roles.rebuilt import start_takeover
from genledger.roles.views import open_database, open_followers, start_followers
from genledger.watch import Watch
from projections.agents import Follower, Full, Taken, measure
from projections.view import View
from streams import clock
from streams.errors import GenledgerError
from streams.log.interface import Log
from streams.settings import Settings

OPEN_TIMEOUT_S = 120.0
BEAT_S = 5.0


class Opened(msgspec.Struct, frozen=True, tag=True):
    """Every view is open; where each goes on from, by topic and partition."""

    places: list[tuple[str, str, int, int]]


class Opening(msgspec.Struct, frozen=True, tag=True):
    """Not open yet, and at work: a snapshot of millions of rows takes minutes to load."""


Line = Opened | Opening | Taken | Full

_line = msgspec.json.Decoder(Line)


async def _start(order: Order, watch: Watch, stack: AsyncExitStack) -> None:
    settings = order.settings
    log = await open_watched(settings, watch, stack, read_only=True)
    database = await open_database(settings)
    stack.push_async_callback(database.close)
    beating = asyncio.create_task(_beat())
    try:
        followers = await open_followers(settings, database, log, tell, order.without)
    finally:
        beating.cancel()
    tell(
        Opened(
            [place for follower in followers for view in follower.views for place in _places(follower, view)]
        )
    )
    await start_followers(followers, log, settings, watch, stack)
    start_takeover(database, log, watch, stack)


async def _beat() -> None:
    while True:
        tell(Opening())
        await asyncio.sleep(BEAT_S)


def _places(follower: Follower, view: View[Any, Any]) -> list[tuple[str, str, int, int]]:
    return [(view.name, *place, at) for place, (at, _) in follower.places(view).items()]


class ViewsProcess:
    """The views' process as the service sees it."""

    def __init__(self, settings: Settings, without: Sequence[str], log: Log) -> None:
        self._child = Child("genledger.views", Order(settings, tuple(without)), self._hear)
        self._log = log
        self._next: dict[str, dict[tuple[str, int], int]] = {}
        self._full: set[str] = set()
        self._heard_s = 0.0
        self._changed = asyncio.Event()
        self._opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def start(self, stack: AsyncExitStack) -> None:
        """Start it, and return when every view is open; `GenledgerError` when one can't be."""
        ending = await self._child.start()
        ending.add_done_callback(self._end)
        stack.push_async_callback(self._child.stop)
        self._heard_s = clock.monotonic_s()
        while clock.monotonic_s() - self._heard_s < OPEN_TIMEOUT_S:
            done, _ = await asyncio.wait(
                [self._opened, self.ended], timeout=BEAT_S, return_when="FIRST_COMPLETED"
            )
            if done:
                break
        if not self._opened.done():
            raise GenledgerError(
                self.ended.result() if self.ended.done() else "the views did not open in time"
            )

    def places(self, view: str) -> Mapping[tuple[str, int], tuple[int, int]]:
        """Where a view stands and where the log ends, by topic and partition."""
        places = self._next.get(view, {})
        return {(topic, n): (at, self._log.end_offset(topic, n)) for (topic, n), at in places.items()}

    def full(self, view: str) -> bool:
        """Whether a view waits for room on the disk."""
        return view in self._full

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Until the summaries' rows have changed, or the time is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
            return True
        return False

    def _hear(self, raw: bytes) -> None:
        line = _line.decode(raw)
        if isinstance(line, Opened):
            for view, topic, partition, at in line.places:
                self._next.setdefault(view, {})[topic, partition] = at
            self._opened.set_result(None)
            return
        if isinstance(line, Opening):
            self._heard_s = clock.monotonic_s()
            return
        measure(line, clock.now_ms())
        if isinstance(line, Full):
            (self._full.add if line.full else self._full.discard)(line.view)
            return
        self._next[line.view][line.topic, line.partition] = line.next_offset
        if line.view == "summaries":
            self._changed.set()
            self._changed = asyncio.Event()

    def _end(self, ending: "asyncio.Task[int]") -> None:
        if not ending.cancelled():
            error = ending.exception()
            how = f"ended with code {ending.result()}" if error is None else f"can't be heard: {error}"
            self.ended.set_result(f"the views' process {how}: its message is above this one")


if __name__ == "__main__":
    sys.exit(run_child(_start))
