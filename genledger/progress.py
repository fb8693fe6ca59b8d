"""Progress of long work, on stderr: a bar where a person watches, else a line now and then.

with Progress("rebuilding", "facts") as progress:
    progress.moved(done, total)
"""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from genledger.output import say
from streams import clock

LINE_EVERY_S = 5.0


class Progress:
    """How far something is, how fast it goes, and how long it will take."""

    def __init__(self, what: str, unit: str) -> None:
        self._what = what
        self._unit = unit
        self._started_s = self._began_s = self._told_s = clock.monotonic_s()
        console = Console(stderr=True)
        self._watched = console.is_terminal
        self._bar = Bar(
            TextColumn("{task.fields[what]}: {task.completed}/{task.total} {task.fields[unit]}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._watched,
        )
        self._task = self._bar.add_task("", total=None, rate="", what=what, unit=unit)
        self.done = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return clock.monotonic_s() - self._started_s

    def moved(self, done: int, total: int, what: str = "") -> None:
        """So many of so many are done; of something else, if it says so."""
        if what and what != self._what:
            self._what, self._began_s = what, clock.monotonic_s()
        self.done = done
        rate = done / max(clock.monotonic_s() - self._began_s, 0.001)
        self._bar.update(self._task, completed=done, total=total, rate=f"{rate:,.0f}", what=self._what)
        now_s = clock.monotonic_s()
        if not self._watched and now_s - self._told_s >= LINE_EVERY_S:
            self._told_s = now_s
            left_s = (total - done) / max(rate, 0.001)
            say(f"{self._what}: {done:,} of {total:,} {self._unit}, {rate:,.0f}/s, {left_s:,.0f} s left")
