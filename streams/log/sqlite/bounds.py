"""Every bound of the embedded log, with its default and the reason for it.

log = await open_log(url, topics, bounds=Bounds(waiting_records=1_000))
"""

import msgspec

MIB = 1 << 20


class Bounds(msgspec.Struct, frozen=True):
    """What may wait, how much goes into one commit, and how much is looked at when opening."""

    waiting_records: int = 100_000
    """Records that may wait for a commit of one file: about a second of writing. Beyond: `LogFull`."""

    waiting_bytes: int = 128 * MIB
    """Their bytes, for the same reason. A single call above either bound is refused for good."""

    group_records: int = 2_000
    """Records of one commit when many callers wait, so that the first is not kept by the last."""

    group_bytes: int = 8 * MIB
    """Their bytes."""

    slice_records: int = 1_000
    """Rows written between two turns of the event loop: some 5 ms."""

    read_bytes: int = 8 * MIB
    """Keys, values and headers of one `read`, save that one record is always given."""

    tail_bytes: int = 32 * MIB
    """Newest records of each file kept in memory for those who follow closely."""

    checkpoint_bytes: int = 4 * MIB
    """WAL written before it is copied into the file: bounds its size, the time of recovery, and how long a
    commit may have to wait for the copy (some 10 ms)."""

    blocking_commit_ms: int = 2
    """Commits that take less, on average, are made on the event loop's thread; slower ones in another."""

    quick_check_bytes: int = 256 * MIB
    """Largest file whose structure is checked as a whole when opening: about a second."""

    check_records: int = 100_000
    """Newest records whose checksums are verified when opening a file, over all its partitions."""

    check_bytes: int = 64 * MIB
    """Their bytes."""

    compaction_ms: int = 10
    """What a transaction of compaction should take, with its fsync and the copy into the file: so long a
    producer may have to wait for it. One that took longer is followed by one of half the pages."""

    compaction_share: float = 0.25
    """Of the time, what compaction works: the rest belongs to those who are waited for."""

    compaction_records: int = 500
    """Records that compaction reads, or removes, between two turns of the event loop: some 3 ms."""

    compaction_bytes: int = MIB
    """Their bytes, when it reads them."""

    compaction_looked_at: int = 4_000
    """Records that one statement looks through, in a thread: some 10 ms."""

    poll_ms: int = 50
    """How often a read-only log looks for what another process has written."""
