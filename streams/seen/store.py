"""The Faust store behind the table: a shelf for each partition that this process has.

Chosen by the table's URL: `seen:///DIRECTORY` keeps shelves on disk, `seen://memory` does not.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from faust.stores import base
from faust.types import TP, EventT

from streams.seen.shelf import Shelf, open_shelf


class Store(base.Store):
    """Shelves by partition. Faust's own way of filling a store is refused: see `SeenTable`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._directory = Path(self.url.path) if len(self.url.path) > 1 else None
        self._shelves: dict[int, Shelf] = {}

    def shelf(self, partition: int) -> Shelf:
        """An open shelf; `KeyError` when the partition is not ours."""
        return self._shelves[partition]

    def shelves(self) -> Mapping[int, Shelf]:
        """Every open shelf."""
        return dict(self._shelves)

    def open(self, partition: int, identity: str, end_offset: int, nulls_from: int = 0) -> Shelf:
        """Take a partition: its shelf as a kill left it, or empty when that can't be trusted."""
        self.drop(partition)
        path = self._directory / str(partition) if self._directory else None
        shelf = self._shelves[partition] = open_shelf(path, identity, end_offset, nulls_from)
        return shelf

    def drop(self, partition: int) -> None:
        """Let a partition go."""
        shelf = self._shelves.pop(partition, None)
        if shelf is not None:
            shelf.close()

    def persisted_offset(self, tp: TP) -> int | None:
        """How far into the changelog a partition reaches."""
        with contextlib.suppress(KeyError):
            return self._shelves[tp.partition].next_offset - 1
        return None

    def apply_changelog_batch(
        self, batch: Iterable[EventT], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Not how this store is filled."""
        raise NotImplementedError("the table reads its changelog itself: see SeenTable.recover")

    def reset_state(self) -> None:
        """Close every shelf; what is on disk stays."""
        for partition in list(self._shelves):
            self.drop(partition)

    async def backup_partition(self, tp: Any, *args: Any, **kwargs: Any) -> None:
        """The changelog is the backup."""

    def restore_backup(self, tp: Any, *args: Any, **kwargs: Any) -> None:
        """The changelog is the backup."""

    async def on_stop(self) -> None:
        """Close every shelf."""
        self.reset_state()
