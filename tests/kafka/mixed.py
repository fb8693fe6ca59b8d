"""Traffic by several ways at once: most through the door, a part put onto the topic by two direct producers.

    direct = Direct(kafka.bootstrap, f"{prefix}generations", 4)
    told = feed_mixed(gateway, direct, deliveries, sizes(1, 500, 1000), 7)

The direct producers are librdkafka's: one places records by murmur2, as it should, the other by its default,
crc32. Which organisation is told first decides whose an id is; so where there are two, the first telling goes
through the door, and is acknowledged, before any other goes another way.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from confluent_kafka import KafkaError, Message, Producer

from tests.model.events import line_number
from tests.model.traffic import Delivery
from tests.road.files import home
from tests.road.harness import Service
from tests.road.run import numbers

SHARE_EACH = 0.15
FLUSH_S = 30.0
WAYS = ("door", "murmur2", "crc32")


class Direct:
    """Two producers of the topic: `told` is what was acknowledged, `misplaced` what came elsewhere."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._topic = topic
        self._partitions = partitions
        config = {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True}
        self._producers = {
            "murmur2": Producer({**config, "partitioner": "murmur2_random"}),
            "crc32": Producer(config),  # librdkafka's own default
        }
        self.told: Counter[int] = Counter()
        self.misplaced = 0

    def send(self, way: str, delivery: Delivery) -> None:
        """On its way; acknowledged when `flush` has returned."""
        self._producers[way].produce(
            self._topic, delivery.line, delivery.id.encode(), on_delivery=self._delivered
        )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        number = line_number(message.value() or b"")
        assert number is not None
        self.told[number] += 1
        self.misplaced += home(message.key() or b"", self._partitions) != message.partition()

    def flush(self) -> None:
        """Until all is acknowledged."""
        for way, producer in self._producers.items():
            assert producer.flush(FLUSH_S) == 0, f"not all of {way} is acknowledged"


def feed_mixed(
    gateway: Service, direct: Direct, deliveries: Sequence[Delivery], batch_sizes: Iterator[int], seed: int
) -> Counter[int]:
    """Send everything; how often each line was acknowledged, whichever way it went."""
    source = random.Random(seed)
    shared = _shared(deliveries)
    told: Counter[int] = Counter()
    owned: set[str] = set()
    start = 0
    while start < len(deliveries):
        batch = deliveries[start : start + next(batch_sizes)]
        start += len(batch)
        doors = []
        for delivery in batch:
            way = source.choices(WAYS, (1 - 2 * SHARE_EACH, SHARE_EACH, SHARE_EACH))[0]
            if way == "door" or delivery.bad or (delivery.id in shared and delivery.id not in owned):
                doors.append(delivery)
            else:
                direct.send(way, delivery)
        refused = gateway.send([delivery.line for delivery in doors])
        assert refused == [place for place, delivery in enumerate(doors) if delivery.bad]
        direct.flush()
        told.update(numbers(doors))
        owned.update(delivery.id for delivery in doors)
    return told + direct.told


def _shared(deliveries: Sequence[Delivery]) -> set[str]:
    """The ids that more than one organisation tells of."""
    first: dict[str, str] = {}
    return {one.id for one in deliveries if first.setdefault(one.id, one.organization) != one.organization}
