"""What the sync asks of the rest, and what it tells.

    report = await run(organization, provider, state, ledger, limits, now_ms)

The sync decides nothing: it publishes what the ledger lacks, or holds with lower authority, as "reconciled".
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from streams.generation import Generation


class Awaited(msgspec.Struct, frozen=True):
    """A known id that lacks the provider's figures: `since_ms` is when the log had it."""

    id: str
    tries: int
    since_ms: int


class Day(msgspec.Struct, frozen=True):
    """What the ledger has counted of an organisation's UTC day, model and provider."""

    day: str  # in UTC, as the provider reckons
    model: str
    provider: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_nano: int
    upstream_cost_nano: int
    unpriced_requests: int
    awaited_requests: int  # those without the provider's own figures


class State(Protocol):
    """What is remembered between two runs, in a local file that may be lost: then more is read again."""

    async def due(self, organization: str, now_ms: int, limit: int) -> Sequence[Awaited]:
        """Ids to be asked for now, those longest awaited first."""

    async def put_off(self, organization: str, id: str, due_ms: int) -> None:
        """Not before then; one more try is counted."""

    async def awaited(self, organization: str) -> int:
        """How many ids lack the provider's figures."""

    async def days(self, organization: str, first: str, last: str) -> Sequence[Day]:
        """What is counted from one UTC day to another."""

    async def cursor(self, organization: str) -> bytes:
        """How far the list has been read; b"" at first."""

    async def keep_cursor(self, organization: str, cursor: bytes) -> None:
        """Durable when it returns."""


class Ledger(Protocol):
    """What knows each id, and the log before it."""

    async def winners(self, ids: Sequence[str]) -> Mapping[str, Generation]:
        """The winning version of each id that is known, of whatever organisation."""

    async def publish(self, events: Sequence[Generation]) -> None:
        """Onto the log: durable when it returns."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one organisation. total_fetched = synced + amended + duplicates_skipped + failed."""

    organization: str
    started_ms: int
    seconds: float = 0.0  # the whole run, with what was read of `usage` before and after
    synced_generations: int = 0  # the ledger lacked them
    amended: int = 0  # the ledger held them with lower authority, or other figures
    duplicates_skipped: int = 0  # nothing new: not published
    total_fetched: int = 0  # generations that the provider has told of
    failed: int = 0  # told of, but not readable as an event
    not_found: int = 0  # asked for by id: the provider does not have them, or not yet
    awaited: int = 0  # ids that still lack the provider's figures
    missing: int | None = None  # by the provider's own activity; None: there is no management key
    truncated: bool = False  # the run's limit was hit: the next goes on from there
    error: str = ""  # why the run ended early; what it had found is published nevertheless
    not_before_ms: int = 0  # the provider wants to be left alone until then
