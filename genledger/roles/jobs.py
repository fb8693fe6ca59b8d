"""The jobs worker: what one process at a time has to do. Of several, the group makes one the leader.

    genledger worker jobs --metrics-port 9104

The leader looks every few minutes whether the topics still are as they must be: a cluster's owner may
change a topic, and a wrong clean-up policy loses money days later. The nightly jobs come to it too.
"""

import asyncio
import logging
from contextlib import AsyncExitStack

from genledger.roles.lookout import address_of, start_lookout
from genledger.roles.opening import open_cluster
from genledger.roles.tasks import keep
from genledger.watch import Part, Watch
from streams import metrics, topics
from streams.errors import LogError
from streams.log.kafka.administration import differences
from streams.log.kafka.member import Member, Partitions
from streams.settings import Settings

# Whoever has the one partition of this topic is the leader.
BADGE = topics.KEYS
BEAT_S = 0.5
LOOK_EVERY_S = 300.0

_logger = logging.getLogger("genledger.jobs")


async def run(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """Start a worker."""
    log, directory = await open_cluster(settings, watch, stack)
    leader = Leader(settings)
    watch.parts["jobs"] = Part(dict, lambda: None)
    watch.alarms["the topics"] = lambda: leader.alarm
    await start_lookout("jobs", log, directory, settings, watch, stack)
    await leader.start(watch, stack)


class Leader:
    """A candidate: it leads while the group has given it the badge."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._leads = asyncio.Event()
        self.alarm = ""
        address = address_of("jobs", settings)
        self._member = Member(settings, topics.JOBS_GROUP, [BADGE], address, self._revoked, self._assigned)

    async def start(self, watch: Watch, stack: AsyncExitStack) -> None:
        """Stand for election until the stack ends."""
        await self._member.start()
        stack.push_async_callback(self._member.stop)
        keep(self._beat(), "the membership", watch, stack)
        keep(self._lead(), "the leader", watch, stack)

    async def _revoked(self, partitions: Partitions) -> None:
        self._leads.clear()
        self.alarm = ""
        metrics.TOPIC_DIFFERENCES.set(0)
        metrics.JOBS_LEADER.set(0)

    async def _assigned(self, partitions: Partitions) -> None:
        if partitions:
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
