"""B with ten kills, and 200 kills of every role: left to `make soak`, which writes docs/soak-kafka.md."""

from pathlib import Path

import pytest

from tests.kafka.fixtures import Cluster
from tests.kafka.soak import REPORT, soak
from tests.road.fixtures import SEED


@pytest.mark.soak
def test_the_road_on_a_cluster_through_every_kill(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    """200,000 generations, ten kills at the phases and 200 at random: the model's figures."""
    report = soak(kafka, topic_prefix, tmp_path, SEED)
    REPORT.write_text("\n".join(report.lines) + "\n")
