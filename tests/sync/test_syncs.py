"""Who is synced and when, and what is told of it over HTTP."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from genledger.client import Client
from genledger.commands.status import synced_of
from genledger.commands.sync import CutOff, run_now
from genledger.main import run
from genledger.roles import sync as roles
from genledger.roles.sync import Syncs, told_of
from genledger.roles.sync_routes import sync_routes
from genledger.watch import Watch
from projections.stores.readback import Readback
from streams import clock, times
from streams.errors import GenledgerError
from streams.gateway.answers import Refusal
from streams.organizations import Change, Organization
from streams.sync.interface import Report
from tests.providers.account import Account
from tests.providers.documented import Documented
from tests.providers.listing import ROUTE, Listing
from tests.sync.house import House, settings


class Directory:
    """Organisations with a provider key in the environment, and a management key."""

    def __init__(self, *names: str) -> None:
        change = Change(effective_ns=0, logged_ms=0, provider_key="env:A_KEY", management_key="env:M_KEY")
        self._known = {name: Organization(id=name, created_ms=0, history=(change,)) for name in names}

    def organizations(self) -> Sequence[Organization]:
        return list(self._known.values())

    def organization(self, id: str) -> Organization | None:
        return self._known.get(id)


class Memory(Readback):
    """One that has no log to follow."""

    async def follow(self, *_: Any) -> None:
        self.followed = getattr(self, "followed", 0) + 1


@asynccontextmanager
async def made(tmp_path: Path, how: Any, *names: str) -> AsyncIterator[Syncs]:
    """The sync of these organisations."""
    memory = Memory.open(tmp_path / "sync.db")
    log: Any = None
    directory: Any = Directory(*names)
    try:
        async with aiohttp.ClientSession() as session:
            yield Syncs(how, log, directory, House(), memory, session)
    finally:
        memory.close()


async def ended(syncs: Syncs) -> None:
    """No run is under way."""
    while syncs.running():
        await asyncio.sleep(0.01)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setenv("A_KEY", "sk-acme")
    monkeypatch.setenv("M_KEY", "mk-acme")
    return Account.seeded("acme", "sk-acme", "mk-acme", seed=1, count=30, newest_ms=clock.now_ms(), days=3)


async def test_retry_after_is_kept_to_by_the_runs_that_follow(tmp_path: Path, account: Account) -> None:
    """A provider that asks for an hour has it: from later runs, whoever begins them, after a restart, too."""
    with Documented([account]) as fake:
        how = settings(fake, background_sync_interval_s=0.0, provider_list="/activity")
        fake.trouble.limited, fake.trouble.retry_after = 100, "3600"
        async with made(tmp_path, how, "acme") as syncs:
            syncs.begin("acme")
            await ended(syncs)
        async with made(tmp_path, how, "acme") as syncs:
            async with AsyncExitStack() as stack:
                await syncs.start(Watch(60.0), stack)
                await asyncio.sleep(0.1)
                syncs.begin("acme", everything=True)
                await ended(syncs)
            [last, first] = await syncs.memory.reports("acme", 10)
        assert len(fake.requests) == 1
    assert "left alone until" in last.error
    assert last.not_before_ms == first.not_before_ms > clock.now_ms() + 3_500_000


async def test_a_management_key_that_is_absent_stops_only_what_needs_it(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generations are read back without it; the report says what is wrong with it."""
    monkeypatch.delenv("M_KEY")
    with Listing([account]) as fake:
        async with made(tmp_path, settings(fake, provider_list=ROUTE), "acme") as syncs:
            syncs.begin("acme")
            await ended(syncs)
            [report] = await syncs.memory.reports("acme", 10)
    assert report.synced_generations == len(account.calls)
    assert report.missing is None
    assert report.error.startswith("the management key: env:M_KEY is not set")


async def test_a_report_that_cannot_be_kept(tmp_path: Path, account: Account) -> None:
    """A full disk under the sync's memory is told of, and ends no later run."""
    with Documented([account]) as fake:
        async with made(tmp_path, settings(fake), "acme") as syncs:
            whole = syncs.memory.keep_report

            async def fails(report: Report) -> None:
                raise sqlite3.OperationalError("database or disk is full")

            syncs.memory.keep_report = fails  # type: ignore[method-assign]
            syncs.begin("acme")
            syncs.begin("acme", everything=True)
            await ended(syncs)
            assert syncs.told()["acme"]["error"] == ""
            syncs.memory.keep_report = whole  # type: ignore[method-assign]
            syncs.begin("acme")
            await ended(syncs)
            assert len(await syncs.memory.reports("acme", 10)) == 1


async def test_the_alarm_tells_nobodys_figures(tmp_path: Path, account: Account) -> None:
    """/readyz?verbose is open: neither a name nor a number of an organisation stands in it."""
    with Documented([account]) as fake:
        async with made(tmp_path, settings(fake), "acme", "zeta") as syncs:
            for name in ("acme", "zeta"):
                syncs._last[name] = Report(organization=name, started_ms=1, missing=37, error="in vain")
            said = syncs.alarm()
    assert "failed" in said
    assert "missing" in said
    assert not any(character.isdigit() for character in said)
    assert "acme" not in said


