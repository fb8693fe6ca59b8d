"""The client of the provider: what passes is tried again, what doesn't says so, and the key stays secret."""

import asyncio
import gzip
import logging
import traceback

import pytest
from aiohttp import web

from streams.sync import provider as module
from streams.sync.provider import ProviderError, retry_after_s
from tests.providers.account import Account
from tests.providers.documented import Documented
from tests.providers.listing import ROUTE, Listing
from tests.sync.house import NOW_MS, Time, reader, settings

KEY, MANAGEMENT = "sk-or-secret-0123456789", "sk-or-manage-9876543210"


@pytest.fixture
def account():
    return Account.seeded("acme", KEY, MANAGEMENT, seed=1, count=50, newest_ms=NOW_MS, days=3)


@pytest.fixture
def fake(account):
    with Documented([account], now_ms=NOW_MS) as provider:
        yield provider


async def test_a_generation_is_read_as_text(account, fake):
    """The answer's bytes are the provider's own, costs to the last digit."""
    call = account.calls[0]
    async with reader(account, settings(fake)) as provider:
        assert bytes(await provider.generation(call.id)) == call.answer()
        assert await provider.generation("gen-of-nobody") is None


async def test_a_list_is_read_bare_or_under_data(account):
    """A page is an object with `data`, or the array itself."""
    with Listing([account]) as fake:
        async with reader(account, settings(fake, provider_list=ROUTE)) as provider:
            first = await provider.page(0, 100)
            assert [bytes(entry) for entry in first] == [call.answer() for call in fake.shown(account)]
            assert await provider.page(50, 100) == []
            bare = b"[" + b",".join(map(bytes, first)) + b"]"
            fake.answer = lambda _: web.Response(body=bare)
            assert await provider.page(0, 100) == first


async def test_activity_is_exact(account, fake):
    """A day's sums come out in nano-dollars, by model and endpoint, of one day or of all."""
    async with reader(account, settings(fake)) as provider:
        everything = await provider.activity()
        one = await provider.activity("2026-11-19")
    assert one == [row for row in everything if row.day == "2026-11-19"]
    done = {id: call for id, call in account.truth().items() if call.day < "2026-11-20"}
    assert sum(row.cost_nano for row in everything) == sum(call.cost_nano for call in done.values())
    assert sum(row.requests for row in everything) == len(done)


async def test_retry_after_is_obeyed(account, fake):
    """Nothing is asked before the time that a 429 names is over, by nobody who uses the key."""
    time = Time()
    fake.trouble.limited, fake.trouble.retry_after = 1, "7"
    async with reader(account, settings(fake), **time.seams()) as provider:
        assert await provider.generation(account.calls[0].id) is not None
    assert max(time.slept) == 7.0
    assert fake.asked() == {429: 1, 200: 1}


async def test_more_patience_than_a_run_has(account, fake):
    """A provider that asks for more than a minute gets it: the run ends, and says until when."""
    time = Time()
    fake.trouble.limited, fake.trouble.retry_after = 1, "90"
    async with reader(account, settings(fake), **time.seams()) as provider:
        with pytest.raises(ProviderError, match="90 s") as caught:
            await provider.generation(account.calls[0].id)
    assert (caught.value.kind, caught.value.retry_after_s) == ("limited", 90.0)
    assert not any(wait_s > 1 for wait_s in time.slept)


async def test_a_failing_provider_is_given_up(account, fake):
    """503 is tried five times, with growing pauses, and a run's patience is bounded over all requests."""
    time = Time()
    fake.trouble.down = True
    async with reader(account, settings(fake), **time.seams()) as provider:
        for _ in range(200):
            with pytest.raises(ProviderError, match="503") as caught:
                await provider.generation(account.calls[0].id)
    assert caught.value.kind == "unreachable"
    asked = fake.asked()[503]
    assert asked <= 200 + module.RETRIES_MAX
    assert sum(time.slept) <= module.PATIENCE_S_MAX + 200


async def test_a_provider_that_comes_back_is_read(account, fake):
    """Two failures and an answer are an answer."""
    time = Time()
    fake.trouble.limited, fake.trouble.retry_after = 2, "soon"
    async with reader(account, settings(fake), **time.seams()) as provider:
        assert await provider.generation(account.calls[0].id) is not None
    assert fake.asked() == {429: 2, 200: 1}


async def test_a_provider_that_is_away(account):
    """No connection is unreachable, and names the address, without what may be secret in it."""
    away = settings().provider_url
    how = settings(provider_url=f"{away}/api/?key=hidden")
    async with reader(account, how, **Time().seams()) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.generation("gen-1")
    assert caught.value.kind == "unreachable"
    assert f"at {away}/api/ (" in str(caught.value)
    assert str(caught.value).endswith(": is GENLEDGER_PROVIDER_URL right?")
    assert "hidden" not in str(caught.value) and "gen-1" not in str(caught.value)


async def test_a_provider_without_activity(account, fake):
    """A route that is not there is named whole, with the setting that may be wrong."""
    fake.answer = lambda _: web.Response(status=404, body=b"{}")
    async with reader(account, settings(fake)) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.activity("2026-11-19")
    url = f"{fake.url}/activity"
    assert str(caught.value) == f"the provider has no route {url}: is GENLEDGER_PROVIDER_URL right?"


