"""A and B on a real cluster: Road's traffic, against the independent model and against the embedded road."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka.fixtures import Cluster
from tests.kafka.installation import Installation, Role
from tests.kafka.kills import Kills
from tests.kafka.mixed import Direct, feed_mixed
from tests.kafka.records import ClusterRecords
from tests.model.traffic import Traffic
from tests.rebuild.command import genledger
from tests.road.comparison import digest
from tests.road.fixtures import SEED
from tests.road.harness import running, set_up
from tests.road.run import check, feed, settle, sizes

# Not the embedded log's number: no figure may depend on it.
PARTITIONS = 6
ROOT = Path(__file__).parents[2]
# Three of the ten of `make soak`: a transaction left open, one committed but not remembered, no table yet.
PHASES = ("transaction-open", "transaction-committed", "recovery")


@pytest.fixture(scope="module")
def embedded_digest(tmp_path_factory: pytest.TempPathFactory, traffic: Traffic) -> str:
    """What the same deliveries come to on an embedded log."""
    data = tmp_path_factory.mktemp("embedded") / "data"
    with running(data) as service:
        set_up(service, traffic)
        feed(service, traffic.deliveries, sizes(SEED, 1000, 4000))
        settle(service)
        assert service.stop() == 0, service.tail()
    return digest(data)


def test_door_and_direct_producers_mixed_come_to_the_models_figures_and_the_embedded_digest(
    kafka: Cluster, topic_prefix: str, tmp_path: Path, traffic: Traffic, embedded_digest: str
) -> None:
    """By whichever way events come onto a cluster, misplaced ones too: exact, and as embedded."""
    installation = Installation(kafka.url, topic_prefix, tmp_path, partitions=PARTITIONS)
    installation.apply()
    direct = Direct(kafka.bootstrap, f"{topic_prefix}generations", PARTITIONS)
    with (
        installation.running("gateway", "ledger", "ledger", "summaries") as roles,
        ClusterRecords(kafka.bootstrap, topic_prefix, PARTITIONS) as log,
    ):
        gateway = roles[0]
        set_up(gateway, traffic)
        told = feed_mixed(gateway, direct, traffic.shuffled(SEED), sizes(SEED, 500, 1500), SEED)
        settle(gateway, log)
        gateway.assert_books_balance()
        model = check(installation.data, traffic, told, log=log)
        proves_and_replays(installation, roles[-1])
        an_auditor_agrees(installation)
        gateway.assert_books_balance()
        check(installation.data, traffic, told, log=log)
        for role in roles:
            assert role.stop() == 0, role.tail()
    rerouted = sum(fates["rerouted"] for fates in model.books.values())
    assert rerouted == 2 * direct.misplaced > 1000, "each misplaced record, and the null in its place"
    assert digest(installation.data) == embedded_digest


def proves_and_replays(installation: Installation, summaries: Role) -> None:
    """Beside the running worker, from the cluster's `usage`; the worker takes the rebuilt views over."""
    for command in ("prove", "replay", "prove"):
        done = genledger(command, **installation.environ)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert "the views were replaced by rebuilt ones" in summaries.tail()


def an_auditor_agrees(installation: Installation) -> None:
    """The facts come off the cluster as they do off local files, and make the same statement."""
    export, statement = installation.folder / "facts.ndjson", installation.folder / "statement.json"
    done = genledger("export", "facts", export, **installation.environ)
    assert done.returncode == 0, done.stderr
    organization, month = "org-03", "2025-10"
    asked = ("--org", organization, "--month", month, "--by", "model", "--json")
    statement.write_text(genledger("report", *asked, **installation.environ).stdout)
    assert json.loads(statement.read_text())["total"]["requests"] > 100
    audit = [sys.executable, "examples/audit.py", str(export), month, organization, "--by", "model"]
    done = subprocess.run([*audit, "--statement", str(statement)], capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()


def test_a_killed_ledger_workers_partitions_are_taken_over_and_no_figure_changes(
    kafka: Cluster, topic_prefix: str, tmp_path: Path, traffic: Traffic, embedded_digest: str
) -> None:
    """Whenever one of two workers is killed, the other goes on within 15 s, and every column is right."""
    # Half of the default, of which the soak is: most of a takeover's time is the session's.
    installation = Installation(kafka.url, topic_prefix, tmp_path, GENLEDGER_KAFKA_SESSION_TIMEOUT_S="5")
    installation.apply()
    with Kills(installation, kafka.bootstrap, traffic, traffic.shuffled(SEED + 1), SEED) as kills:
        for phase in PHASES:
            print(f"seed {SEED}: {kills.until(phase)}")
        told = kills.finish()
        check(installation.data, traffic, told, at_least=True, log=kills.log)
    assert [kill.phase for kill in kills.done] == list(PHASES)
    assert digest(installation.data) == embedded_digest
