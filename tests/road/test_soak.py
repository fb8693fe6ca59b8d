"""B and C at their full sizes: left to `make soak`, which writes docs/soak-road.md."""

from pathlib import Path

import pytest

from tests.road.fixtures import SEED
from tests.road.soak import GENERATIONS, REPORT, soak


@pytest.mark.soak
def test_the_road_at_full_size(tmp_path: Path) -> None:
    """200,000 generations in two orders and through ten kills come to the model's figures."""
    report = soak(SEED, GENERATIONS, tmp_path)
    REPORT.write_text("\n".join(report.lines) + "\n")
