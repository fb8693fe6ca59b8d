"""`genledger replay` and `genledger prove`, beside the same rebuild written by hand in one process.

    rebuild(bench)      # {"replay_per_s": ..., "hand_per_s": ..., "prove_per_s": ..., ...}

All three read the same `usage`, which our ledger made. They are timed from outside, as a user waits for them:
from the start of the process to its end. `working`: by their own clock, without the start of the process,
which weighs the less the more records there are.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks import BenchmarkFailed, hand, ours, views
from benchmarks.alone import alone
from benchmarks.bench import Bench, Figures
from benchmarks.service import COMMAND
from streams import clock, topics

TIMEOUT_S = 300.0


def rebuild(bench: Bench) -> Figures:
    """Into a file each, then the live views against theirs; records of `usage` a second."""
    with ours.finished(bench) as road:
        by_hand, by_replay = bench.base / "by-hand.db", bench.base / "replayed.db"
        started_s = clock.monotonic_s()
        usage = f"{bench.prefix}{topics.USAGE}"
        took = alone(hand.summaries_loop, bench.bootstrap, usage, by_hand, road.records)
        hand_s = clock.monotonic_s() - started_s
        replay_s, told = _command(road, bench.base, ["replay", "--json", "--into", str(by_replay)])
        for path in (by_hand, by_replay):
            views.check(path, bench.traffic.totals())
        prove_s, _ = _command(road, bench.base, ["prove"])
    working_s = msgspec.json.decode(told)["seconds"]
    return {
        "replay_per_s": road.records / replay_s,
        "hand_per_s": road.records / hand_s,
        "prove_per_s": road.records / prove_s,
        "replay_working_per_s": road.records / working_s,
        "hand_working_per_s": road.records / took.wall_s,
    }


def _command(road: ours.Road, base: Path, arguments: Sequence[str]) -> tuple[float, str]:
    """Run it; how many seconds it took, and what it printed."""
    started_s = clock.monotonic_s()
    done = subprocess.run(
        [str(COMMAND), *arguments],
        check=False,
        env=road.environ,
        cwd=base,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    took_s = clock.monotonic_s() - started_s
    if done.returncode != 0:
        told = (done.stdout + done.stderr)[-3000:]
        raise BenchmarkFailed(f"genledger {arguments[0]} ended with exit code {done.returncode}:\n{told}")
    return took_s, done.stdout
