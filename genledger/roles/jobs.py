"""The jobs worker: what one process at a time has to do. Of several, the group makes one the leader.

    genledger worker jobs --metrics-port 9104

The leader looks every few minutes whether the topics still are as they must be: a cluster's owner may
change a topic, and a wrong clean-up policy loses money days later. And how long the oldest record has waited
for the ledger. The sync with the provider and the retention job are its, too.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from functools import partial

import aiohttp

from genledger.roles.cleanup import Cleanup
from genledger.roles.cleanup_routes import cleanup_routes
from genledger.roles.knower import Elsewhere
from genledger.roles.lookout import address_of, start_lookout
from genledger.roles.opening import open_cluster
from genledger.roles.sizing import Sizing
from genledger.roles.sweeps import SweepsElsewhere
from genledger.roles.sync import Syncs, start_syncs
from genledger.roles.sync_routes import sync_routes
from genledger.roles.tasks import keep
from genledger.roles.undecided import start_outage
from genledger.watch import Part, Watch
from streams import metrics, topics
from streams.directory import Directory
from streams.errors import LogError, ViewBusy
from streams.gateway.answers import Refusal
from streams.log.kafka.administration import differences
from streams.log.kafka.log import KafkaLog
from streams.log.kafka.member import Member, Partitions
from streams.log.sizes import topic_sizes
from streams.settings import Settings

# Whoever has the one partition of this topic is the leader.
BADGE = topics.KEYS
BEAT_S = 0.5
LOOK_EVERY_S = 300.0
ASK_TIMEOUT_S = 30.0
BUSY_RETRY_S = 1.0

_logger = logging.getLogger("genledger.jobs")


async def run(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """Start a worker."""
    log, directory = await open_cluster(settings, watch, stack)
    leader = Leader(settings, log, directory)
    watch.parts["jobs"] = Part(dict, lambda: None)
    watch.alarms["the topics"] = lambda: leader.alarm
    routes = [*sync_routes(leader.syncs, settings), *cleanup_routes(leader.cleanup, settings)]
    await start_lookout("jobs", log, directory, settings, watch, stack, routes=routes)
    sizing = Sizing()
    sizing.topics = partial(topic_sizes, log, topics.topic_table(log.partitions(topics.GENERATIONS)))
    sizing.start(watch, stack)
    await leader.start(watch, stack)


class Leader:
    """A candidate: it leads while the group has given it the badge."""

    def __init__(self, settings: Settings, log: KafkaLog, directory: Directory) -> None:
        self._settings = settings
        self._log = log
        self._directory = directory
        self._leads = asyncio.Event()
        self._lost = asyncio.Event()
        self._syncs: Syncs | None = None
        self._cleanup: Cleanup | None = None
        self.alarm = ""
        address = address_of("jobs", settings)
        self._member = Member(settings, topics.JOBS_GROUP, [BADGE], address, self._revoked, self._assigned)

    async def start(self, watch: Watch, stack: AsyncExitStack) -> None:
        """Stand for election until the stack ends."""
        await self._member.start()
        stack.push_async_callback(self._member.stop)
        keep(self._beat(), "the membership", watch, stack)
        keep(self._lead(), "the leader", watch, stack)
        keep(self._sync(watch), "the leader's sync", watch, stack)
        # The worker's, not the leader's: a request goes on that is under way when another takes over.
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S))
        stack.push_async_callback(session.close)
        sweeps = SweepsElsewhere(self._log, session, self._settings)
        keep(self._clean(sweeps, watch), "the leader's clean-up", watch, stack)

    def syncs(self) -> Syncs:
        """The sync, for who asks for it; refused while another leads."""
        if self._syncs is None:
            raise _not_leader()
        return self._syncs

    def cleanup(self) -> Cleanup:
        """The retention job, for who asks for it; refused while another leads."""
        if self._cleanup is None:
            raise _not_leader()
        return self._cleanup

    async def _clean(self, sweeps: SweepsElsewhere, watch: Watch) -> None:
        while True:
            await self._leads.wait()
            async with AsyncExitStack() as stack:
                start_outage(self._log, watch, stack)
                self._cleanup = Cleanup(self._settings, self._log, sweeps)
                await self._cleanup.start(watch, stack)
                try:
                    await self._lost.wait()
                finally:
                    self._cleanup = None

    async def _sync(self, watch: Watch) -> None:
        while True:
            await self._leads.wait()
            try:
                await self._sync_while_leading(watch)
            except ViewBusy as error:  # who led before us on this machine has not let go yet
                _logger.warning("the sync waits: %s", error)
                await asyncio.sleep(BUSY_RETRY_S)

    async def _sync_while_leading(self, watch: Watch) -> None:
        async with AsyncExitStack() as stack:
            session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S))
            stack.push_async_callback(session.close)
            knower = Elsewhere(self._log, session, self._settings)
            self._syncs = await start_syncs(self._settings, self._log, self._directory, knower, watch, stack)
            try:
                await self._lost.wait()
            finally:
                self._syncs = None

    async def _revoked(self, partitions: Partitions) -> None:
        self._leads.clear()
        self._lost.set()
        self.alarm = ""
        metrics.TOPIC_DIFFERENCES.set(0)
        metrics.JOBS_LEADER.set(0)

    async def _assigned(self, partitions: Partitions) -> None:
        if partitions:
            self._lost.clear()
            self._leads.set()
            metrics.JOBS_LEADER.set(1)

    async def _beat(self) -> None:
        while True:
            await self._member.beat()
            await asyncio.sleep(BEAT_S)

    async def _lead(self) -> None:
        while True:
            await self._leads.wait()
            await self._look_at_topics()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look_at_topics(self) -> None:
        try:
            found = [one for one in await differences(self._settings) if one.must]
        except LogError as error:
            _logger.warning("the topics can't be looked at: %s", error)
            return
        metrics.TOPIC_DIFFERENCES.set(len(found))
        self.alarm = "; ".join(
            f"{one.topic}: {one.setting} is {one.found}, not {one.wanted}" for one in found
        )


def _not_leader() -> Refusal:
    message = "this jobs worker does not lead: ask a gateway, which knows the one that does"
    return Refusal(503, "not_leader", message, retry_after_s=BEAT_S)
