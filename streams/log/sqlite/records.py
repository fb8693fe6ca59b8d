"""A record as a row of its partition's table, and its checksum.

The checksum covers the place (topic, partition, offset) and every field, and tells None from b"": a row
that moved, or lost a bit, is not the row that was written.

>>> rows = [row_of(Message("usage", 0, b"k", None), b"", offset=7, time_ms=1, seed=seed_of("usage", 0))]
>>> decode(rows, "usage", 0, seed_of("usage", 0), budget_bytes=100)[0].offset
7
"""

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from zlib import crc32

import msgspec

from streams.errors import LogDamaged, LogError
from streams.log.interface import Headers, Message, Record

Row = tuple[int, int, bytes | None, bytes | None, bytes, int]

_frame = Struct("<qqqqq").pack
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode

# About what a record takes in memory beside its key and value.
RECORD_BYTES = 250
CACHED_HEADERS = 1024
CACHED_HEADERS_BYTES = 512


class Damage(LogDamaged):
    """A row that is not what was written; the store adds the file and what to do."""

    def __init__(self, offset: int, error: str) -> None:
        super().__init__(f"offset {offset}: {error}")
        self.offset = offset


def seed_of(topic: str, partition: int) -> int:
    """What a partition's checksums start from."""
    return crc32(f"{topic}-{partition}".encode())


def checksum(
    seed: int, offset: int, time_ms: int, key: bytes | None, value: bytes | None, headers: bytes
) -> int:
    """CRC-32 of a whole row; lengths go in first, -1 for None."""
    key_bytes = -1 if key is None else len(key)
    value_bytes = -1 if value is None else len(value)
    frame = _frame(offset, time_ms, key_bytes, value_bytes, len(headers))
    return crc32(headers, crc32(value or b"", crc32(key or b"", crc32(frame, seed))))


def encode_headers(headers: Headers) -> bytes:
    """MessagePack of the pairs; nothing at all when there are none."""
    return _encode(headers) if headers else b""


@lru_cache(maxsize=CACHED_HEADERS)
def _cached_headers(raw: bytes) -> Headers:
    return _decode(raw)


def decode_headers(raw: bytes) -> Headers:
    """Back to pairs. Most records of a topic share a few small sets of headers: those are cached."""
    return _cached_headers(raw) if len(raw) <= CACHED_HEADERS_BYTES else _decode(raw)


def size_of(message: Message, headers: bytes) -> int:
    """Bytes that a message weighs; `LogError` when it is not made of bytes."""
    key, value = message.key, message.value
    if not (key is None or type(key) is bytes) or not (value is None or type(value) is bytes):
        raise LogError(f"{message.topic}: key and value must be bytes or None")
    return len(headers) + (len(key) if key else 0) + (len(value) if value else 0)


def row_of(message: Message, headers: bytes, offset: int, time_ms: int, seed: int) -> Row:
    """The row that keeps a message at an offset."""
    key, value = message.key, message.value
    return offset, time_ms, key, value, headers, checksum(seed, offset, time_ms, key, value, headers)


def decode(
    rows: Iterable[Row],
    topic: str,
    partition: int,
    seed: int,
    budget_bytes: int,
    dense_from: int | None = None,
) -> list[Record]:
    """Rows as records, each verified, until the budget is used up.

    With `dense_from`, offsets must follow one another from there. Raises `Damage` at the first bad row.
    """
    records: list[Record] = []
    add = records.append
    expected = dense_from
    for offset, time_ms, key, value, raw, crc in rows:
        if expected is not None:
            if offset != expected:
                raise Damage(expected, f"the record is missing, the next one is {offset}")
            expected += 1
        verify(seed, offset, time_ms, key, value, raw, crc)
        headers = decode_headers(raw) if raw else ()
        add(Record(topic, partition, offset, time_ms, key, value, headers))
        budget_bytes -= len(raw) + (len(value) if value else 0) + (len(key) if key else 0)
        if budget_bytes <= 0:
            break
    return records


def verify(
    seed: int, offset: int, time_ms: int, key: bytes | None, value: bytes | None, headers: bytes, crc: int
) -> None:
    """Raise `Damage` unless the row is as written.

    A damaged file can give a field of another type too: that is no better than a wrong checksum.
    """
    try:
        good = checksum(seed, offset, time_ms, key, value, headers) == crc
    except TypeError:
        good = False
    if not good:
        raise Damage(offset, "the record does not have its checksum")
