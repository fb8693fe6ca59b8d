"""C: killed with -9 at the worst moments, the figures stay exact."""

from pathlib import Path

from tests.model.traffic import Traffic
from tests.road.fixtures import SEED
from tests.road.kills import Kills
from tests.road.run import check

# Three of the ten of `make soak`; the first one stands for both facts and changelog.
PHASES = ("transaction-committed", "summaries-transaction", "recovery")


def test_kills_in_every_phase_change_no_figure(tmp_path: Path, traffic: Traffic) -> None:
    """Whenever the process is killed, every acknowledged line counts once, and every column is right."""
    data = tmp_path / "data"
    kills = Kills(data, traffic, traffic.shuffled(SEED), SEED)
    for phase in PHASES:
        print(f"seed {SEED}: {kills.until(phase)}")
    check(data, traffic, kills.finish(), at_least=True)
    assert [kill.phase for kill in kills.done] == list(PHASES)
