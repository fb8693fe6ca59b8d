"""Reading what aiokafka can't: header names that are not UTF-8.

    records = LenientRecords(raw)        # as aiokafka's MemoryRecords

A broker takes any bytes as a header's name, and aiokafka stops at such a record for good. Here its bytes
come out escaped, so that the record is decided, and quarantined, like any other. Slow: only for a slice
that could not be read otherwise.
"""

from typing import Any, SupportsIndex

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.default_records import _DefaultRecordBatchPy as Batch
from aiokafka.record.memory_records import _MemoryRecordsPy as Records


class _Bytes(bytearray):
    """Bytes whose text is escaped where it is none."""

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        found = super().__getitem__(index)
        return _Bytes(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _LenientBatch(Batch):
    """aiokafka's own batch in Python, over such bytes."""

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: bytearray = _Bytes(self._buffer)


class LenientRecords:
    """The batches of a fetch, in order."""

    def __init__(self, raw: bytes) -> None:
        self._records = Records(raw)

    def has_next(self) -> bool:
        found: bool = self._records.has_next()
        return found

    def next_batch(self) -> Any:
        raw = self._records._next_slice  # noqa: SLF001 -- the slice itself, before it is made a batch
        found = self._records.next_batch()
        return _LenientBatch(raw) if isinstance(found, DefaultRecordBatch) else found
