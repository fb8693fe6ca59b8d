"""The whole of it, against a running service: webhooks that lose and repeat, and providers with troubles.

Two fakes over real HTTP: one as OpenRouter documents itself, one with the seed's list of generations.
"""

import json
import random
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from streams import clock, times
from tests.providers.account import Account, Call
from tests.providers.documented import Documented
from tests.providers.listing import ROUTE, Listing
from tests.road.harness import COMMAND, Service, clean_environ, running, wait_until
from tests.road.run import settle

GENERATIONS = 2350
COMING = 150
SHARE = 0.8
TOGETHER = 12
SETTINGS = {
    "ACME_KEY": "sk-acme",
    "ACME_MANAGEMENT_KEY": "mk-acme",
    "BACKGROUND_SYNC_INTERVAL": "100000",
    "GENLEDGER_PROVIDER_RATE_PER_S": "5000",
    "GENLEDGER_PROVIDER_TRIES_MAX": "2",
}


def made_account(count: int = GENERATIONS) -> Account:
    """Calls of three days that are over."""
    midnight_ns = times.midnight_ns(times.day_of(clock.now_ms() * times.MS_NS, "UTC"), "UTC")
    return Account.seeded(
        "acme", "sk-acme", "mk-acme", seed=6, count=count, newest_ms=midnight_ns // times.MS_NS - 1, days=3
    )


class Webhooks:
    """A random part of the calls, some twice, some as estimates, some without a cost."""

    def __init__(self, calls: Sequence[Call], seed: int) -> None:
        made = random.Random(seed)
        self.told = made.sample(list(calls), int(len(calls) * SHARE))
        twice = made.sample(self.told, len(self.told) // 5)
        self._deliveries = [self._delivery(call, made) for call in (*self.told, *twice)]
        made.shuffle(self._deliveries)
        self.failed: list[object] = []

    @staticmethod
    def _delivery(call: Call, made: random.Random) -> tuple[str, bytes]:
        kind = made.random()
        if kind < 0.4:
            return "/webhooks/openrouter?org=acme", b'{"data":' + call.answer() + b"}"
        wrong = (
            {"cost": None} if kind < 0.7 else {"authority": "estimate", "cost": "1", "completion_tokens": 7}
        )
        return "/api/v1/generations", msgspec.json.encode(call.event("acme", **wrong))

    def send(self, service: Service) -> None:
        """All of it, one after the other."""
        other = Service(service.data)  # a connection of its own: this runs in a thread
        other.port = service.port
        for start in range(0, len(self._deliveries), TOGETHER):
            by_path: dict[str, list[bytes]] = defaultdict(list)
            for path, body in self._deliveries[start : start + TOGETHER]:
                by_path[path].append(body)
            for path, bodies in by_path.items():
                body = b"[" + b",".join(bodies) + b"]"
                status, answer, _ = other.request("POST", path, body, "application/json")
                if status != 202 or answer["rejected"]:
                    self.failed.append((status, answer))


class Site:
    """A service whose organisation acme has a provider."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.reports: list[dict[str, Any]] = []
        service.post(
            "/api/v1/organizations",
            {
                "id": "acme",
                "provider_key": "env:ACME_KEY",
                "management_key": "env:ACME_MANAGEMENT_KEY",
                "markup": "1.3",
            },
        )
        # The service has seen the key, and made its first run.
        wait_until(lambda: bool(service.get("/api/v1/sync")["reports"]), 20, "synced once", service)
        self.reports += service.get("/api/v1/sync")["reports"]

    def begin(self, **more: object) -> None:
        self.service.post("/api/v1/sync", {"organization": "acme", **more})

    def ended(self) -> dict[str, Any]:
        """Wait for the run under way, or runs; the last one's report."""
        wait_until(lambda: not self.service.get("/api/v1/sync")["running"], 60, "synced", self.service)
        known = {report["started_at"] for report in self.reports}
        new = [one for one in self.service.get("/api/v1/sync")["reports"] if one["started_at"] not in known]
        self.reports += reversed(new)
        return self.reports[-1]

    def sync(self, **more: object) -> dict[str, Any]:
        """Runs, until none was cut by its limit."""
        self.begin(**more)
        while (report := self.ended())["truncated"]:
            time.sleep(0.2)
        return report

    def records(self) -> int:
        """How many records the ledger has read."""
        settle(self.service)
        return sum(row["records"] for row in self.service.get("/api/v1/books")["partitions"])

    def assert_counted(self, calls: Sequence[Call]) -> None:
        """Each of these counts once, with the provider's figures, and nothing else does."""
        settle(self.service)
        for kind, key in (("models", "model_name"), ("users", "openrouter_user_id")):
            wanted: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, Decimal(0)])
            for call in calls:
                row = wanted[call.day, call.model if kind == "models" else call.user]
                row[0] += 1
                row[1] += call.prompt_tokens + call.completion_tokens
                row[2] += Decimal(call.cost)
            rows = self.service.get(f"/api/v1/usage/{kind}?org=acme")["rows"]
            found = {
                (row["usage_date"], row[key]): [
                    row["total_requests"],
                    row["total_tokens"],
                    Decimal(row["raw_cost"]),
                ]
                for row in rows
                if row["total_requests"]
            }
            assert found == wanted

    def assert_reports_add_up(self) -> None:
        for report in self.reports:
            parts = ("synced_generations", "amended", "duplicates_skipped", "failed")
            assert report["total_fetched"] == sum(report[part] for part in parts), report

    def published(self) -> int:
        return sum(report["synced_generations"] + report["amended"] for report in self.reports)

    def assert_steady(self) -> None:
        """A second and a third run change nothing and publish nothing."""
        before = self.records()
        for _ in range(2):
            report = self.sync(everything=True)
            assert (report["synced_generations"], report["amended"], report["error"]) == (0, 0, "")
        assert self.records() == before


