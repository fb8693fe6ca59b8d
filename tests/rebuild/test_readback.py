"""What the sync remembers of `usage` is what the model says of the same log."""

import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from projections.readback import fold
from projections.stores import readback
from projections.stores.readback import Readback
from streams import fact as facts
from streams import times, topics
from streams.fact import Entry, Fact
from streams.log.backends import open_log
from streams.log.interface import Log
from streams.settings import load
from tests.model.ledger import Id, Model
from tests.model.traffic import Traffic
from tests.road.files import model_of

FIRST_DAY = "2025-01-01"
LOW = ("estimate", "reported")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Readback]:
    made = Readback.open(tmp_path / "sync.db")
    yield made
    made.close()


_models: dict[int, Model] = {}


def modelled(data: Path, traffic: Traffic) -> Model:
    """The model of the traffic, made once: every test's folder is a copy of the same."""
    if traffic.seed not in _models:
        _models[traffic.seed], _ = model_of(data, traffic)
    return _models[traffic.seed]


def winners(data: Path, traffic: Traffic, organization: str, first_day: str) -> dict[str, Id]:
    """The counted generations of an organisation, by the model."""
    model = modelled(data, traffic)
    return {
        id: known
        for id, known in model.ids.items()
        if known.winner.organization == organization and not known.winner.void and utc(known) >= first_day
    }


def utc(known: Id) -> str:
    return datetime.fromtimestamp(known.date_ns // 10**9, UTC).date().isoformat()


@asynccontextmanager
async def opened(data: Path) -> AsyncIterator[Log]:
    log = await open_log(load({"GENLEDGER_DATA": str(data)}), read_only=True)
    try:
        yield log
    finally:
        await log.close()


async def follow(memory: Readback, data: Path, *organizations: str, first_day: str = FIRST_DAY) -> None:
    async with opened(data) as log:
        await memory.follow(log, frozenset(organizations), "", first_day)


async def claimed(data: Path, traffic: Traffic, organization: str) -> set[str]:
    """Ids that an organisation claims and another holds, without the provider's word."""
    async with opened(data) as log:
        await log.refresh([topics.USAGE])
        told = {
            fact.id
            for n in range(log.partitions(topics.USAGE))
            for record in await log.read(topics.USAGE, n, 0, 10**6)
            if (fact := facts.decode(record.value or b"")).claimant == organization
        }
    model = modelled(data, traffic)
    low = {id for id, known in model.ids.items() if known.winner.authority in LOW and not known.winner.void}
    return told & low


async def assert_follows(
    memory: Readback, data: Path, traffic: Traffic, organization: str, first_day: str = FIRST_DAY
) -> None:
    """Ids and days are the model's."""
    found = winners(data, traffic, organization, first_day)
    awaited = {id for id, known in found.items() if known.winner.authority in LOW}
    claims = await claimed(data, traffic, organization)
    assert set(await memory.awaited_ids(organization, 10**6)) == awaited | claims
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


async def test_a_clock_that_was_ahead_keeps_nobody_waiting(
    memory: Readback, data: Path, traffic: Traffic
) -> None:
    """What was put off while the clock was years ahead is due when it is right again."""
    organization = str(traffic.organizations[0]["id"])
    await follow(memory, data, organization)
    now_ms, year_ms = 1_795_176_000_000, 366 * 86_400_000
    [first, *_] = await memory.due(organization, now_ms, 10)
    await memory.put_off(organization, first.id, now_ms + year_ms)
    assert first.id in {one.id for one in await memory.due(organization, now_ms, 10**6)}


async def test_what_has_grown_too_old_is_asked_for_no_more(
    memory: Readback, data: Path, traffic: Traffic
) -> None:
    """As days go by, ids that the log had before the first of them leave, whatever they were put off to."""
    organization = str(traffic.organizations[0]["id"])
    await follow(memory, data, organization)
    assert await memory.awaited(organization)
    await follow(memory, data, organization, first_day="2100-01-01")
    assert await memory.awaited(organization) == 0


async def test_earlier_days_than_before_are_read(memory: Readback, data: Path, traffic: Traffic) -> None:
    """When more days are asked for than were read, `usage` is read again: else all of them were missing."""
    organization = str(traffic.organizations[0]["id"])
    await follow(memory, data, organization, first_day="2100-01-01")
    await follow(memory, data, organization)
    await assert_follows(memory, data, traffic, organization)


async def test_another_log_needs_the_whole_list(
    memory: Readback, data: Path, traffic: Traffic, tmp_path: Path
) -> None:
    """On a log that was replaced the list is read from its front to its end; another key keeps its place."""
    first, second = (str(body["id"]) for body in traffic.organizations[:2])
    await follow(memory, data, first)
    await memory.keep_cursor(first, b"far")
    await follow(memory, data, first, second)
    assert await memory.cursor(first) == b"far"
    fresh = tmp_path / "fresh"
    await (await open_log(load({"GENLEDGER_DATA": str(fresh)}))).close()
    await follow(memory, fresh, first, second)
    assert await memory.cursor(first) == b""


DAY = "2026-11-20"
NOON_NS = times.midnight_ns(DAY, "UTC") + times.DAY_NS // 2


def told(fate: str, holder: str, authority: str = "reported", claimant: str = "") -> Fact:
    """A fact of one id: what its holder has of it, or who claims it in vain."""
    entry = Entry(organization=holder, day=DAY, today=DAY, authority=authority, created_ns=NOON_NS)
    plus = None if claimant and authority == "reported" else entry
    time_ms = NOON_NS // times.MS_NS
    return Fact(fate, "gen-1", 0, 0, -1, time_ms, plus, holder=holder, claimant=claimant)  # type: ignore[arg-type]


CLAIM = told("conflict", "mallory", claimant="acme")


@pytest.mark.parametrize(
    ("found", "asking"),
    [
        ([told("counted", "mallory"), CLAIM], {"acme", "mallory"}),
        ([CLAIM, told("amended", "mallory")], {"acme", "mallory"}),
        ([CLAIM, told("conflict", "acme", "reconciled", claimant="acme")], set()),
        ([CLAIM, told("amended", "mallory", "reconciled")], set()),
        ([CLAIM, told("amended", "mallory", "corrected")], set()),
    ],
)
def test_who_claims_an_id_asks_for_it(found: list[Fact], asking: set[str]) -> None:
    """A squatted id is asked for with the key of whom it belongs to, until a provider has spoken."""
    for parts in ([found], [[fact] for fact in found]):
        asked: dict[str, int] = {}
        for part in parts:
            change = fold(part, frozenset(("acme", "mallory")), "gen-", DAY).awaited["gen-1"]
            asked = {} if change.settled else asked
            asked |= {name: ms for name, ms in change.since_ms.items() if ms is not None}
        assert asked.keys() == asking


def test_a_claim_of_old_is_not_asked_for() -> None:
    """Nor one of an organisation without a key, or of an id that is not the provider's."""
    everybody = frozenset(("acme", "mallory"))
    assert fold([CLAIM], everybody, "gen-", "2026-11-21").awaited == {}
    assert fold([CLAIM], frozenset(("mallory",)), "gen-", DAY).awaited == {}
    assert fold([CLAIM], everybody, "chatcmpl-", DAY).awaited == {}
