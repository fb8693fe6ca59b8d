"""Where a key lives: Kafka's own murmur2, so that every producer agrees with us.

>>> partition_of(b"gen-1", 4)
1
>>> partitions_of([b"gen-1", b"gen-2"], 4)
[1, 0]

Of a batch's keys those of one length are hashed side by side: each stands in a lane of 64 bits of one long
integer, so that a product of 32 bits by 32 stays in its lane, and one operation is a step of a thousand keys.
"""

import sys
from array import array
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
# Fewer keys than this are hashed one by one; more at once do not get cheaper, and take more memory.
_LANES_MIN = 8
_LANES = 1024
_LANE_BYTES = 8
# One in each lane, to be multiplied by what every lane is to hold.
_ONES = int.from_bytes(b"\1\0\0\0\0\0\0\0" * _LANES, "little")


@lru_cache(maxsize=1024)
def _words(count: int) -> Struct:
    return Struct(f"<{count}I")


def murmur2(data: bytes) -> int:
    """The hash of Kafka's default partitioner, as an unsigned 32-bit integer."""
    length = len(data)
    count = length >> 2
    h = _SEED ^ length
    for word in _words(count).unpack_from(data):
        k = (word * _M) & _MASK
        h = ((h * _M) & _MASK) ^ (((k ^ (k >> 24)) * _M) & _MASK)
    rest = data[count << 2 :]
    if rest:
        h = ((h ^ int.from_bytes(rest, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The one partition a key belongs to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_of(keys: Sequence[bytes], partitions: int) -> list[int]:
    """The partition of each key, in order: `partition_of` for many."""
    found = [0] * len(keys)
    by_length: dict[int, list[int]] = {}
    for number, length in enumerate(map(len, keys)):
        by_length.setdefault(length, []).append(number)
    for length, numbers in by_length.items():
        for first in range(0, len(numbers), _LANES):
            some = numbers[first : first + _LANES]
            hashes = _hashes([keys[number] for number in some], length)
            for number, h in zip(some, hashes, strict=True):
                found[number] = (h & 0x7FFFFFFF) % partitions
    return found


def _hashes(keys: Sequence[bytes], length: int) -> Sequence[int]:
    """`murmur2` of keys of one length."""
    count = len(keys)
    if count < _LANES_MIN or sys.byteorder == "big":
        return [murmur2(key) for key in keys]
    # A word of its own for what is left behind the last whole one: murmur2 takes it as if filled with zeros.
    words = -(-length // 4)
    fill = b"\0" * (words * 4 - length)
    lines = array("I", fill.join(keys) + fill)
    ones = _ONES & ((1 << (count * _LANE_BYTES * 8)) - 1)
    mask = ones * _MASK
    h = ones * (_SEED ^ length)
    for word in range(length // 4):
        k = _lanes(lines[word::words]) * _M & mask
        h = (h * _M & mask) ^ (((k ^ (k >> 24)) & mask) * _M & mask)
    if fill:
        h = (h ^ _lanes(lines[words - 1 :: words])) * _M & mask
    h = ((h ^ (h >> 13)) & mask) * _M & mask
    return array("Q", ((h ^ (h >> 15)) & mask).to_bytes(count * _LANE_BYTES, "little"))


def _lanes(words: "array[int]") -> int:
    """Words of 32 bits in lanes of 64."""
    wide = array("I", bytes(len(words) * _LANE_BYTES))
    wide[::2] = words
    return int.from_bytes(wide, "little")
