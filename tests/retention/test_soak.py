"""A of Retention at full size: 400 days, two million ids, more than a million of them forgotten.

`make soak` runs it and writes docs/soak-retention.md and docs/retention-year.svg.
"""

from pathlib import Path

import pytest

from tests.retention.plot import draw, panels_of
from tests.retention.soak import page, soak

DOCS = Path(__file__).parents[2] / "docs"
DAYS = 400
IDS_PER_DAY = 5_020


@pytest.mark.soak
async def test_400_days_and_two_million_ids_level_off(tmp_path: Path) -> None:
    """Every total, id and audit row is the model's; state and topics level off, and look-ups stay flat."""
    report = await soak(tmp_path, DAYS, IDS_PER_DAY, lambda text: print(text, flush=True))
    assert report.taken >= 2_000_000
    assert report.forgotten >= 1_000_000
    report.check()
    (DOCS / "soak-retention.md").write_text(page(report))
    (DOCS / "retention-year.svg").write_text(draw(panels_of(report)))
