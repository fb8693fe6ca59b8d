"""A task that is there as long as its process: its end, by whatever error, is the process's.

keep(upkeep.go_on(), "the upkeep", watch, stack)
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

from genledger.watch import Watch


def keep(work: Coroutine[Any, Any, None], name: str, watch: Watch, stack: AsyncExitStack) -> None:
    """Begin it; it is cancelled with the stack."""
    task = asyncio.create_task(work)
    watch.futures[name] = task

    async def stop() -> None:
        if watch.futures.get(name) is task:
            del watch.futures[name]  # an end that is wanted is no failure
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task

    stack.push_async_callback(stop)