async def test_a_provider_that_does_not_answer_in_time(account, fake):
    """A request has GENLEDGER_PROVIDER_TIMEOUT_S."""
    fake.trouble.slow_s = 5.0
    how = settings(fake, provider_timeout_s=0.05)
    async with reader(account, how, **Time().seams()) as provider:
        with pytest.raises(ProviderError, match="in time") as caught:
            await provider.generation("gen-1")
    assert caught.value.kind == "unreachable"


async def test_the_rate_is_kept(account, fake):
    """Twenty requests at ten a second take two seconds, however many ask at once."""
    time = Time()
    how = settings(fake, provider_rate_per_s=10.0)
    async with reader(account, how, **time.seams()) as provider:
        await asyncio.gather(*(provider.generation(call.id) for call in account.calls[:20]))
    assert time.now_s - 1000.0 >= 1.9 - 1e-6


@pytest.mark.parametrize("key", ["", "sk\r\nX-Evil: 1", "schlüssel"])
async def test_a_key_that_is_none_is_not_sent(account, fake, key):
    """A key that could not be a header's value is refused before anything is sent."""
    account.key = key
    async with reader(account, settings(fake)) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.generation("gen-1")
    assert caught.value.kind == "key"
    assert not fake.requests
    assert not key or key not in str(caught.value)


ANSWERS = {
    "half an object": (200, b'{"data":{"id":', {}),
    "a number": (200, b"7", {}),
    "no data": (200, b'{"datum":{}}', {}),
    "deep": (200, b'{"data":' + b"[" * 100_000, {}),
    "a redirect": (302, b"", {"Location": "https://example.com/"}),
    "a web site's 404": (404, b"<html>", {}),
    "no money left": (402, b"{}", {}),
    "not allowed": (405, b"{}", {}),
    "not its encoding": (200, b"plain", {"Content-Encoding": "gzip"}),
    "a bomb": (200, gzip.compress(b" " * 40_000_000), {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_is_none(account, fake, case):
    """Whatever a provider answers, it is a failure with a name, and never a crash."""
    status, body, headers = ANSWERS[case]
    fake.answer = lambda _: web.Response(status=status, body=body, headers=headers)
    async with reader(account, settings(fake), **Time().seams()) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.generation(account.calls[0].id)
    assert caught.value.kind == ("unreachable" if case == "not its encoding" else "answer")
    assert len(str(caught.value)) < 200


async def test_activity_that_is_none(account, fake):
    """A day, a cost or a count that can't be read is a failure with a name."""
    row = b'{"date":"2026-11-19","model":"m","requests":1,"usage":1}'
    broken = [(b"1}", b"-1}"), (b"1}", b"[]}"), (b"2026-11-19", b"yesterday"), (b":1,", b":null,")]
    async with reader(account, settings(fake)) as provider:
        for good, bad in broken:
            body = b'{"data":[' + row.replace(good, bad) + b"]}"
            fake.answer = lambda _, body=body: web.Response(body=body)
            with pytest.raises(ProviderError, match="/activity"):
                await provider.activity()
        fake.answer = lambda _: web.Response(body=b'{"data":[' + row.replace(b"19", b"19 00:00:00") + b"]}")
        assert [row.day for row in await provider.activity()] == ["2026-11-19"]


async def test_no_key_in_any_word(account, fake, caplog):
    """Neither an error nor its traceback nor a log line has a key in it, whatever fails."""
    caplog.set_level(logging.DEBUG)
    wrong = Account("acme", KEY + "-wrong", MANAGEMENT + "-wrong")
    words = []
    for one, how in ((wrong, settings(fake)), (account, settings()), (account, settings(fake))):
        fake.trouble.down = one is account
        async with reader(one, how, **Time().seams()) as provider:
            for asked in (provider.generation("gen-1"), provider.activity(), provider.page(0, 1)):
                with pytest.raises(ProviderError) as caught:
                    await asked
                words += [repr(provider), *traceback.format_exception(caught.value)]
    words += [record.getMessage() for record in caplog.records]
    assert "secret" not in "".join(words)
    assert "manage-" not in "".join(words)


@pytest.mark.parametrize(
    ("text", "wanted_s"),
    [
        ("7", 7),
        (" 0 ", 0),
        ("Fri, 20 Nov 2026 12:01:30 GMT", 90),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 20 Nov 2026 12:00:10 -0000", 10),
        ("", 0),
        ("-5", 0),
        ("1e9", 0),
        ("soon", 0),
        ("\u0667", 0),
        ("9" * 5000, 999_999_999),
        ("Fri, 99 Nov 99999 99:99:99 GMT", 0),
        ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", 0),
        ("Thu, 01 Jan 2026 00:00:00 +99999999999999", 0),
    ],
)
def test_retry_after(text, wanted_s):
    """Seconds or an HTTP date; what is neither names no time."""
    assert retry_after_s(text, NOW_MS) == wanted_s
