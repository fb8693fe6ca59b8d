"""Ten kills at the phases and 200 at random on a cluster, and what came of it as docs/soak-kafka.md.

    KAFKA_BOOTSTRAP=127.0.0.1:9092 python -m pytest -m soak tests/kafka -s

Any figure that differs from the model ends it with an exception, and no report is written.
"""

import os
import platform
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.kafka.fixtures import Cluster
from tests.kafka.installation import Installation
from tests.kafka.kills import PHASES, TAKEOVER_S_MAX, UNAPPLIED_MIN, Kills
from tests.model.traffic import Traffic, generate
from tests.road.comparison import digest
from tests.road.harness import running, set_up
from tests.road.run import check, feed, settle, sizes
from tests.road.soak import Report

GENERATIONS = 200_000
PARTITIONS = 6
KILLS = 10
RANDOM_KILLS = 200
REPORT = Path(__file__).parents[2] / "docs" / "soak-kafka.md"


def soak(
    kafka: Cluster,
    prefix: str,
    base: Path,
    seed: int,
    generations: int = GENERATIONS,
    random_kills: int = RANDOM_KILLS,
) -> Report:
    """All the kills, then the comparison; the report."""
    report = Report()
    traffic = generate(seed, generations)
    report.say("# The road on a cluster, killed again and again\n")
    report.say("Written by `make soak`: B of the issue Kafka, and row 5 of its faults.\n")
    report.say(f"- seed {seed}: {generations:,} generations, {len(traffic.deliveries):,} lines")
    report.say(f"- {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}")
    report.say(f"- one broker, {PARTITIONS} partitions; the session of a ledger worker lasts 8 s")
    installation = Installation(kafka.url, prefix, base, partitions=PARTITIONS)
    installation.apply()
    deliveries = traffic.shuffled(seed + 1)
    with Kills(installation, kafka.bootstrap, traffic, deliveries, seed, partitions=PARTITIONS) as kills:
        _at_phases(report, kills, seed)
        _at_random(report, kills, random_kills)
        report.say("\n## In the end\n")
        told = report.timed("the rest posted and in the tables", kills.finish)
        model = report.timed(
            "compared", lambda: check(installation.data, traffic, told, at_least=True, log=kills.log)
        )
    report.say("- every acknowledged line is there, every column is the model's, the books balance")
    fates: Counter[str] = sum(model.books.values(), Counter())
    report.say("- fates: " + ", ".join(f"{fate} {n:,}" for fate, n in fates.most_common()))
    ours = digest(installation.data)
    assert ours == _embedded(traffic, base / "embedded"), "killed, it came to another digest"
    report.say(f"- its digest is that of the same deliveries embedded, unharmed: `{ours}`")
    return report


def _at_phases(report: Report, kills: Kills, seed: int) -> None:
    report.say("\n## Kills with -9 at the phases\n")
    report.say(f"Of two ledger workers, or of the summaries, each with at least {UNAPPLIED_MIN:,} records")
    report.say("unapplied; of a ledger worker these are its own, which nobody else may touch meanwhile.")
    report.say("Taken over: from the death until there are new facts in each of its partitions; of the")
    report.say("summaries, which start again at once, until each of the waiting partitions has moved.\n")
    report.say("| # | at | which is | time there | lines posted | unapplied | taken over after |")
    report.say("| ---: | --- | --- | ---: | ---: | ---: | ---: |")
    source = random.Random(seed)
    phases = source.sample(list(PHASES), len(PHASES)) + source.sample(list(PHASES), KILLS - len(PHASES))
    for number, phase in enumerate(phases, 1):
        kill = kills.until(phase)
        report.say(
            f"| {number} | {phase} | {PHASES[phase]} | {kill.count} | {kill.posted:,} | {kill.unapplied:,} |"
            f" {kill.takeover_s:.1f} s |"
        )
    taken = [kill.takeover_s for kill in kills.done if not kill.phase.endswith("-transaction")]
    report.say(f"\n- ledger partitions taken over after {_spread(taken)} s; allowed are {TAKEOVER_S_MAX:g}")


def _at_random(report: Report, kills: Kills, count: int) -> None:
    report.say("\n## Kills with -9 at random moments, with traffic going on\n")
    posted = kills.posted
    report.timed(f"{count} kills, each started again at once", lambda: kills.at_random(count))
    report.say(f"- lines posted meanwhile: {kills.posted - posted:,}")
    done = kills.random_kills
    roles = Counter(kill.role for kill in done)
    report.say("- killed: " + ", ".join(f"{role} {n}" for role, n in sorted(roles.items())))
    waiting = _counts(kill.unapplied for kill in done)
    report.say(f"- records unapplied when it came (least, median, most): {waiting}")
    owned = [kill for kill in done if kill.partitions]
    kills.log.refresh()
    taken = kills.takeovers_s()
    assert all(takeover_s <= TAKEOVER_S_MAX for takeover_s in taken), taken
    report.say(
        f"- {len(owned)} of the ledger workers had partitions then; {len(taken)} of these were taken over"
        f" before the next ledger worker was killed, after {_spread(taken)} s"
    )
    ended = Counter(text.partition(":")[0] for text in kills.ended)
    report.say("- ended by themselves, and started again: " + (_listed(ended) or "none"))
    print("\n".join(kills.ended), flush=True)


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counted.items()))


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{min(values):.1f} to {max(values):.1f}, median {statistics.median(values):.1f}"


def _counts(values: Iterable[int]) -> str:
    found = list(values)
    return f"{min(found):,}, {statistics.median(found):,.0f}, {max(found):,}"


def _embedded(traffic: Traffic, data: Path) -> str:
    """The digest of an embedded run of the same deliveries."""
    with running(data) as service:
        set_up(service, traffic)
        feed(service, traffic.deliveries, sizes(traffic.seed, 1000, 4000))
        settle(service)
        assert service.stop() == 0, service.tail()
    return digest(data)
