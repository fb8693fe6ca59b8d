"""A of Proof at full size: two million generations, replayed and proven, with kills.

`make soak` runs it and writes what it measured to docs/soak-proof.md.
"""

import json
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from streams import topics
from streams.log.interface import Message
from streams.log.partition import partition_of
from streams.log.sqlite.log import open_log
from tests.model.traffic import generate
from tests.rebuild.command import genledger
from tests.rebuild.polling import Polling
from tests.rebuild.test_replay import digest_of, roots
from tests.road.fixtures import SEED as ROAD_SEED
from tests.road.harness import COMMAND, clean_environ, running, set_up, wait_until
from tests.road.run import check, feed, settle, sizes

GENERATIONS = 2_000_000
SEED = 20261121
BATCH = 10_000
KILLS = 5
PAGE = Path(__file__).parents[2] / "docs" / "soak-proof.md"
VIEWS = "genledger.db"


def event(n: int, source: random.Random) -> tuple[bytes, bytes, int, int]:
    """An event's id and bytes, its tokens and its cost in nano-dollars."""
    id = f"gen-{n:07d}-{source.getrandbits(48):012x}"
    prompt, completion = source.randrange(4000), source.randrange(900)
    nano = source.randrange(50_000_000)
    body = (
        f'{{"id":"{id}","organization":"org-{source.randrange(20)}","user":"user-{source.randrange(300)}",'
        f'"model":"vendor/model-{source.randrange(40)}","provider":"P","prompt_tokens":{prompt},'
        f'"completion_tokens":{completion},"cost":"{nano / 10**9:.9f}",'
        f'"created_at":"2026-11-{source.randrange(1, 20):02d}T12:00:00Z"}}'
    )
    return id.encode(), body.encode(), prompt + completion, nano


async def fill(data: Path) -> tuple[int, int, int]:
    """Put the events onto the log, some twice; what they add up to."""
    data.mkdir()
    source = random.Random(SEED)
    log = await open_log(f"sqlite:///{data}/log", topics.topic_table(4))
    tokens = cost = 0
    for first in range(0, GENERATIONS, BATCH):
        batch = []
        for n in range(first, first + BATCH):
            id, body, worth, nano = event(n, source)
            tokens, cost = tokens + worth, cost + nano
            batch += [Message(topics.GENERATIONS, partition_of(id, 4), id, body)] * (2 if n % 20 == 0 else 1)
        await log.append(batch)
    await log.close()
    return GENERATIONS, tokens, cost


def applied(data: Path) -> int:
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        found = connection.execute(
            "SELECT sum(records) FROM positions WHERE projection IN ('summaries', 'processed')"
            " GROUP BY projection"
        ).fetchall()
    return min((row[0] for row in found), default=0)


def killed_somewhere(data: Path, source: random.Random) -> bool:
    """A replay, killed -9 after a while; was it still at work?"""
    with subprocess.Popen(
        [str(COMMAND), "replay", "--data", str(data)], env=clean_environ(), stderr=subprocess.PIPE
    ) as replay:
        try:
            replay.wait(source.uniform(2, 12))
        except subprocess.TimeoutExpired:
            replay.kill()
        return replay.wait() == -signal.SIGKILL


@pytest.mark.soak
async def test_two_million_generations_are_replayed_and_proven_under_kills(tmp_path: Path) -> None:
    """Equal digests, resumed after kills, readers never see a mix; prove says so while the service runs."""
    data = tmp_path / "data"
    expected = await fill(data)
    records = GENERATIONS + GENERATIONS // 20
    source = random.Random(SEED)
    with running(data) as service:
        wait_until(lambda: applied(data) >= records, 600, "taken", service)
        old, before = roots(data / VIEWS), digest_of(data / VIEWS)
        with closing(sqlite3.connect(data / VIEWS)) as connection:
            sums = "SELECT sum(total_requests), sum(total_tokens), sum(raw_cost_nano) FROM client_daily_usage"
            assert connection.execute(sums).fetchone() == expected
        with Polling(data / VIEWS) as polling:
            kills = sum(killed_somewhere(data, source) for _ in range(KILLS))
            assert (digest_of(data / VIEWS), roots(data / VIEWS)) == (before, old)
            resumed_s, resumed = timed("replay", data)
            whole_s, whole = timed("replay", data)
        assert polling.wrong == []
        assert kills >= 2, "it was too quick to be killed"
        assert digest_of(data / VIEWS) == before
        proof_s, proof = timed("prove", data)
        assert proof["holds"] is True
        assert service.stop() == 0, service.tail()
    PAGE.write_text(page(records, kills, resumed_s, resumed, whole_s, whole, proof_s, proof, polling.looks))


@pytest.mark.soak
def test_road_b_at_full_size_is_replayed_and_proven(tmp_path: Path) -> None:
    """Every kind of version, conflict and repetition, 200,000 generations: equal digests, and the model's."""
    data = tmp_path / "data"
    traffic = generate(ROAD_SEED, 200_000)
    with running(data) as service:
        set_up(service, traffic)
        told = feed(service, traffic.deliveries, sizes(1, 500, 1000))
        settle(service)
        before, old = digest_of(data / VIEWS), roots(data / VIEWS)
        _, proof = timed("prove", data)
        timed("replay", data)
        assert proof["holds"] is True
        assert (digest_of(data / VIEWS), roots(data / VIEWS) != old) == (before, True)
        assert timed("prove", data)[1]["live_digest"] == proof["live_digest"]
        assert service.stop() == 0, service.tail()
    check(data, traffic, told)


def timed(command: str, data: Path) -> tuple[float, dict]:
    started = time.monotonic()
    done = genledger(command, "--data", data, "--json", timeout_s=600)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return time.monotonic() - started, json.loads(done.stdout)


def page(records, kills, resumed_s, resumed, whole_s, whole, proof_s, proof, looks) -> str:
    rows = [
        (
            f"replay, after {kills} of {KILLS} runs were killed -9 in the middle",
            resumed["records"],
            resumed_s,
        ),
        ("replay from the beginning", whole["records"], whole_s),
        ("of that, until the new tables were built", whole["records"], whole["rebuilt_seconds"]),
        ("prove", proof["records"], proof_s),
    ]
    table = "\n".join(f"| {what} | {read:,} | {seconds:.1f} |" for what, read, seconds in rows)
    return f"""# Proof: the soak's report

Written by `make soak` (tests/rebuild/test_soak.py), seed {SEED}: {GENERATIONS:,} generations in
{records:,} records, the service running throughout, its totals those of the events to the nano-dollar.

| what | records read | seconds in all |
| --- | ---: | ---: |
{table}

The digest before, after each and of the proof is the same: `{proof["live_digest"]}`. A reader looked
{looks:,} times meanwhile, and saw the old rows or the new ones, never a mix.
"""