def test_as_documented_each_id_that_is_known_has_the_providers_figures(tmp_path: Path) -> None:
    """429s, 404s, an outage halfway: the known count once, the others are missing, by the right number."""
    account = made_account()
    hooks = Webhooks(account.calls, 1)
    with (
        Documented([account]) as provider,
        running(tmp_path / "data", **SETTINGS, GENLEDGER_PROVIDER_URL=provider.url) as service,
    ):
        site = Site(service)
        exact = [call for call in account.calls if call not in hooks.told][:7]
        for call in exact:  # the provider has lost these: what the webhook said of them stands
            service.post("/api/v1/generations", call.event("acme"))
        provider.never |= {call.id for call in exact}
        provider.later |= {call.id: 1 + n % 2 for n, call in enumerate(hooks.told[:60])}
        provider.trouble.limited_every, provider.trouble.down_after = 800, 900
        thread = threading.Thread(target=hooks.send, args=(service,))
        thread.start()
        while not provider.trouble.down:
            site.begin(everything=True)
            site.ended()
        thread.join()
        assert hooks.failed == []
        assert "provider" in site.sync(everything=True)["error"]
        provider.trouble.down = False
        for _ in range(4):
            report = site.sync(everything=True)
        known = [*hooks.told, *exact]
        assert (report["error"], report["awaited"], report["not_found"]) == ("", len(exact), len(exact))
        assert report["missing"] == GENERATIONS - len(known)
        site.assert_counted(known)
        site.assert_reports_add_up()
        assert site.published() == len(hooks.told)
        site.assert_steady()
        assert provider.asked()[429] > 0
        assert provider.asked()[404] > 0
        _assert_reconciled(service, account, known)


