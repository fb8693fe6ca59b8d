"""Where keys live, one by one and side by side."""

from aiokafka.partitioner import murmur2 as kafkas
from hypothesis import example, given
from hypothesis import strategies as st

from streams.log.partition import partition_of, partitions_of

LENGTHS = st.sampled_from((0, 1, 2, 3, 4, 7, 35, 36))


@st.composite
def batches(draw: st.DrawFn) -> list[bytes]:
    """Many keys of few lengths, as a batch has them."""
    random = draw(st.randoms(use_true_random=False))
    lengths = draw(st.lists(LENGTHS, max_size=60))
    return [random.randbytes(length) for length in lengths for _ in range(random.choice((1, 1, 40)))]


@given(batches(), st.integers(1, 1000))
@example([b"\xff" * 35] * 2500, 12)
@example([b"\x00" * 36] * 1025, 7)
def test_keys_of_a_batch_live_where_each_would_by_itself(keys: list[bytes], partitions: int) -> None:
    """Hashed side by side, every key has the partition that it has alone, and by Kafka's own partitioner."""
    alone = [partition_of(key, partitions) for key in keys]
    assert partitions_of(keys, partitions) == alone
    assert alone == [(kafkas(key) & 0x7FFFFFFF) % partitions for key in keys]
