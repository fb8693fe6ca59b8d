"""The nightly proof: `genledger prove` as a process of its own, and what the last one has found.

    start_proofs(settings, watch, stack)

Whoever keeps the views starts it, at the time of GENLEDGER_PROVE_AT; a night that was missed is made up for
at the next start. The result is a file beside the views, so a proof made by hand counts as well.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from genledger.roles.tasks import keep
from genledger.roles.views import path_of
from genledger.watch import Watch
from projections.rebuild.proof import Proof
from streams import clock, metrics, times
from streams.settings import Settings

RESULT = "prove-last.json"
LOOK_EVERY_S = 1.0
DAY_MS = 86_400_000
MINUTE_MS = 60_000
DIFFERENT = 3

_logger = logging.getLogger("genledger.proof")


class Result(msgspec.Struct, frozen=True):
    """What is remembered of the last proof."""

    time_ms: int
    holds: bool
    differences: int
    records: int
    seconds: float
    digest: str


def workplace(live: Path) -> Path:
    """Where views are rebuilt to be compared."""
    return live.with_name("prove.db")


def keep_result(live: Path, proof: Proof) -> None:
    """Write the result beside the views, at once."""
    result = Result(
        proof.time_ms, proof.holds, proof.differences, proof.records, proof.seconds, proof.live_digest
    )
    path = live.with_name(RESULT)
    begun = path.with_name(RESULT + ".part")
    begun.write_bytes(msgspec.json.encode(result))
    begun.rename(path)


def last_result(live: Path) -> Result | None:
    """The last proof's result; None when there was none."""
    try:
        return msgspec.json.decode(live.with_name(RESULT).read_bytes(), type=Result)
    except (OSError, msgspec.MsgspecError):
        return None


def is_due(at: str, last_ms: int, now_ms: int) -> bool:
    """Whether the time of day, in UTC, has come by since the last one. Pure.

    >>> is_due("02:00", last_ms=0, now_ms=2 * 3_600_000)
    True
    >>> is_due("02:00", last_ms=2 * 3_600_000, now_ms=25 * 3_600_000)
    False
    """
    hour, _, minute = at.partition(":")
    time_ms = (int(hour) * 60 + int(minute)) * MINUTE_MS
    newest_ms = (now_ms - time_ms) // DAY_MS * DAY_MS + time_ms
    return last_ms < newest_ms <= now_ms


class Proofs:
    """Starts them, and knows the last one's result."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._live = path_of(settings)
        self._began_ms = clock.now_ms()
        self._tried_ms = 0
        self._last: Result | None = None
        self._look()

    def told(self) -> Mapping[str, Any] | None:
        """For the status."""
        last = self._last
        if last is None:
            return None
        found: dict[str, Any] = msgspec.to_builtins(last)
        return {"time": times.text_of(found.pop("time_ms") * times.MS_NS), **found}

    def alarm(self) -> str:
        """What an operator must know."""
        if self._last is None or self._last.holds:
            return ""
        return f"the last proof found {self._last.differences} differences: see `genledger prove`"

    async def go_on(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._look()
            now_ms = clock.now_ms()
            if self._settings.prove_at and is_due(self._settings.prove_at, self._last_ms(), now_ms):
                self._tried_ms = now_ms
                await self._prove()

    def _last_ms(self) -> int:
        """When there was one, or was begun one; a new installation has its first the next night."""
        return max(self._tried_ms, self._began_ms if self._last is None else self._last.time_ms)

    def _look(self) -> None:
        self._last = last_result(self._live)
        if self._last is not None:
            metrics.PROVE_LAST_TIMESTAMP.set(self._last.time_ms / 1000)
            metrics.PROVE_DIFFERENCES.set(self._last.differences)

    async def _prove(self) -> None:
        # In our environment and our folder: with the settings that we have.
        process = await asyncio.create_subprocess_exec(
            "nice", "-n", "10", sys.executable, "-m", "genledger", "prove", "--data", self._settings.data,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
        if code not in (0, DIFFERENT):
            _logger.error("the nightly proof ended with code %d: its message is above this one", code)


def start_proofs(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """Begin, and end with the stack."""
    proofs = Proofs(settings)
    watch.proof = proofs.told
    watch.alarms["the proof"] = proofs.alarm
    keep(proofs.go_on(), "the nightly proof", watch, stack)
