"""What is looked at in the views again and again by whoever keeps them: each rings though nobody asks.

await start_looks(queries, ends, settings, watch, stack)
"""

from contextlib import AsyncExitStack

from genledger.roles.books import start_books
from genledger.roles.cleanup_audit import start_cleanup_audit
from genledger.roles.conflicts import start_conflicts
from genledger.watch import Watch
from projections.api import Ends
from projections.queries import Queries
from streams.settings import Settings


async def start_looks(
    queries: Queries, ends: Ends, settings: Settings, watch: Watch, stack: AsyncExitStack
) -> None:
    """Begin all of them, and end with the stack."""
    await start_books(queries, ends, watch, stack)
    await start_conflicts(queries, watch, stack)
    await start_cleanup_audit(queries, settings, watch, stack)
