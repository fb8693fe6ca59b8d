"""The ledger as Faust starts it: `faust -A streams.app worker`.

    GENLEDGER_BROKER=kafka://127.0.0.1:9092 faust -A streams.app worker -l info

It is the same agent, table and transport as `genledger worker ledger`, under Faust's own command, without
what genledger's has around it: metrics, probes, the watchdog, and the look whether a seat is free.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from streams import topics
from streams.app import App, ledger_app
from streams.directory import Directory
from streams.log.backends import is_embedded, open_log
from streams.log.interface import Log
from streams.log.kafka.log import partitions_there
from streams.placement import check_placement
from streams.settings import Settings, load
from streams.slots import take_slot
from streams.sweeper import Sweeper

SETTINGS_FILE = Path("genledger.toml")


class LateLog:
    """A log that is opened when the app starts: only then is there an event loop."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._settings = settings
        self._partitions = partitions
        self._log: Log | None = None

    async def open(self) -> None:
        """Open it; from here on it is the log itself."""
        self._log = await open_log(self._settings)

    def partitions(self, topic: str) -> int:
        return self._partitions if self._log is None else self._log.partitions(topic)

    async def close(self) -> None:
        """Close it, if it was opened."""
        if self._log is not None:
            await self._log.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def ledger_worker() -> App:
    """The app, from the environment's settings; its log opens when it starts."""
    settings = load(os.environ, SETTINGS_FILE)
    log = LateLog(settings, _partitions(settings))
    folder = "seen"
    if not is_embedded(settings):
        slot = take_slot(Path(settings.data))
        folder = slot.folder
    directory = Directory(log)
    app, ledger, table = ledger_app(log, settings, directory, shelf=folder)
    app.grouped = not is_embedded(settings)

    async def begin() -> None:
        await log.open()
        await directory.refresh()
        await check_placement(log)
        if settings.cleanup_enabled:
            app.add_future(Sweeper(ledger, table, log, settings.cleanup_share).go_on())

    app.begin, app.end = begin, log.close
    return app


def _partitions(settings: Settings) -> int:
    if settings.partitions:
        return settings.partitions
    if is_embedded(settings):
        return topics.EMBEDDED_PARTITIONS
    return asyncio.run(partitions_there(settings, topics.GENERATIONS))
