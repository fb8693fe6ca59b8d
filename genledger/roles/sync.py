"""The sync, as a part of `genledger serve` and of the jobs leader: who is synced, when, and what came of it.

    syncs = Syncs(settings, log, directory, knower, memory, session)
    await syncs.start(watch, stack)

Every organisation with a provider key has its run each BACKGROUND_SYNC_INTERVAL; one whose run was cut by its
limit goes on at once. Their runs are side by side, a few at a time, so that one provider's trouble is one
organisation's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from genledger.roles.tasks import keep
from genledger.watch import Watch
from projections.stores.readback import Readback
from streams import clock, metrics, times
from streams.directory import Directory
from streams.errors import GenledgerError, SettingError
from streams.log.interface import Log
from streams.organizations import ALL_KNOWN_MS, Organization, value_at
from streams.references import resolve
from streams.settings import Settings
from streams.sync.interface import Day, Ledger, Report
from streams.sync.provider import Provider
from streams.sync.run import REST_S_MAX, run

AT_ONCE = 4
LOOK_EVERY_S = 0.5
AGAIN_S = 0.1
CONNECTIONS_MAX = 16
# Days that the provider tells of, and the two at their ends whose hours are another's.
DAYS_MORE = 2

_logger = logging.getLogger("genledger.sync")


def memory_of(settings: Settings) -> Path:
    """The file of the sync's memory."""
    return Path(settings.data) / "sync.db"


def key_of(organization: Organization, field: str, now_ms: int) -> str:
    """The reference to one of an organisation's keys at the provider; "" when it has none, or is inactive."""
    now_ns = now_ms * times.MS_NS
    if value_at(organization, "active", now_ns, ALL_KNOWN_MS) is False:
        return ""
    return str(value_at(organization, field, now_ns, ALL_KNOWN_MS) or "")


def first_day(settings: Settings, now_ms: int) -> str:
    """The first UTC day that the provider can still be asked about."""
    return times.utc_day(now_ms, settings.sync_days + DAYS_MORE)


