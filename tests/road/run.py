"""One run of B: settings, then all lines in batches, until every view has taken everything.

    told = feed(service, deliveries, sizes(seed, 500, 1000))
    check(data, traffic, told)

`check` is the whole of "every column of every table equals the model".
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.model.events import line_number, read
from tests.model.ledger import Model
from tests.model.tables import tables
from tests.model.traffic import Delivery, Traffic
from tests.road.comparison import book_differences, differences
from tests.road.files import Records, model_of, newest_values, settings_records, settled
from tests.road.harness import Service, wait_until

SETTLE_S = 120.0


def sizes(seed: int, least: int, most: int) -> Iterator[int]:
    """Batch sizes without end."""
    source = random.Random(seed)
    while True:
        yield source.randint(least, most)


def feed(service: Service, deliveries: Sequence[Delivery], batch_sizes: Iterator[int]) -> Counter[int]:
    """Post everything, and see that exactly the bad lines are refused; how often each line was taken."""
    told: Counter[int] = Counter()
    start = 0
    while start < len(deliveries):
        batch = deliveries[start : start + next(batch_sizes)]
        start += len(batch)
        refused = service.send([delivery.line for delivery in batch])
        bad = [place for place, delivery in enumerate(batch) if delivery.bad]
        assert refused == bad, [batch[place].line for place in set(refused) ^ set(bad)]
        told.update(numbers(batch))
    return told


def numbers(deliveries: Sequence[Delivery]) -> Iterator[int]:
    """The numbers of the good lines."""
    for delivery in deliveries:
        if not delivery.bad:
            number = line_number(delivery.line)
            assert number is not None
            yield number


def settle(service: Service, log: Records | None = None) -> None:
    """Wait until every view has taken everything."""
    wait_until(lambda: settled(service.data, log), SETTLE_S, "settled", service)


def check(
    data: Path,
    traffic: Traffic,
    told: Counter[int],
    *,
    at_least: bool = False,
    log: Records | None = None,
) -> Model:
    """Every line is on the log as often as it was acknowledged, and all that follows from the log is right.

    `at_least`: a line whose acknowledgement was lost with the process may be there more often.
    `log`: where the records are, if not in the embedded log's files.
    """
    model, on_log = model_of(data, traffic, log)
    lost = told - on_log
    assert not lost, f"acknowledged, but not on the log: {[traffic.lines[n] for n in list(lost)[:5]]}"
    if not at_least:
        assert on_log == told, "a line is on the log that was not acknowledged"
    assert differences(data, tables(model, settings_records(data, log))) == []
    assert book_differences(data, model, log) == []
    wrong = [key for key, value in newest_values(data, log).items() if not _is_winner(model, key, value)]
    assert wrong == [], "the newest record of a key is not its winner: compaction would lose it"
    return model


def _is_winner(model: Model, key: bytes, value: bytes) -> bool:
    return read(value) == model.ids[key.decode()].winner
