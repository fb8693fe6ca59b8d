"""`genledger`, made to stand still or to write unfenced: started as a process by tests of a zombie.

    STOP_AT_FOR_TESTS=transaction-begun python -P tests/kafka/worker_with_seams.py worker ledger

| variable                | does                                                                          |
| ----------------------- | ----------------------------------------------------------------------------- |
| STOP_AT_FOR_TESTS       | stops this process by SIGSTOP, the first time it gets there                   |
| UNFENCED_FOR_TESTS      | takes partitions with an id of its own, so that no later owner fences it       |

`transaction-begun`: a batch is decided and its transaction begun, nothing of it is sent. Any other name is a
point of `streams.faultpoints`.
"""

import os
import signal
from typing import Any

from aiokafka import AIOKafkaProducer

from genledger.main import main
from streams import faultpoints
from streams.log.kafka import writer

STOP_AT, UNFENCED = "STOP_AT_FOR_TESTS", "UNFENCED_FOR_TESTS"
BEGUN = "transaction-begun"


class Stop:
    """Stands still at one point, once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, name: str) -> None:
        if name == self._name:
            self._name = ""
            os.kill(os.getpid(), signal.SIGSTOP)


def stop_at(name: str) -> None:
    """Put the stop where the code passes."""
    stop, passed, begin = Stop(name), faultpoints.reached, AIOKafkaProducer.begin_transaction

    def reached(point: str) -> None:
        stop(point)
        passed(point)

    async def begin_transaction(producer: Any) -> None:
        await begin(producer)
        stop(BEGUN)

    faultpoints.reached = reached
    AIOKafkaProducer.begin_transaction = begin_transaction


def switch_fencing_off() -> None:
    """Each process is another writer to the cluster, whose epoch nobody raises."""
    shared = writer.transactional_id
    writer.transactional_id = lambda *place: f"{shared(*place)}-{os.getpid()}"


if __name__ == "__main__":
    if os.environ.get(STOP_AT):
        stop_at(os.environ[STOP_AT])
    if os.environ.get(UNFENCED):
        switch_fencing_off()
    main()
