"""One run of one organisation's sync: the list, then the ids that are awaited, then the days' completeness.

    report = await run("acme", provider, state, ledger, settings, now_ms)

A part that fails ends with its reason in the report; what it had found is published, and the next part is
tried, for it may be another route that is down. Only a refused key, or a provider that can't be reached or
wants to be left alone, ends the whole run: then the next part would fail in the same way.
"""

import asyncio
from collections.abc import Awaitable, Callable

from streams import times
from streams.clock import monotonic_s
from streams.errors import GenledgerError
from streams.settings import Settings
from streams.sync import activity
from streams.sync.intake import Intake
from streams.sync.interface import Ledger, Report, State
from streams.sync.listing import read_list
from streams.sync.provider import Provider, ProviderError
from streams.sync.readback import read_back

# The provider tells of no more completed days.
ACTIVITY_DAYS_MAX = 30

# A provider that wants to be left alone for longer is asked again after a day.
REST_S_MAX = 86_400.0

Part = Callable[[], Awaitable[None]]


async def run(
    organization: str, provider: Provider, state: State, ledger: Ledger, settings: Settings, now_ms: int
) -> Report:
    """Read what there is to be read, publish what is new, and say how it went."""
    one = _Run(organization, provider, state, ledger, settings, now_ms)
    await one.in_time()
    return Report(
        organization=organization,
        started_ms=now_ms,
        synced_generations=one.intake.synced,
        amended=one.intake.amended,
        duplicates_skipped=one.intake.duplicates,
        total_fetched=one.intake.total,
        failed=one.intake.failed,
        not_found=one.not_found,
        awaited=await state.awaited(organization),
        missing=one.missing,
        truncated=one.truncated,
        error="; ".join(one.errors),
        not_before_ms=one.not_before_ms,
    )


class _Run:
    """The parts of a run, and what they find."""

    def __init__(
        self,
        organization: str,
        provider: Provider,
        state: State,
        ledger: Ledger,
        settings: Settings,
        now_ms: int,
    ) -> None:
        self._organization = organization
        self._provider = provider
        self._state = state
        self._settings = settings
        self._now_ms = now_ms
        self._started_s = monotonic_s()
        self.intake = Intake(organization, ledger, now_ms)
        self.not_found = 0
        self.missing: int | None = None
        self.truncated = False
        self.errors: list[str] = []
        self.not_before_ms = 0

    async def in_time(self) -> None:
        """The parts, for as long as a run may take: others wait for its place."""
        try:
            async with asyncio.timeout(self._settings.sync_timeout_s):
                await self.parts()
        except TimeoutError:
            self.errors.append(
                f"the run took longer than {self._settings.sync_timeout_s:g} s: the next goes on"
            )

    async def parts(self) -> None:
        """Each part that this provider and this key have."""
        parts: list[Part] = [self._ids]
        if self._settings.provider_list:
            parts.insert(0, self._list)
        if self._provider.has_management_key:
            parts.append(self._days)
        for part in parts:
            try:
                await part()
            except GenledgerError as error:
                self.errors.append(str(error))
                if isinstance(error, ProviderError) and error.retry_after_s:
                    wait_s = monotonic_s() - self._started_s + min(error.retry_after_s, REST_S_MAX)
                    self.not_before_ms = self._now_ms + int(wait_s * 1000) + 1
                if not isinstance(error, ProviderError) or error.kind != "answer":
                    return

    async def _list(self) -> None:
        cut = await read_list(
            self._organization, self._provider, self._state, self.intake, self._settings, self._now_ms
        )
        self.truncated |= cut

    async def _ids(self) -> None:
        if self.truncated:
            return  # the list tells of a hundred at a time: ids are asked for when it has been read
        outcome = await read_back(
            self._organization, self._provider, self._state, self.intake, self._settings, self._now_ms
        )
        self.not_found += outcome.not_found
        self.truncated |= outcome.truncated
        if outcome.error is not None:
            raise outcome.error

    async def _days(self) -> None:
        days = min(self._settings.sync_days, ACTIVITY_DAYS_MAX)
        first, last = (times.utc_day(self._now_ms, ago) for ago in (days, 1))
        theirs = [row for row in await self._provider.activity() if first <= row.day <= last]
        ours = await self._state.days(self._organization, first, last)
        self.missing = activity.missing(activity.compare(theirs, ours))
