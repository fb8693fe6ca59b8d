"""Which views read the log together."""

import pytest_asyncio

from genledger.roles import views
from genledger.roles.views import open_followers
from streams import fact as facts
from streams import topics
from streams.log.backends import open_log
from streams.log.interface import Message
from streams.settings import Settings
from tests.projections.samples import applied, entry, fact

FACTS = 40


@pytest_asyncio.fixture
async def log(tmp_path):
    log = await open_log(Settings(broker=f"sqlite:///{tmp_path}/log", partitions=4))
    made = [fact(offset, plus=entry("acme")) for offset in range(FACTS)]
    await log.append([Message(topics.USAGE, 0, one.id.encode(), facts.encode(one)) for one in made])
    yield log
    await log.close()


async def names(database, log, **settings):
    followers = await open_followers(Settings(**settings), database, log, lambda _told: None)
    return [[view.name for view in follower.views] for follower in followers]


async def test_views_of_the_same_topics_read_them_once(database, log):
    """All that follows the facts has one follower, the settings another."""
    assert await names(database, log) == [
        ["organizations"],
        ["summaries", "conflicts", "cleanup", "processed", "points"],
    ]


async def test_a_view_that_is_far_behind_keeps_the_others_from_nothing(database, log, monkeypatch):
    """A new view, or one that was off for long, reads alone what the others have read already."""
    stored = await log.read(topics.USAGE, 0, 0, FACTS)
    for view in views.views_of(Settings(points=False)):
        if view.topics == (topics.USAGE,):
            await applied(database, view, topics.USAGE, 0, stored)
    assert len(await names(database, log)) == 2
    monkeypatch.setattr(views, "APART_RECORDS", FACTS - 1)
    assert await names(database, log) == [
        ["organizations"],
        ["summaries", "conflicts", "cleanup", "processed"],
        ["points"],
    ]
