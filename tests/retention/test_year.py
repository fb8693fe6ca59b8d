"""A of Retention, as much of it as fits into `make test`: 120 days and 20,000 ids beside the model."""

from pathlib import Path

from tests.retention.deliveries import Traffic
from tests.retention.year import Night, opened

DAYS = 120
IDS_PER_DAY = 170
SEED = 20261122
# From a day on, ids are to be kept for so many days; and by hand, once, for so many.
SETTING = {0: 90, 45: 30, 75: 60}
BY_HAND = {30: 120, 60: 45, 100: 14}
CHECKED = (40, 80)


async def test_120_days_come_to_what_the_model_says(tmp_path: Path) -> None:
    """Ids are forgotten night by night, twins come at every distance, and each total is the model's."""
    days = 0
    async with opened(tmp_path, Traffic(SEED, IDS_PER_DAY)) as year:
        for day in range(DAYS):
            days = SETTING.get(day, days)
            night = Night(
                days if day % 17 != 5 else None,  # a missed night
                BY_HAND.get(day),
                busy=day % 4 == 2,
                totals="digests" if day % 30 == 0 else "sums" if day % 5 == 0 else "",
            )
            await year.day(day, night)
            if day in CHECKED:
                await year.check()
            if day % 10 == 9:
                await year.compact()
        await year.check()
        await year.check_compacted()
        await year.prove()
