"""The door for opening entries: all of a body or nothing, an installation administrator's only."""

import msgspec

from genledger.legacy import entries
from genledger.legacy.entries import KnownId
from streams import openings, topics
from streams.openings import BalanceWire
from streams.organizations import Rights
from tests.gateway.conftest import House

ROW = KnownId("gen-1", "acme", "2026-11-20", 20_000_000, 70)
DAY = {"margin": "day", "organization": "acme", "day": "2026-11-20", "requests": 3, "cost_nano": 9}


async def test_the_door_takes_all_of_a_body_or_nothing(house: House) -> None:
    """202 says where the newest are; 422 names the entry and the field, and the log has nothing."""
    path = "/api/v1/admin/openings"
    status, told = await house.call("POST", path, json=[{"balance": DAY}, {"balance": {**DAY, "day": "x"}}])
    assert (status, told["error"]["field"]) == (422, "day") and "entry 1" in told["error"]["message"]
    known = msgspec.json.decode(entries.known_line(ROW, "UTC"))
    status, told = await house.call("POST", path, json=[{"balance": DAY}, known])
    assert status == 202 and told["accepted"] == 2
    held = [await house.log.read(topics.GENERATIONS, n, 0, 10) for n in range(4)]
    keys = {record.key for records in held for record in records}
    day = msgspec.convert(DAY, BalanceWire)
    assert keys == {b"gen-1", openings.key_of(day).encode()}
    early = {"known": known["known"] | {"created_at": "2027-01-01T00:00:00Z"}}
    undated = {"known": {name: value for name, value in known["known"].items() if name != "created_at"}}
    bodies: tuple[list[object], ...]
    bodies = ([early], [undated], [{}], [{"known": known["known"], "balance": DAY}], [1], [])
    for body in bodies:
        assert (await house.call("POST", path, json=body))[0] == 422, body


async def test_an_organizations_administrator_may_not(house: House) -> None:
    """Opening entries are of all organisations: the installation's administrator's only."""
    asked: tuple[tuple[Rights, str, int], ...]
    asked = (("admin", "acme", 403), ("producer", "acme", 403), ("admin", "", 202))
    for rights, organization, status in asked:
        key = await house.key(organization, rights)
        answer = await house.call("POST", "/api/v1/admin/openings", key, json=[{"balance": DAY}])
        assert answer[0] == status
