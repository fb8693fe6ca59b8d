"""What compaction may not take: records that nobody has decided yet."""

from pathlib import Path

from streams import topics
from streams.log.interface import Message
from streams.log.sqlite.log import open_log
from tests.ledger.sim import event


async def test_an_undecided_record_outlives_compaction(tmp_path: Path) -> None:
    """The dearer version of an id stays until the ledger has read it, though a later record has its key."""
    log = await open_log(f"sqlite:///{tmp_path}/log", topics.topic_table(1))
    try:
        for cost in ("2", "1"):
            await log.append([Message(topics.GENERATIONS, 0, b"gen-1", event(id="gen-1", cost=cost))])
        assert await log.committed("ledger", topics.GENERATIONS, 0) is None
        await log.compact(topics.GENERATIONS)
        assert len(await log.read(topics.GENERATIONS, 0, 0, 10)) == 2
    finally:
        await log.close()
