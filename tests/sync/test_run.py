"""Whole runs of the sync against both fake providers: everything once, with the provider's figures."""

import random
from dataclasses import replace

from aiohttp import web

from streams import times
from streams.errors import LogFull
from streams.sync.readback import BATCH
from tests.providers.account import Account
from tests.providers.documented import Documented
from tests.providers.listing import ROUTE, Listing
from tests.sync.house import NOW_MS, House, event_of, settings, synced

MINUTE_MS = 60_000
DAY_MS = 86_400_000


def account_of(count: int, organization: str = "acme", management_key: str = "") -> Account:
    key = f"sk-{organization}"
    return Account.seeded(organization, key, management_key, seed=3, count=count, newest_ms=NOW_MS, days=3)


def deliver(house: House, account: Account, share: float) -> int:
    """Webhooks deliver some of it, some as estimates, some with figures of their own."""
    made = random.Random(5)
    chosen = [call for call in account.calls if made.random() < share]
    for call in chosen:
        how = made.choice(({}, {"authority": "estimate", "cost": None}, {"cost": "9.99"}, {"provider": ""}))
        house.take([event_of(call, account.organization, **how)])
    return len(chosen)


async def test_a_list_is_read_until_there_is_nothing_left():
    """2,350 generations, growing while read, with 429s: each counts once; a next run publishes nothing."""
    account = account_of(2350)
    coming = account.calls[2300:]
    del account.calls[2300:]
    house = House()
    deliver(house, account, 0.8)
    with Listing([account], coming={"acme": coming}, per_page=1) as fake:
        fake.trouble.limited_every = 9
        how = settings(fake, provider_list=ROUTE)
        reports = [await synced(house, account, how)]
        while reports[-1].truncated:
            reports.append(await synced(house, account, how))
        assert len(reports) == 3
        fake.grow(account, len(coming))
        await synced(house, account, how)
        house.holds(account)
        published = len(house.published)
        for _ in range(2):
            report = await synced(house, account, how)
            assert (report.synced_generations, report.amended, report.error) == (0, 0, "")
        assert len(house.published) == published
    assert fake.asked(ROUTE)[429] > 2


async def test_an_outage_halfway():
    """What was found before the outage is published, the report says why it ended, the next run goes on."""
    account, house = account_of(700), House()
    with Listing([account]) as fake:
        how = settings(fake, provider_list=ROUTE, sync_max=5000)
        fake.trouble.down_after = 3
        report = await synced(house, account, how)
        assert (report.synced_generations, report.truncated) == (300, False)
        assert "503" in report.error
        fake.trouble.down = False
        report = await synced(house, account, how)
        assert (report.synced_generations, report.error) == (400, "")
        house.holds(account)


async def test_ids_are_read_back_one_by_one():
    """Known ids get the provider's figures; those it does not have yet are put off, longer each time."""
    account, house = account_of(400), House()
    known = deliver(house, account, 0.5)
    ids = sorted(house.known)
    with Documented([account], now_ms=NOW_MS) as fake:
        fake.later = dict.fromkeys(ids[:20], 1)
        fake.never = set(ids[20:25])
        report = await synced(house, account, settings(fake))
        assert (report.amended, report.not_found, report.awaited) == (known - 25, 25, 25)
        report = await synced(house, account, settings(fake))
        assert (report.total_fetched, report.not_found) == (0, 0)  # put off
        report = await synced(house, account, settings(fake), NOW_MS + MINUTE_MS)
        assert (report.amended, report.not_found, report.awaited) == (20, 5, 5)
        published = len(house.published)
        assert {house.due_ms[id] - NOW_MS for id in fake.never} == {3 * MINUTE_MS}
        report = await synced(house, account, settings(fake), NOW_MS + 2 * MINUTE_MS)
        assert (report.total_fetched, len(house.published)) == (0, published)


async def test_the_days_tell_how_many_are_missing():
    """The rest, of which nobody told, is reported with its number by the completed days."""
    account, house = account_of(400, management_key="sk-m"), House()
    deliver(house, account, 0.7)
    with Documented([account], now_ms=NOW_MS) as fake:
        await synced(house, account, settings(fake))
        report = await synced(house, account, settings(fake))
        truth = account.truth()
        absent = [call for id, call in truth.items() if id not in house.known and call.day < "2026-11-20"]
        assert report.missing == len(absent) > 50
        account.management_key = ""
        assert (await synced(house, account, settings(fake))).missing is None


async def test_a_limit_of_ids():
    """A run asks for `sync_max` ids at most, and says that there are more."""
    account, house = account_of(2 * BATCH), House()
    count = deliver(house, account, 1)
    with Documented([account], now_ms=NOW_MS) as fake:
        report = await synced(house, account, settings(fake, sync_max=150))
        assert (report.amended, report.truncated) == (150, True)
        report = await synced(house, account, settings(fake, sync_max=150))
        assert (report.amended, report.truncated) == (count - 150, False)
        house.holds(account)


