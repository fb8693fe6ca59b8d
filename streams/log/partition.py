"""Where a key lives: Kafka's own murmur2, so that every producer agrees with us.

>>> partition_of(b"gen-1", 4)
1
"""

from functools import lru_cache
from struct import Struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


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


# Embedded, the door and the ledger ask for the same keys soon after each other: 3 us become 0.1.
@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The one partition a key belongs to."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
