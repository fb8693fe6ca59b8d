"""B: made-up traffic of three days, against the independent model."""

from pathlib import Path

from tests.model.traffic import Traffic
from tests.road.comparison import digest
from tests.road.harness import running, set_up
from tests.road.run import check, feed, settle, sizes


def test_every_column_of_every_table_is_the_models_and_another_order_gives_the_same_digest(
    tmp_path: Path, traffic: Traffic
) -> None:
    """Whatever is told twice, late, wrongly or by somebody else, in any order: the figures are exact."""
    one, other = tmp_path / "one", tmp_path / "other"
    with running(one) as service:
        set_up(service, traffic)
        told = feed(service, traffic.deliveries, sizes(1, 500, 1000))
        settle(service)
        service.assert_books_balance()
        assert service.stop() == 0, service.tail()
    model = check(one, traffic, told)
    assert {"counted", "amended", "duplicate", "superseded", "voided", "conflict", "republished"} == {
        fate for fates in model.books.values() for fate in fates
    }, "the traffic lacks a kind"
    with running(other) as service:
        set_up(service, traffic)
        told = feed(service, traffic.shuffled(2), sizes(3, 1, 4000))
        settle(service)
        assert service.stop() == 0, service.tail()
    check(other, traffic, told)
    assert digest(one) == digest(other)