async def test_an_outage_while_ids_are_asked_for():
    """Those answered before it are published, and nobody goes on asking."""
    account, house = account_of(100), House()
    deliver(house, account, 1)
    with Documented([account], now_ms=NOW_MS) as fake:
        fake.trouble.down_after = 40
        report = await synced(house, account, settings(fake))
        assert (report.amended, report.awaited, report.not_found) == (40, 60, 0)
        assert "503" in report.error
        assert fake.asked()[503] <= 8 * 5
        fake.trouble.down = False
        report = await synced(house, account, settings(fake), NOW_MS + MINUTE_MS)
        assert (report.amended, report.awaited) == (60, 0)


async def test_one_id_for_which_the_provider_breaks():
    """It is put off and counted, and those behind it are read back; many such ids end the run."""
    account, house = account_of(60), House()
    deliver(house, account, 1)
    with Documented([account], now_ms=NOW_MS) as fake:
        fake.trouble.broken = 3
        report = await synced(house, account, settings(fake))
        assert (report.amended, report.failed, report.awaited) == (57, 3, 3)
        assert report.error == "the provider's answer to /generation is not as documented"
        house = House()
        deliver(house, account, 1)
        fake.trouble.broken = 1000
        report = await synced(house, account, settings(fake))
        assert report.error == "the provider's answer to /generation is not as documented"
        assert 10 <= report.failed == report.total_fetched <= 10 + 8


async def test_one_id_for_which_the_provider_is_always_down():
    """The run ends there, and the next one begins with the others."""
    account, house = account_of(30), House()
    deliver(house, account, 1)
    first = next(iter(house.known))
    with Documented([account], now_ms=NOW_MS) as fake:
        whole = account.call
        account.call = lambda asked: 1 / 0 if asked == first else whole(asked)  # type: ignore[method-assign]
        reports = [await synced(house, account, settings(fake)) for _ in range(2)]
    assert [("500" in report.error) for report in reports] == [True, False]
    assert list(house._awaited("acme")) == [first]


async def test_one_web_sites_page_is_told_of():
    """An address that is no API's leaves its reason in the report, however few ids were asked for."""
    account, house = account_of(1), House()
    deliver(house, account, 1)
    with Documented([account], now_ms=NOW_MS) as fake:
        fake.answer = lambda _: web.Response(status=404, body=b"<html>")
        report = await synced(house, account, settings(fake))
        url = fake.url
    assert (report.failed, report.not_found) == (1, 0)
    assert report.error == f"there is no {url}/generation (404, not JSON): is GENLEDGER_PROVIDER_URL right?"


async def test_an_id_that_is_refused_is_not_the_keys_trouble():
    """A 403 of one generation, another account's say, stops neither this run nor the ones that follow."""
    account, house = account_of(30), House()
    deliver(house, account, 1)
    first = next(iter(house.known))
    with Documented([account], now_ms=NOW_MS) as fake:
        whole, refused = fake.answer, account.call(first)
        assert refused is not None
        fake.answer = lambda body: fake.error(403, "Forbidden") if first.encode() in body else whole(body)
        report = await synced(house, account, settings(fake))
    assert (report.amended, report.failed, report.awaited) == (29, 1, 1)
    assert report.error == "the provider answered /generation with 403"


async def test_a_provider_that_wants_to_be_left_alone():
    """How long it wants that for is in the report, a day at most: whoever begins runs keeps to it."""
    account, house = account_of(3), House()
    deliver(house, account, 1)
    with Documented([account], now_ms=NOW_MS) as fake:
        for retry_after, wait_ms in (("3600", 3_600_000), ("999999999", 86_400_000)):
            fake.trouble.limited, fake.trouble.retry_after = 8, retry_after
            report = await synced(house, account, settings(fake))
            assert 0 <= report.not_before_ms - NOW_MS - wait_ms < 60_000
        fake.trouble.limited = 0
        assert (await synced(house, account, settings(fake))).not_before_ms == 0


async def test_one_dated_far_ahead():
    """What the ledger refuses for its date is counted as failed, and not published again by each run."""
    account, house = account_of(2), House()
    account.calls[1] = replace(account.calls[1], created_ns=(NOW_MS + 2 * DAY_MS) * times.MS_NS)
    with Listing([account]) as fake:
        report = await synced(house, account, settings(fake, provider_list=ROUTE))
    assert (report.synced_generations, report.failed) == (1, 1)


async def test_an_id_that_somebody_else_holds():
    """The one with the provider's key takes an id over, unless it was read back by its holder, too."""
    account, house = account_of(2), House()
    squatted, shared = account.calls
    house.take([event_of(squatted, "mallory", cost="0"), event_of(shared, "other", authority="reconciled")])
    with Listing([account]) as fake:
        how = settings(fake, provider_list=ROUTE)
        report = await synced(house, account, how)
        assert (report.amended, report.duplicates_skipped) == (1, 1)
        assert house.known[squatted.id].organization == "acme"
        assert house.known[shared.id].organization == "other"
        report = await synced(house, account, how)
        assert (report.amended, report.duplicates_skipped) == (0, 2)


