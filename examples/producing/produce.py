"""Publish events to Kafka: one JSON object a line on standard input.

    python produce.py localhost:9092 generations < events.ndjson > again.ndjson

Lines that the cluster did not acknowledge come out again.
"""

import json
import sys

from confluent_kafka import KafkaError, KafkaException, Message, Producer

CONFIG = {
    "partitioner": "murmur2_random",  # as Java; librdkafka's own default is crc32
    "acks": "all",
    "enable.idempotence": True,
    "delivery.timeout.ms": 120_000,
}


def main(bootstrap: str, topic: str) -> int:
    """How many lines failed."""
    failed = 0

    def told(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            again(message.value() or b"", error)

    def again(line: bytes, why: object) -> None:
        nonlocal failed
        failed += 1
        print(why, file=sys.stderr)
        sys.stdout.buffer.write(line + b"\n")

    producer = Producer({"bootstrap.servers": bootstrap, **CONFIG})
    try:
        for line in sys.stdin.buffer:
            value = line.rstrip(b"\r\n")
            key = json.loads(value)["id"].encode()
            while True:
                try:
                    producer.produce(topic, value, key, headers={"schema": b"1"}, on_delivery=told)
                    break
                except BufferError:  # too much is waiting: until some of it is acknowledged, or failed
                    producer.poll(1.0)
                except KafkaException as error:  # too large
                    again(value, error)
                    break
            producer.poll(0)
    finally:
        producer.flush()  # waits no longer than delivery.timeout.ms
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1], sys.argv[2]) else 0)
