"""A broker that stands still, dies, comes back: fault rows 10 to 12, on a real Kafka."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kafka.broker import Broker
from tests.kafka.faults_load import (
    Answer,
    Load,
    assert_exact,
    cost_nano,
    event,
    post_all,
    post_once,
    rss_bytes,
    wait_counted,
)
from tests.kafka.installation import Installation, Role
from tests.road.harness import wait_until

OwnBroker = Callable[..., Broker]

APPEND_S = 4.0
# Beyond its bound an answer may be late by this: two cores carry the broker and all roles.
LATE_S = 2.0
POSTERS = 12
BODY_EVENTS = 500
FILL_BYTES = 1000
QUEUE_BYTES = 4_194_304
GROWTH_BYTES_MAX = 64 * 1024 * 1024
BACK_S = 20.0
POLL_S = 10.0
AWAY_S = 2.0


def install(broker: Broker, prefix: str, folder: Path, **environ: str) -> Installation:
    """Two partitions on this broker."""
    made = Installation(
        f"kafka://{broker.bootstrap}",
        prefix,
        folder,
        partitions=2,
        **{"GENLEDGER_KAFKA_SESSION_TIMEOUT_S": "5", **environ},
    )
    made.apply()
    return made


@pytest.mark.parametrize("paused_s", [15.0, pytest.param(60.0, marks=pytest.mark.soak)])
def test_a_broker_that_stands_still_is_a_503_in_time_and_bounded_memory(
    own_broker: OwnBroker, topic_prefix: str, tmp_path: Path, paused_s: float
) -> None:
    """Fault row 10: each post gets 503 with Retry-After within its bound; all goes on when it does."""
    broker = own_broker()
    installation = install(
        broker, topic_prefix, tmp_path, GENLEDGER_APPEND_TIMEOUT_S=f"{APPEND_S:g}",
        GENLEDGER_APPEND_BYTES_MAX=str(QUEUE_BYTES), GENLEDGER_BATCH_BYTES_MAX=str(QUEUE_BYTES // 4),
    )  # fmt: skip
    with installation.running("gateway", "ledger", "summaries") as (gateway, ledger, summaries):
        costs = post_all(gateway, range(BODY_EVENTS))
        wait_counted(gateway, BODY_EVENTS)
        before_bytes = rss_bytes(gateway.pid)
        broker.pause()
        answers, most_bytes = _post_while_away(gateway, paused_s)
        broker.resume()
        resumed_s = time.monotonic()
        _assert_refused_in_time(answers)
        posted_bytes = sum(answer.events for answer in answers) * FILL_BYTES
        assert posted_bytes > 4 * QUEUE_BYTES, "more was posted than may wait"
        assert most_bytes - before_bytes < GROWTH_BYTES_MAX, f"{before_bytes} grew to {most_bytes}"
        for poster in range(POSTERS):
            gateway.send(_body(poster).splitlines())
        costs |= {f"gen-{n}": cost_nano(n) for n in range(BODY_EVENTS, (1 + POSTERS) * BODY_EVENTS)}
        assert_exact(installation, gateway, costs)
        print(
            f"row 10: {len(answers)} posts of {posted_bytes / 1e6:.0f} MB refused, the slowest after"
            f" {max(answer.took_s for answer in answers):.1f} s; the gateway grew by"
            f" {(most_bytes - before_bytes) / 1e6:.0f} MB; all exact"
            f" {time.monotonic() - resumed_s:.1f} s after it went on"
        )
        assert ledger.alive and summaries.alive


def _body(poster: int) -> bytes:
    """Some events of a poster's own, the same each time."""
    first = (1 + poster) * BODY_EVENTS
    return b"\n".join(
        event(n, cost_nano(n), tags={"filling": "x" * FILL_BYTES}) for n in range(first, first + BODY_EVENTS)
    )


def _post_while_away(gateway: Role, away_s: float) -> tuple[Sequence[Answer], int]:
    """Post from several threads while the broker is away: the answers, and the gateway's largest size."""
    started_s = time.monotonic()
    answers: list[Answer] = []

    def post(poster: int) -> None:
        body = _body(poster)
        while time.monotonic() - started_s < away_s - APPEND_S - LATE_S:
            answers.append(post_once(gateway.port, body, BODY_EVENTS))
            time.sleep(0.05)

    most_bytes = 0
    with ThreadPoolExecutor(POSTERS) as pool:
        posting = [pool.submit(post, poster) for poster in range(POSTERS)]
        while time.monotonic() - started_s < away_s:
            most_bytes = max(most_bytes, rss_bytes(gateway.pid))
            time.sleep(0.1)
        for one in posting:
            one.result()
    return answers, most_bytes


def _assert_refused_in_time(answers: Sequence[Answer]) -> None:
    """The broker was away: not one was taken, and nobody was left waiting."""
    assert len(answers) > POSTERS
    for answer in answers:
        assert answer.status == 503 and answer.retry_after is not None, answer
        assert answer.took_s < APPEND_S + LATE_S, answer


def test_a_broker_killed_while_all_is_idle_and_under_load_loses_nothing(
    own_broker: OwnBroker, topic_prefix: str, tmp_path: Path
) -> None:
    """Fault rows 11, 12: killed when all was idle for longer than the poll interval, and again under load."""
    broker = own_broker()
    installation = install(
        broker, topic_prefix, tmp_path,
        GENLEDGER_APPEND_TIMEOUT_S="3", GENLEDGER_KAFKA_MAX_POLL_INTERVAL_S=f"{POLL_S:g}",
    )  # fmt: skip
    with installation.running("gateway", "ledger", "ledger", "summaries", "jobs") as roles:
        gateway = roles[0]
        costs = post_all(gateway, range(200))
        wait_counted(gateway, 200)
        time.sleep(POLL_S + 1)
        broker.kill()
        broker.start()
        costs |= post_all(gateway, range(200, 400))
        took_s = wait_counted(gateway, 400, BACK_S)
        print(f"row 12: new records counted {took_s:.1f} s after they were taken")

        with Load(gateway, per_s=500, first=400) as load:
            wait_until(lambda: load.acknowledged > 1000, 20, "under load")
            broker.kill()
            time.sleep(AWAY_S)
            broker.start()
            back_s = time.monotonic()
            told = load.acknowledged
            wait_until(lambda: load.acknowledged > told, BACK_S, "taking events again")
            taking_s = time.monotonic() - back_s
            wait_counted(gateway, len(costs) + load.acknowledged, BACK_S)
            counted_s = time.monotonic() - back_s
        assert any(answer.status != 202 for answer in load.answers), "no post noticed"
        assert_exact(installation, gateway, costs | load.costs, BACK_S)
        print(f"row 11: events taken {taking_s:.1f} s after the restart, counted after {counted_s:.1f} s")
        assert time.monotonic() - back_s < BACK_S
        assert all(role.alive for role in roles)