async def test_a_correction_stands():
    """What an administrator corrected or voided is not published again by the sync."""
    account, house = account_of(2), House()
    corrected, voided = account.calls
    house.take(
        [event_of(corrected, "acme", authority="corrected", cost="1"), event_of(voided, "acme", void=True)]
    )
    with Listing([account]) as fake:
        report = await synced(house, account, settings(fake, provider_list=ROUTE))
    assert (report.duplicates_skipped, house.published) == (2, [])


async def test_an_answer_that_is_no_generation():
    """It is counted as failed once, and the others are published."""
    account, house = account_of(3), House()
    with Listing([account]) as fake:
        good = account.calls[1].answer()
        bad = good.replace(b'"model":"', b'"model":7,"was":"')
        foreign = b'"text"'
        fake.check = lambda _, body: body
        whole = fake.answer
        fake.answer = lambda body: whole(body.replace(good, bad + b"," + foreign + b"," + bad))
        report = await synced(house, account, settings(fake, provider_list=ROUTE))
    assert (report.synced_generations, report.failed, report.total_fetched) == (2, 2, 4)


async def test_an_answer_for_another_id():
    """An answer of another generation than the one that was asked for is not taken."""
    account, house = account_of(2), House()
    house.take([event_of(account.calls[0], "acme", authority="estimate")])
    with Documented([account], now_ms=NOW_MS) as fake:
        other = account.calls[1]
        account.call = lambda _: other  # type: ignore[method-assign]
        report = await synced(house, account, settings(fake))
    assert (report.failed, house.published) == (1, [])


async def test_openmeter_4902_a_full_log_ends_the_run_and_counts_nothing():
    """What could not be published is not marked as read, nor is the list read on; the next run finds it."""
    account, house = account_of(250), House()
    house.full = LogFull("the disk is full")
    with Listing([account]) as fake:
        how = settings(fake, provider_list=ROUTE)
        report = await synced(house, account, how)
        assert (report.total_fetched, report.error, house.kept) == (0, "the disk is full", b"")
        house.full = None
        assert (await synced(house, account, how)).synced_generations == 250


async def test_openmeter_4902_an_id_that_could_not_be_published_is_asked_for_again():
    """An id is put off only when what the provider told of it is on the log."""
    account, house = account_of(250), House()
    house.take([event_of(call, "acme", cost=None) for call in account.calls])
    house.full = LogFull("the disk is full")
    with Documented([account], now_ms=NOW_MS) as fake:
        assert (await synced(house, account, settings(fake))).error == "the disk is full"
        house.full = None
        report = await synced(house, account, settings(fake))
    assert (report.error, report.amended, report.awaited) == ("", 250, 0)
    house.holds(account)


async def test_a_run_has_an_end():
    """A provider slow to each request holds its place for a bounded time; what it told is published."""
    account, house = account_of(40), House()
    house.take([event_of(call, "acme", cost=None) for call in account.calls])
    with Documented([account], now_ms=NOW_MS) as fake:
        fake.trouble.slow_s = 0.2
        report = await synced(house, account, settings(fake, sync_timeout_s=0.1))
        assert "took longer than 0.1 s" in report.error
        fake.trouble.slow_s = 0.0
        report = await synced(house, account, settings(fake))
    assert (report.error, report.awaited) == ("", 0)
    house.holds(account)


async def test_a_key_that_is_refused():
    """The run ends with a plain word, after one request."""
    account = account_of(5)
    with Listing([Account("acme", "another")]) as fake:
        report = await synced(House(), account, settings(fake, provider_list=ROUTE))
        assert report.error == f"the provider refuses the key for {ROUTE} (401)"
        assert len(fake.requests) == 1


async def test_one_route_that_is_not_there_is_not_all():
    """Without its list route a provider is still asked for ids, and for its days."""
    account, house = account_of(50, management_key="sk-m"), House()
    deliver(house, account, 1)
    with Documented([account], now_ms=NOW_MS) as fake:
        report = await synced(house, account, settings(fake, provider_list=ROUTE))
    assert (report.amended, report.missing) == (50, 0)
    assert f"the provider has no route {fake.url}{ROUTE} that lists generations: " in report.error
    assert "GENLEDGER_PROVIDER_URL" in report.error and "GENLEDGER_PROVIDER_LIST" in report.error


async def test_each_account_sees_its_own():
    """The fakes keep accounts apart: another's generation is not there."""
    mine, other = account_of(3), account_of(3, "other")
    house = House()
    house.take([event_of(other.calls[0], "acme", authority="estimate")])
    with Documented([mine, other], now_ms=NOW_MS) as fake:
        report = await synced(house, mine, settings(fake))
    assert (report.not_found, report.amended) == (1, 0)
