"""The same client for asyncio. It sends from a thread of its own, so that nothing holds up the event loop.

    async with AsyncClient(key="glk_...", spool="ledger.spool") as ledger:
        await ledger.record(id=answer.id, model="m", prompt_tokens=12, completion_tokens=3, cost="0.0123")

With a spool the wait for the disk happens in a thread, too; tasks that record at once share one commit.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from streams.client.client import CLOSE_TIMEOUT_S, Client, State


class AsyncClient:
    """A `Client` to be awaited: the same parameters, methods, errors and guarantees."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.client = Client(*args, **options)

    async def record(self, event: Mapping[str, Any] | None = None, /, **fields: Any) -> str:
        """Take one event; its id. With a spool it is on disk then."""
        return await self._in_time(lambda: self.client.record(event, **fields))

    async def record_json(self, text: bytes | str) -> str:
        """The same of an event that is JSON already."""
        return await self._in_time(lambda: self.client.record_json(text))

    async def _in_time(self, record: Callable[[], str]) -> str:
        # Memory is never waited for.
        return await asyncio.to_thread(record) if self.client.durable else record()

    async def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything recorded so far is taken or rejected; False when the time was not enough."""
        return await asyncio.to_thread(self.client.flush, timeout_s)

    def state(self) -> State:
        """How many wait, how many are done, and what is wrong."""
        return self.client.state()

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """Send what waits, within a time, and stop; how many were not sent."""
        return await asyncio.to_thread(self.client.close, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
