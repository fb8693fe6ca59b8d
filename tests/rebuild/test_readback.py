"""What the sync remembers of `usage` is what the model says of the same log."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from projections.stores import readback
from projections.stores.readback import Readback
from streams.log.backends import open_log
from streams.settings import load
from tests.model.ledger import Id
from tests.model.traffic import Traffic
from tests.road.files import model_of

FIRST_DAY = "2025-01-01"
LOW = ("estimate", "reported")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Readback]:
    made = Readback.open(tmp_path / "sync.db")
    yield made
    made.close()


def winners(data: Path, traffic: Traffic, organization: str, first_day: str) -> dict[str, Id]:
    """The counted generations of an organisation, by the model."""
    model, _ = model_of(data, traffic)
    return {
        id: known
        for id, known in model.ids.items()
        if known.winner.organization == organization and not known.winner.void and utc(known) >= first_day
    }


def utc(known: Id) -> str:
    return datetime.fromtimestamp(known.date_ns // 10**9, UTC).date().isoformat()


async def follow(memory: Readback, data: Path, *organizations: str, first_day: str = FIRST_DAY) -> None:
    log = await open_log(load({"GENLEDGER_DATA": str(data)}), read_only=True)
    try:
        await memory.follow(log, frozenset(organizations), "", first_day)
    finally:
        await log.close()


async def assert_follows(
    memory: Readback, data: Path, traffic: Traffic, organization: str, first_day: str = FIRST_DAY
) -> None:
    """Ids and days are the model's."""
    found = winners(data, traffic, organization, first_day)
    awaited = {id for id, known in found.items() if known.winner.authority in LOW}
    assert set(await memory.awaited_ids(organization, 10**6)) == awaited
    assert len(awaited) < len(found), "the traffic has none that is reconciled"
    days: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0] * 8)
    for id, known in found.items():
        won = known.winner
        sums = days[utc(known), won.model, won.provider]
        for n, amount in enumerate(
            (
                1,
                won.prompt_tokens,
                won.completion_tokens,
                won.reasoning_tokens or 0,
                won.cost_nano or 0,
                (won.upstream_cost_nano or 0) if won.is_byok else 0,
                won.cost_nano is None,
                id in awaited,
            )
        ):
            sums[n] += amount
    rows = await memory.days(organization, "0000", "9999")
    told = {
        (row.day, row.model, row.provider): [getattr(row, name) for name in readback.SUMS] for row in rows
    }
    assert told == days


async def test_ids_and_days_are_the_models(memory: Readback, data: Path, traffic: Traffic) -> None:
    """After duplicates, amendments, voids and conflicts, each id and UTC day is what the winners come to."""
    organizations = sorted({str(body["id"]) for body in traffic.organizations})[:2]
    await follow(memory, data, *organizations)
    for organization in organizations:
        await assert_follows(memory, data, traffic, organization)


async def test_it_goes_on_where_it_was(
    memory: Readback, data: Path, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read in two parts, with other batches, it comes to the same; read once more nothing changes."""
    organization = str(traffic.organizations[0]["id"])
    monkeypatch.setattr(readback, "READ_RECORDS", 700)
    written = Readback._write

    def fails(self: Readback, partition: int, last: object, changes: object) -> None:
        if partition == 2:
            raise sqlite3.OperationalError("stopped in the middle")
        written(self, partition, last, changes)  # type: ignore[arg-type]

    monkeypatch.setattr(Readback, "_write", fails)
    with pytest.raises(sqlite3.OperationalError):
        await follow(memory, data, organization)
    monkeypatch.setattr(Readback, "_write", written)
    for _ in range(2):
        await follow(memory, data, organization)
        await assert_follows(memory, data, traffic, organization)


async def test_an_organisation_that_gets_a_key_later_has_its_older_ids(
    memory: Readback, data: Path, traffic: Traffic
) -> None:
    """Other organisations than before: `usage` is read again, and nothing is counted twice."""
    first, second = (str(body["id"]) for body in traffic.organizations[:2])
    await follow(memory, data, first)
    await follow(memory, data, first, second)
    await assert_follows(memory, data, traffic, first)
    await assert_follows(memory, data, traffic, second)


async def test_what_no_provider_tells_of_any_more_is_left_out(
    memory: Readback, data: Path, traffic: Traffic
) -> None:
    """Ids and days before the first UTC day are neither awaited nor summed up."""
    organization = str(traffic.organizations[0]["id"])
    days = sorted(utc(known) for known in winners(data, traffic, organization, "0000").values())
    middle = days[len(days) // 2]
    await follow(memory, data, organization, first_day=middle)
    await assert_follows(memory, data, traffic, organization, middle)


async def test_ids_are_put_off_and_hurried(memory: Readback, data: Path, traffic: Traffic) -> None:
    """One put off is not due before its time, keeps its tries, and is due at once when hurried."""
    organization = str(traffic.organizations[0]["id"])
    await follow(memory, data, organization)
    [first, *_] = await memory.due(organization, 1000, 10)
    await memory.put_off(organization, first.id, 5000)
    assert first.id not in {one.id for one in await memory.due(organization, 4999, 10**6)}
    [again] = [one for one in await memory.due(organization, 5000, 10**6) if one.id == first.id]
    assert (again.tries, again.since_ms) == (1, first.since_ms)
    await memory.hurry(organization)
    assert first.id in {one.id for one in await memory.due(organization, 0, 10**6)}
