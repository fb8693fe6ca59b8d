"""What comes of a night whose comparison could not be done."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from prometheus_client import Gauge

from genledger.roles.nightly import Nightly, Result, Work, keep_result
from genledger.roles.views import path_of
from genledger.watch import Watch
from streams import times
from streams.clock import now_ms
from streams.settings import load


async def until(told: Callable[[], bool]) -> None:
    """Within half a minute."""
    async with asyncio.timeout(30):
        while not told():
            await asyncio.sleep(0.05)


async def test_a_night_that_failed_is_an_alarm_until_it_was_done(tmp_path: Path) -> None:
    """A command that did not come to a result; a run made by hand afterwards ends the alarm."""
    settings = load({}, tmp_path / "none.toml", data=str(tmp_path))
    at = times.text_of((now_ms() - 120_000) * times.MS_NS)[11:16]
    gauges = (Gauge("nightly_time", "of this test", registry=None), Gauge("nightly_n", "too", registry=None))
    work = Work("the comparison", ("reconcile", "--no-such"), at, "last.json", Result, *gauges)
    keep_result(path_of(settings), "last.json", Result(time_ms=1, holds=True, differences=0, seconds=1.0))
    watch = Watch(60.0)
    async with AsyncExitStack() as stack:
        Nightly(work, settings).start(watch, stack)
        alarm = watch.alarms["the comparison"]
        assert alarm() == ""
        await until(lambda: "ended with code 2" in alarm())
        done = Result(time_ms=now_ms(), holds=True, differences=0, seconds=1.0)
        keep_result(path_of(settings), "last.json", done)
        await until(lambda: alarm() == "")
