"""Rows as bytes: a few hundred of one table in a chunk, with the names of their columns.

>>> chunk = encode(("partition", "fate"), [(0, "counted"), (1, "counted")])
>>> decode(chunk).rows
[[0, 'counted'], [1, 'counted']]
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

# A record of some ten kilobytes: few enough for a topic, small enough for every bound of a log.
ROWS_MAX = 500
BYTES_MAX = 262_144
LEVEL = 1


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Some rows of a table, in the order of its key."""

    columns: tuple[str, ...]
    rows: list[list[Any]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Chunk)


def encode(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """As a record's value."""
    return zlib.compress(_encoder.encode((columns, rows)), LEVEL)


def decode(value: bytes) -> Chunk:
    """What `encode` wrote; `ValueError` when it is no such thing."""
    try:
        return _decoder.decode(zlib.decompress(value))
    except zlib.error as error:
        raise ValueError(str(error)) from None


def digest_of(values: Iterable[bytes]) -> str:
    """What tells the chunks of a table from any others."""
    hashed = blake2b(digest_size=16)
    for value in values:
        hashed.update(value)
    return hashed.hexdigest()


def shared_out(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """Rows in as many lists as there are to be chunks."""
    part: list[Sequence[Any]] = []
    size_bytes = 0
    for row in rows:
        row_bytes = len(_encoder.encode(row))
        if part and (len(part) == ROWS_MAX or size_bytes + row_bytes > BYTES_MAX):
            yield part
            part, size_bytes = [], 0
        part.append(row)
        size_bytes += row_bytes
    if part:
        yield part