def _assert_reconciled(service: Service, account: Account, known: Sequence[Call]) -> None:
    """Each day's missing requests and dollars are shown, model by model, and come to what nobody told of."""
    absent = [call for call in account.calls if call not in known]
    for day in sorted({call.day for call in account.calls}):
        code, found = _reconcile(service, day)
        assert code == 3
        [one] = found
        requests, cost = 0, Decimal(0)
        for row in one["rows"]:
            assert set(row["causes"]) <= {"missing_here", "rounding"}, row
            requests += row["causes"].get("missing_here", {"requests": 0})["requests"]
            cost += Decimal(row["difference"]["cost"])
        theirs = [call for call in absent if call.day == day]
        assert requests == len(theirs)
        assert cost == sum(Decimal(call.cost) for call in theirs)


def _reconcile(service: Service, day: str) -> tuple[int, Any]:
    environ = {**clean_environ(), "GENLEDGER_URL": f"http://127.0.0.1:{service.port}"}
    command = [str(COMMAND), "reconcile", "--provider", "--org", "acme", "--day", day, "--json"]
    ended = subprocess.run(command, env=environ, capture_output=True, check=False)
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else ended.stderr


def test_where_the_provider_is_believed_its_word_counts_a_call(tmp_path: Path) -> None:
    """Of `--truth "*=sync"` a webhook counts nothing, and leads the sync to the id: read back, it counts."""
    account = made_account(20)
    with (
        Documented([account]) as provider,
        running(tmp_path / "data", **SETTINGS, GENLEDGER_PROVIDER_URL=provider.url) as service,
    ):
        site = Site(service)
        service.post("/api/v1/organizations", {"id": "acme", "truth": "*=sync", "effective": "2026-01-01"})
        service.post("/api/v1/generations", [call.event("acme", source="litellm") for call in account.calls])
        site.assert_counted([])
        assert site.sync()["synced_generations"] == len(account.calls)
        site.assert_counted(account.calls)
        site.assert_steady()


def test_a_list_is_read_until_there_is_nothing_left(tmp_path: Path) -> None:
    """Pages that grow as they are read, 429s, an outage halfway, runs cut by their limit: all counts once."""
    account = made_account()
    everything = list(account.calls)
    hooks = Webhooks(everything, 2)
    coming = random.Random(3).sample(everything, COMING)
    account.calls = [call for call in everything if call not in coming]
    with (
        Listing([account]) as provider,
        running(
            tmp_path / "data", **SETTINGS, GENLEDGER_PROVIDER_URL=provider.url, GENLEDGER_PROVIDER_LIST=ROUTE
        ) as service,
    ):
        provider.coming["acme"], provider.per_page = coming, 3
        provider.trouble.limited_every, provider.trouble.down_after = 200, 9
        site = Site(service)
        thread = threading.Thread(target=hooks.send, args=(service,))
        thread.start()
        site.sync()
        provider.trouble.down = False
        while thread.is_alive():
            site.sync()
        assert hooks.failed == []
        provider.grow(account, COMING)
        report = site.sync(everything=True)
        assert (report["error"], report["awaited"]) == ("", 0)
        assert any(one["truncated"] for one in site.reports)
        site.assert_counted(everything)
        site.assert_reports_add_up()
        assert site.published() == GENERATIONS
        site.assert_steady()
        assert provider.asked()[429] > 0
        assert provider.asked()[503] > 0


def test_a_squatted_id_is_taken_over_by_its_id(tmp_path: Path) -> None:
    """Without a list, too: who claimed it in vain asks for it, and the provider's word moves the money."""
    account = made_account(2)
    squatted, own = account.calls
    with (
        Documented([account]) as provider,
        running(tmp_path / "data", **SETTINGS, GENLEDGER_PROVIDER_URL=provider.url) as service,
    ):
        site = Site(service)
        service.post("/api/v1/generations", squatted.event("mallory", cost="0"))
        for call in (squatted, own):
            service.post("/api/v1/generations", call.event("acme", cost=None))
        settle(service)
        report = site.sync()
        assert (report["amended"], report["awaited"], report["error"]) == (2, 0, "")
        site.assert_counted(account.calls)
        rows = service.get("/api/v1/usage/models?org=mallory")["rows"]
        assert sum(row["total_requests"] for row in rows) == 0
        site.assert_steady()