class Syncs:
    """Runs the sync, and knows how the last runs went."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        directory: Directory,
        ledger: Ledger,
        memory: Readback,
        session: aiohttp.ClientSession,
    ) -> None:
        self._settings = settings
        self._log = log
        self._directory = directory
        self._ledger = ledger
        self.memory = memory
        self._session = session
        self._last: dict[str, Report] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._next: dict[str, bool] = {}  # asked for meanwhile
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._reading = asyncio.Lock()
        self._due_s: dict[str, float] = {}

    async def start(self, watch: Watch, stack: AsyncExitStack) -> None:
        """Look after all organisations until the stack ends."""
        self._last = {report.organization: report for report in await self.memory.last_reports()}
        watch.sync = self.told
        watch.alarms["the sync"] = self.alarm
        stack.callback(_forget, watch)
        stack.push_async_callback(self._stop)
        keep(self._go_on(), "the sync", watch, stack)

    def organizations(self) -> Sequence[str]:
        """Those that have a provider key."""
        now_ms = clock.now_ms()
        found = self._directory.organizations()
        return [one.id for one in found if key_of(one, "provider_key", now_ms)]

    def running(self) -> Sequence[str]:
        """Those whose run is under way."""
        return sorted(self._running)

    def begin(self, organization: str, *, everything: bool = False) -> None:
        """A run of one organisation now, or as soon as the one under way has ended: it began before this.

        `everything`: what was put off is asked for again, and the list is read to the provider's first day.
        """
        if organization in self._running:
            self._next[organization] = everything or self._next.get(organization, False)
            return
        self._running[organization] = asyncio.create_task(self._runs(organization, everything=everything))

    def told(self) -> Mapping[str, Any]:
        """For the status: the last run of each organisation."""
        return {name: told_of(report) for name, report in sorted(self._last.items())}

    def alarm(self) -> str:
        """What an operator must know."""
        with_keys = set(self.organizations())
        last = [report for report in self._last.values() if report.organization in with_keys]
        # Neither names nor numbers: alarms are shown to everybody, without a key by /readyz?verbose.
        texts = []
        if any(report.error for report in last):
            texts.append("the last run failed for some organisations: see `genledger sync`")
        if any(report.missing for report in last):
            texts.append("the provider knows of generations that are missing: see `genledger sync`")
        return "; ".join(texts)

    async def day(self, organization: str, day: str) -> tuple[Provider, Sequence[Day]]:
        """To compare a UTC day: the provider to be asked, and what is counted here on the days around."""
        await self._read_on()
        day_ns = times.midnight_ns(day, "UTC")
        first, last = (times.day_of(day_ns + n * times.DAY_NS, "UTC") for n in (-1, 1))
        provider, absent = self._provider(organization)
        if absent:
            raise GenledgerError(absent)
        return provider, await self.memory.days(organization, first, last)

    async def _go_on(self) -> None:
        while True:
            now_s = clock.monotonic_s()
            for name in self.organizations():
                is_due = now_s >= self._due_s.get(name, 0.0) and not self._not_before_ms(name)
                if is_due and name not in self._running:
                    self._due_s[name] = now_s + self._settings.background_sync_interval_s
                    self.begin(name)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _runs(self, organization: str, *, everything: bool) -> None:
        try:
            await self._run(organization, everything=everything)
            while (asked := self._next.pop(organization, None)) is not None:
                await self._run(organization, everything=asked)
        except Exception:  # the memory's disk is full, say: the next run tries it again
            _logger.exception("the report of a run of the sync can't be kept")
        finally:
            self._next.pop(organization, None)
            del self._running[organization]  # at once: whoever asks from here on begins anew

    async def _run(self, organization: str, *, everything: bool) -> None:
        async with self._at_once:
            started_ms, started_s = clock.now_ms(), clock.monotonic_s()
            try:
                report = await self._synced(organization, everything=everything)
            except GenledgerError as error:
                report = await self._failed(organization, started_ms, str(error))
            except Exception as error:  # one organisation's run is not the others', whatever it is
                _logger.exception("the sync of one organisation failed")
                report = await self._failed(organization, started_ms, type(error).__name__)
            seconds = round(clock.monotonic_s() - started_s, 3)
            report = msgspec.structs.replace(report, seconds=seconds)
            self._last[organization] = report
            _measure(report)
            await self.memory.keep_report(report)
            if report.truncated and not report.error:
                self._due_s[organization] = clock.monotonic_s() + AGAIN_S

    async def _failed(self, organization: str, started_ms: int, error: str) -> Report:
        """The report of a run that could not begin."""
        awaited = await self.memory.awaited(organization)
        return Report(organization=organization, started_ms=started_ms, error=error, awaited=awaited)

    def _not_before_ms(self, organization: str) -> int:
        """Until when the provider wants to be left alone; 0 when it does not, or no longer."""
        now_ms, last = clock.now_ms(), self._last.get(organization)
        if last is None or not now_ms < last.not_before_ms <= now_ms + REST_S_MAX * 1000:
            return 0  # further ahead than anything is kept: a clock that has gone back
        return last.not_before_ms

    async def _synced(self, organization: str, *, everything: bool) -> Report:
        if not_before_ms := self._not_before_ms(organization):
            at = times.text_of(not_before_ms // 1000 * times.SECOND_NS)
            error = f"the provider wants to be left alone until {at}"
            report = await self._failed(organization, clock.now_ms(), error)
            return msgspec.structs.replace(report, not_before_ms=not_before_ms)
        await self._read_on()
        settings, now_ms = self._settings, clock.now_ms()
        if everything:
            await self.memory.hurry(organization)
            settings = msgspec.structs.replace(settings, sync_overlap_s=settings.sync_days * 86_400.0)
        provider, absent = self._provider(organization)
        state = UpToDate(self.memory, self._read_on)
        report = await run(organization, provider, state, self._ledger, settings, now_ms)
        errors = "; ".join(text for text in (report.error, absent) if text)
        return msgspec.structs.replace(report, error=errors)

    async def _read_on(self) -> None:
        """`usage`, for all organisations with a key: once for those that begin together."""
        async with self._reading:
            names = frozenset(self.organizations())
            day = first_day(self._settings, clock.now_ms())
            await self.memory.follow(self._log, names, self._settings.provider_id_prefix, day)

    def _provider(self, organization: str) -> tuple[Provider, str]:
        """The provider with the organisation's keys; what is wrong with the one that may be absent."""
        now_ms = clock.now_ms()
        known = self._directory.organization(organization)
        reference = key_of(known, "provider_key", now_ms) if known else ""
        if known is None or not reference:
            raise GenledgerError(f"organisation {organization} has no provider key: orgs set --provider-key")
        management, key, absent = key_of(known, "management_key", now_ms), "", ""
        try:
            key = resolve(management) if management else ""
        except SettingError as error:  # generations can be read back without it
            absent = f"the management key: {error}"
        return Provider(self._session, self._settings, resolve(reference), key), absent

    async def _stop(self) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class UpToDate:
    """The memory, for a run: what it sums up is read on first, so that it has what the run has published."""

    def __init__(self, memory: Readback, read_on: Callable[[], Awaitable[None]]) -> None:
        self._memory = memory
        self._read_on = read_on
        self.due = memory.due
        self.put_off = memory.put_off
        self.cursor = memory.cursor
        self.keep_cursor = memory.keep_cursor

    async def awaited(self, organization: str) -> int:
        """How many ids lack the provider's figures, by now."""
        await self._read_on()
        return await self._memory.awaited(organization)

    async def days(self, organization: str, first: str, last: str) -> Sequence[Day]:
        """What is counted, by now, from one UTC day to another."""
        await self._read_on()
        return await self._memory.days(organization, first, last)


def _forget(watch: Watch) -> None:
    watch.sync = lambda: None
    watch.alarms.pop("the sync", None)


def told_of(report: Report) -> dict[str, Any]:
    """A report as JSON, its time as text."""
    found: dict[str, Any] = msgspec.to_builtins(report)
    found["started_at"] = times.text_of(found.pop("started_ms") * times.MS_NS)
    not_before_ms = found.pop("not_before_ms")
    found["not_before"] = times.text_of(not_before_ms * times.MS_NS) if not_before_ms else ""
    return found


def _measure(report: Report) -> None:
    for result, count in (
        ("synced", report.synced_generations),
        ("amended", report.amended),
        ("duplicate", report.duplicates_skipped),
        ("failed", report.failed),
        ("not_found", report.not_found),
    ):
        metrics.SYNC_GENERATIONS.labels(result).inc(count)
    metrics.SYNC_RUNS.labels("failed" if report.error else "done").inc()
    if not report.error:
        metrics.SYNC_LAST_SUCCESS.set(clock.now_ms() / 1000)


async def start_syncs(
    settings: Settings, log: Log, directory: Directory, ledger: Ledger, watch: Watch, stack: AsyncExitStack
) -> Syncs:
    """Begin, and end with the stack."""
    memory = Readback.open(memory_of(settings))
    stack.callback(memory.close)
    timeout = aiohttp.ClientTimeout(total=settings.provider_timeout_s)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    # No cookies: what the provider sets for one organisation's key is not to be sent with another's.
    session = aiohttp.ClientSession(timeout=timeout, connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    stack.push_async_callback(session.close)
    syncs = Syncs(settings, log, directory, ledger, memory, session)
    await syncs.start(watch, stack)
    return syncs
