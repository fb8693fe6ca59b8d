"""Points on a real cluster: workers share the partitions as a group, and one that dies leaves nothing out."""

from pathlib import Path

from tests.influxdb.expected import differences, expected, is_sent, stored
from tests.influxdb.real import Influx
from tests.kafka.fixtures import Cluster
from tests.kafka.installation import Installation, Role
from tests.kafka.records import ClusterRecords
from tests.model.traffic import generate
from tests.road.files import model_of
from tests.road.harness import set_up, wait_until
from tests.road.run import feed, settle, sizes

SENT_S = 90.0
PARTITIONS = 4


def test_a_killed_points_workers_partitions_are_taken_over_and_the_points_are_exact(
    kafka: Cluster, topic_prefix: str, influxdb: Influx, bucket: str, tmp_path: Path
) -> None:
    """Of two workers one is killed with -9: the other goes on with all partitions, and the set is exact."""
    traffic = generate(21, 1500)
    half = len(traffic.deliveries) // 2
    environ = {**influxdb.environ(bucket), "GENLEDGER_KAFKA_SESSION_TIMEOUT_S": "5"}
    installation = Installation(kafka.url, topic_prefix, tmp_path, partitions=PARTITIONS, **environ)
    installation.apply()
    with (
        installation.running("gateway", "ledger", "summaries", "points", "points") as roles,
        ClusterRecords(kafka.bootstrap, topic_prefix, PARTITIONS) as log,
    ):
        gateway, *_, one, other = roles
        set_up(gateway, traffic)
        wait_until(lambda: written(one) is not None and written(other) is not None, 30.0, "asked")
        feed(gateway, traffic.deliveries[:half], sizes(1, 20, 40))
        wait_until(lambda: bool(written(one)) and bool(written(other)), 60.0, "shared", other)
        one.kill()
        feed(gateway, traffic.deliveries[half:], sizes(2, 100, 200))
        settle(gateway, log)
        wait_until(lambda: is_sent(influxdb, bucket, log), SENT_S, f"sent: {other.tail()}", other)
        gateway.assert_books_balance()
        for role in roles:
            assert role is one or role.stop() == 0, role.tail()
        model, _ = model_of(installation.data, traffic, log)
    assert differences(stored(influxdb.rows(bucket, "llm_usage")), expected(model)) == []


def written(role: Role) -> float | None:
    """How many points a worker has written; None while it says nothing of them."""
    lines = role.request("GET", "/metrics")[1].splitlines()
    found = [line.split()[1] for line in lines if line.startswith("genledger_points_written_total ")]
    return float(found[0]) if found else None
