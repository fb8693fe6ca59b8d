"""Faust's transport for Kafka: `kafka://HOST:PORT`, registered under `faust.transports`.

Reading is the log's, as for every backend. What is added is the group: an app with a `group_topic` shares
that topic's partitions with the other processes of its role; one without has all partitions, as when the
log is embedded.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from aiokafka.errors import KafkaError
from faust.types import TP

from streams.log import transport
from streams.log.kafka.member import Member, Partitions

BEAT_EVERY_S = 0.2


class Consumer(transport.Consumer):
    """Reads the partitions that its group has given it."""

    _member: Member | None = None

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group, from a task: Faust waits for this call to return."""
        if not self.app.grouped:
            await super().subscribe(topics)
        elif self._member is None:
            self._member = Member(
                self.app.settings,
                self.app.role,
                sorted(topics),
                self.app.address,
                self._on_revoked,
                self._on_assigned,
            )
            self._joined = self.add_future(self._start(self._member))

    async def _start(self, member: Member) -> None:
        try:
            await member.start()
            while not self.should_stop:
                await member.beat()
                await self.sleep(BEAT_EVERY_S)
        except Exception as error:  # noqa: BLE001 -- whatever it is, without a membership the app must end
            await self.app.crash(error)

    async def _on_revoked(self, partitions: Partitions) -> None:
        await self._let_go({TP(*place) for place in partitions})

    async def _on_assigned(self, partitions: Partitions) -> None:
        await self._take({TP(*place) for place in partitions})

    def rejoin(self) -> None:
        """Give every partition back and ask the group anew."""
        if self._member is None:
            super().rejoin()
        else:
            self._member.rejoin()

    async def on_stop(self) -> None:
        """Leave the group, once nothing of its partitions is worked on."""
        await self._let_go(self._assigned)
        await super().on_stop()
        if self._member is not None:
            try:
                await self._member.stop()
            except KafkaError as error:
                self.log.warning("leaving the group: %s", error)


class Transport(transport.Transport):
    """The parts, for Faust."""

    Consumer: ClassVar[type[Any]] = Consumer

    driver_version = "genledger on aiokafka"
    default_port = 9092