@asynccontextmanager
async def asking(syncs: Syncs, how: Any, organization: str = "") -> AsyncIterator[TestClient[Any, Any]]:
    """The routes, asked with a key of that organisation."""

    @web.middleware
    async def told(request: web.Request, handler: Any) -> web.StreamResponse:
        request["organization"] = organization
        try:
            answer: web.StreamResponse = await handler(request)
        except Refusal as refusal:
            answer = web.json_response({}, status=refusal.status)
        return answer

    app = web.Application(middlewares=[told])
    app.add_routes(sync_routes(lambda: syncs, how))
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_every_organisations_last_run_is_told(tmp_path: Path, account: Account) -> None:
    """However many organisations there are, and to a key of one organisation only its own."""
    names = [f"org-{number:03d}" for number in range(60)]
    with Documented([account]) as fake:
        how = settings(fake)
        async with made(tmp_path, how, *names) as syncs:
            for number in range(120):
                name = names[number % 60]
                await syncs.memory.keep_report(Report(organization=name, started_ms=1000 + number))
            async with asking(syncs, how) as client:
                found = await (await client.get("/api/v1/sync")).json()
            async with asking(syncs, how, "org-007") as client:
                own = await (await client.get("/api/v1/sync")).json()
    assert [report["organization"] for report in found["last"]] == names
    assert {report["started_at"][:17] for report in found["last"]} == {"1970-01-01T00:00:"}
    assert found["last"][0]["started_at"] == "1970-01-01T00:00:01.06Z"
    told = [*own["last"], *own["reports"], *own["organizations"]]
    assert {each["organization"] for each in told} == {"org-007"}


async def test_which_days_can_be_compared(tmp_path: Path, account: Account) -> None:
    """Those that are over and that both accounts have whole: the first of them, too, and no other."""
    now_ns = clock.now_ms() * times.MS_NS
    with Documented([account]) as fake:
        how = settings(fake, sync_days=30)
        async with made(tmp_path, how, "acme") as syncs, asking(syncs, how) as client:
            answers = {}
            for ago in (-1, 0, 1, 30, 31):
                day = times.day_of(now_ns - ago * times.DAY_NS, "UTC")
                params = {"org": "acme", "day": day}
                answers[ago] = (await client.get("/api/v1/reconcile/provider", params=params)).status
            assert answers == {-1: 422, 0: 422, 1: 200, 30: 200, 31: 422}
        few = settings(fake, sync_days=7)
        async with made(tmp_path, few, "acme") as syncs, asking(syncs, few) as client:
            params = {"org": "acme", "day": times.day_of(now_ns - 8 * times.DAY_NS, "UTC")}
            assert (await client.get("/api/v1/reconcile/provider", params=params)).status == 422


class Asked:
    """A service whose leader was lost: runs have begun, and nobody knows of them."""

    def get(self, path: str, **_: object) -> Any:
        return {"organizations": [], "running": [], "last": [], "reports": []}

    def post(self, path: str, body: object) -> Any:
        return {"organizations": ["acme"]}


def test_a_run_that_was_cut_off_is_no_success() -> None:
    """`sync --once` fails when nobody reports of a run that it began."""
    client: Any = Asked()
    with pytest.raises(CutOff, match="1 runs were cut off"):
        run_now(client, None)
    assert issubclass(CutOff, GenledgerError)


async def test_no_cookie_goes_from_one_organisation_to_another(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the provider sets for one key is not sent with another's."""
    monkeypatch.setattr(roles, "Readback", Memory)
    seen: list[dict[str, str]] = []
    served = Documented([account])
    whole = served.activity

    async def activity(request: web.Request) -> web.Response:
        seen.append(dict(request.cookies))
        answer = await whole(request)
        answer.set_cookie("session", "of-acme")
        return answer

    served.activity = activity  # type: ignore[method-assign]
    with served as fake:
        how = settings(fake, provider_url=f"http://localhost:{fake.port}/api/v1", data=str(tmp_path))
        async with AsyncExitStack() as stack:
            log: Any = None
            directory: Any = Directory("acme", "zeta")
            syncs = await roles.start_syncs(how, log, directory, House(), Watch(60.0), stack)
            for name in ("acme", "zeta"):
                syncs.begin(name)
                await ended(syncs)
    assert len(seen) >= 2
    assert not any(seen)


def test_status_tells_each_organisations_last_run_in_a_line() -> None:
    """How much is new, amended, awaited and missing; of one that failed, why."""
    report = told_of(Report(organization="acme", started_ms=0, amended=2, awaited=3, missing=4))
    assert (
        synced_of(report) == "last sync of acme 1970-01-01T00:00:00Z: 0 new, 2 amended, 3 awaited, 4 missing"
    )
    failed = told_of(Report(organization="acme", started_ms=0, error="the provider refuses the key"))
    assert synced_of(failed).endswith("FAILED: the provider refuses the key")


def test_status_shows_what_rings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alarm has a line below the table."""
    told = {"roles": {"ledger": "ok"}, "lag": {"ledger": 0}, "alarms": {"the sync": "the last run failed"}}
    assert _run_against({"/api/v1/status": told}, ["status"], monkeypatch) == 0
    assert "ALARM the sync: the last run failed" in capsys.readouterr().out


def test_nothing_compared_is_no_success(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an account to compare with, a nightly job must not take the silence for a match."""
    told = {"/api/v1/sync": {"organizations": [], "last": [], "running": []}}
    assert _run_against(told, ["reconcile", "--provider"], monkeypatch) == 1
    assert "nothing was compared" in capsys.readouterr().err


def _run_against(told: dict[str, Any], command: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """A command's exit code, where the service says this."""
    monkeypatch.setattr(Client, "get", lambda self, path, **query: told[path])
    return run(command)
