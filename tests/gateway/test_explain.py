"""A generation's story, and the seeds' question whether it is a duplicate."""

from typing import Any

import pytest

from streams import fact, topics
from streams.errors import ServiceUnreachable
from streams.fact import Entry, Fact
from streams.generation import Generation
from streams.known import Known, Terms
from streams.log.interface import Message
from streams.log.partition import partition_of
from tests.gateway.conftest import NOW_MS, House, Make

NOW_NS = NOW_MS * 1_000_000


def known(cost_nano: int | None = 12_300_000, **fields: Any) -> Known:
    winner = Generation(id="gen-1", organization="acme", model="m", cost_nano=cost_nano, **fields)
    return Known(winner, Terms("1.3", "Europe/Warsaw", "2026-11-20", "alice"), None, NOW_NS)


async def tell(house: House, *facts: Fact) -> None:
    """Facts on `usage`, each in the partition of its id."""
    messages = []
    for one in facts:
        key = one.id.encode()
        messages.append(
            Message(topics.USAGE, partition_of(key, 4), key, fact.encode(one), fact.SCHEMA_HEADERS)
        )
    await house.log.append(messages)


def decision(fate: Any, offset: int, id: str = "gen-1", **fields: Any) -> Fact:
    return Fact(fate=fate, id=id, partition=0, offset=offset, prev=offset - 1, time_ms=NOW_MS, **fields)


PLUS = Entry(
    organization="acme", day="2026-11-20", today="2026-11-20", model="m", cost_nano=12_300_000, markup_nano=1
)


async def test_the_whole_story(house: House) -> None:
    """The winner, where it is counted, and every decision in order; another id's stay out."""
    house.known["gen-1"] = known()
    others = [decision("counted", n, id=f"gen-{n}", plus=PLUS) for n in range(2, 40)]
    await tell(house, decision("counted", 0, plus=PLUS), *others, decision("duplicate", 90))
    status, story = await house.call("GET", "/api/v1/generations/gen-1")
    assert (status, story["known"], story["truncated"]) == (200, True, False)
    assert story["winner"]["cost"] == "0.0123"
    assert (story["counted"]["organization"], story["counted"]["day"]) == ("acme", "2026-11-20")
    assert [(h["fate"], h["offset"]) for h in story["history"]] == [("counted", 0), ("duplicate", 90)]
    assert (story["history"][0]["plus"]["cost"], story["history"][0]["minus"]) == ("0.0123", None)
    assert story["history"][0]["time"] == "2026-11-20T12:00:00.000Z"


async def test_a_story_without_a_winner(house: House) -> None:
    """What was only quarantined or forgotten is still told, to who may see all."""
    await tell(house, decision("quarantined", 3, reason="key", detail="id: is not the record's key"))
    status, story = await house.call("GET", "/api/v1/generations/gen-1")
    assert (status, story["known"], story["counted"]) == (200, False, None)
    assert story["history"][0]["reason"] == "key"


async def test_another_organisations_side_of_a_story_is_not_told(house: House) -> None:
    """A conflict names no other organisation to this one's key."""
    house.known["gen-1"] = known()
    foreign = Entry(organization="rival", day="2026-11-20", today="2026-11-20")
    await tell(house, decision("conflict", 5, plus=PLUS, minus=foreign, detail="also sent by rival"))
    key = await house.key("acme", "reader")
    status, story = await house.call("GET", "/api/v1/generations/gen-1", key)
    assert status == 200 and "rival" not in str(story)
    assert story["history"][0]["plus"]["organization"] == "acme"


async def test_a_void_is_counted_nowhere(house: House) -> None:
    """It is known, and worth nothing."""
    house.known["gen-1"] = known(None, void=True, authority="corrected")
    assert (await house.call("GET", "/api/v1/generations/gen-1"))[1]["counted"] is None


async def test_a_search_ends_in_time(make_house: Make) -> None:
    """A history that can't be read in time is cut, and says so."""
    house: House = await make_house(explain_timeout_s=1e-9)
    house.known["gen-1"] = known()
    await tell(house, decision("counted", 0, plus=PLUS))
    assert (await house.call("GET", "/api/v1/generations/gen-1"))[1]["truncated"] is True


async def test_ids_in_paths_are_unquoted_once(house: House) -> None:
    """An id may have slashes, spaces and per cents."""
    id = "a/b c%20d\u00e9"
    house.known[id] = Known(
        Generation(id=id, organization="acme", model="m"), Terms("1", "UTC", "2026-11-20", ""), None, 0
    )
    status, story = await house.call("GET", "/api/v1/generations/a%2Fb%20c%2520d%C3%A9")
    assert (status, story["id"]) == (200, id)


@pytest.mark.parametrize(
    ("query", "duplicate", "same_model", "difference"),
    [
        ("model=m&cost=0.0123", True, True, "0"),
        ("model=m&cost=0.0123009", True, True, "0.0000009"),
        ("model=m&cost=0.0122991", True, True, "0.0000009"),
        ("model=m&cost=0.012301", False, True, "0.000001"),
        ("model=m&cost=0.0123011", False, True, "0.0000011"),
        ("model=other&cost=0.0123", False, False, "0"),
        ("model=m", False, True, None),
        ("cost=0.0123", False, False, "0"),
    ],
)
async def test_the_seeds_question(
    house: House, query: str, duplicate: bool, same_model: bool, difference: str | None
) -> None:
    """A duplicate has the same model and a cost that differs by less than a millionth of a dollar."""
    house.known["gen-1"] = known()
    status, answer = await house.call("GET", f"/api/v1/generations/gen-1/duplicate?{query}")
    assert status == 200
    assert answer == {
        "known": True, "duplicate": duplicate, "same_model": same_model, "cost_difference": difference
    }  # fmt: skip


async def test_the_seeds_question_about_the_unknown(house: House) -> None:
    """Unknown is not zero; an unknown id is no duplicate; a cost that is none is 422."""
    path = "/api/v1/generations/gen-1/duplicate"
    nothing = {"known": False, "duplicate": False, "same_model": False, "cost_difference": None}
    assert (await house.call("GET", f"{path}?model=m&cost=0"))[1] == nothing
    house.known["gen-1"] = known(None)
    assert (await house.call("GET", f"{path}?model=m&cost=0"))[1]["duplicate"] is False
    assert (await house.call("GET", f"{path}?model=m"))[1]["duplicate"] is True
    for cost in ("x", "-1", "NaN", "1e400", "9" * 5000):
        assert (await house.call("GET", f"{path}?cost={cost}"))[0] == 422


async def test_a_ledger_that_does_not_answer_is_503(house: House) -> None:
    """Who can't be asked now may be asked again later."""

    async def away(id: str) -> Known | None:
        raise ServiceUnreachable("the ledger is starting")

    house.ask = away
    for path in ("gen-1", "gen-1/duplicate"):
        async with house.session.get(f"/api/v1/generations/{path}") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert all("the ledger is starting" in text for text in house.errors)
    house.errors.clear()
