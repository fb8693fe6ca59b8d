"""The whole service over real HTTP, asked whatever its own OpenAPI document allows, and what it does not.

`make test` runs a few thousand requests, the same in each run; `make soak` more of them, from other seeds.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from projections.raw import cursor_of
from streams import clock, times
from tests.fuzz.bodies import KEYS, OPENINGS, SETTINGS, events
from tests.fuzz.openapi import Shot, check_answer
from tests.providers.account import Account
from tests.providers.documented import Documented
from tests.road.harness import COMMAND, clean_environ, running, wait_until

EXAMPLES = 5
SOAK_SEEDS = range(1, 9)
SOAK_EXAMPLES = 60
STEADY = [f"steady-{number}" for number in range(6)]
# Its answer has no end: `first_event` reads the beginning of one.
STREAM = "GET /api/v1/usage/stream"
# The first key would close the open service in the middle of its round.
MAKE_KEY = "POST /api/v1/keys"
REVOKE = "POST /api/v1/keys/{id}/revoke"
RECONCILE = "GET /api/v1/reconcile/provider"
# Of no use here: there is no InfluxDB.
INFLUX_HEALTH = "GET /api/v1/admin/usage/influxdb-health"
POINTS = "GET /api/v1/usage/points"
REDRIVE = "POST /api/v1/rejected/{partition}/{offset}/redrive"
RUNS = "/api/v1/admin/cleanup/runs"
RUN = f"GET {RUNS}/{{run}}"
CURSOR = cursor_of(("2026-11-20", 0, "a"))
FIGURES = (
    *(f"/api/v1/usage/{kind}?org=steady" for kind in ("daily", "users", "models")),
    "/api/v1/organizations/steady",
    "/api/v1/users?org=steady",
)
UNKNOWN_METHODS = ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")


@dataclass
class Fuzzed:
    """A service with things in it, before and after."""

    port: int
    document: Mapping[str, Any]
    synced: Sequence[str]
    key: str = ""

    def call(self, method: str, path: str, value: object = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return requests.request(
            method, f"http://127.0.0.1:{self.port}{path}", json=value, headers=headers, timeout=20
        )

    def get(self, path: str) -> Any:
        response = self.call("GET", path)
        assert response.status_code == 200, (path, response.text)
        return response.json()

    def post(self, path: str, value: object) -> Any:
        response = self.call("POST", path, value)
        assert 200 <= response.status_code < 300, (path, response.text)
        return response.json()

    def key_of(self, organization: str, rights: str) -> str:
        return str(self.post("/api/v1/keys", {"organization": organization, "rights": rights})["secret"])

    def figures(self) -> list[Any]:
        return [self.get(path) for path in FIGURES]

    @property
    def has_settled(self) -> bool:
        books = self.get("/api/v1/books")
        return books["balanced"] and not any(row["in_flight"] for row in books["partitions"])

    def known(self) -> dict[str, list[str]]:
        """Values that are there, by their parameters' names."""
        rejected = self.get("/api/v1/rejected")["rejected"]
        completed = times.day_of(clock.now_ms() * times.MS_NS - times.DAY_NS, "UTC")
        return {
            "id": [*STEADY[:2], "taken", "steady"],
            "org": ["steady", "synced", "other"],
            "month": ["2026-11"],
            "day": [completed],
            "from": ["2026-11-01"],
            "to": ["2026-11-30"],
            "partition": [str(row["partition"]) for row in rejected],
            "offset": [str(row["offset"]) for row in rejected],
            "run": [row["run"] for row in self.get(RUNS)["rows"]],
        }

    def shot(self, bodies: Mapping[str, Any], *without: str, key: str = "", written: Any = ()) -> Shot:
        return Shot(
            self.port,
            self.document,
            self.known(),
            key=key,
            without=(STREAM, *without),
            written=dict(written),
            bodies=bodies,
        )


@contextmanager
def fuzzed(path: Path) -> Iterator[Fuzzed]:
    """A service of its own; afterwards it lives, its books balance, and what was there is as it was."""
    newest_ms = clock.now_ms() - 2 * 86_400_000
    account = Account.seeded("synced", "sk-1", "sk-2", seed=1, count=6, newest_ms=newest_ms, days=2)
    with Documented([account]) as provider:
        environ = {
            "GENLEDGER_PROVIDER_URL": provider.url,
            "GENLEDGER_PROVIDER_TRIES_MAX": "1",
            "SYNCED_KEY": "sk-1",
            "SYNCED_MANAGEMENT": "sk-2",
        }
        with running(path / "data", **environ) as service:
            found = Fuzzed(service.port, service.get("/openapi.json"), [call.id for call in account.calls])
            before = seeded(found, account)
            yield found
            wait_until(lambda: found.has_settled, 30, "settled", service)
            assert found.figures() == before
            assert_books_balance(found)
            assert found.get("/livez") == {"live": True}
            assert found.get("/readyz") == {"ready": True, "reasons": []}
            assert service.stop() == 0
            lines = service.output.read_text().splitlines()
            assert [
                line for line in lines if "ERROR" in line or "CRITICAL" in line or "Traceback" in line
            ] == []


def seeded(found: Fuzzed, account: Account) -> list[Any]:
    """Three organisations, events, a rejected record, a conflict, a sync; the figures that must stay."""
    found.post("/api/v1/organizations", {"id": "steady", "markup": "1.5", "timezone": "Europe/Warsaw"})
    keys = {"provider_key": "env:SYNCED_KEY", "management_key": "env:SYNCED_MANAGEMENT"}
    found.post("/api/v1/organizations", {"id": "synced", **keys})
    found.post("/api/v1/users", {"organization": "steady", "user": "u-1", "user_id": "alice"})
    steady = [
        {"id": id, "organization": "steady", "model": "m", "user": "u-1", "prompt_tokens": 3} for id in STEADY
    ]
    for number, event in enumerate(steady[1:]):
        event["cost"] = f"0.{number}1"
    found.post("/api/v1/generations", steady)
    found.post("/api/v1/generations", [call.event("synced") for call in account.calls])
    # What is claimed by another is rejected, and a conflict.
    other = {"organization": "other", "model": "m", "cost": "1"}
    found.post("/api/v1/generations", [{"id": "taken", **other}, {"id": STEADY[0], **other}])
    found.post("/api/v1/generations", {"id": "taken", "organization": "another", "model": "m"})
    found.post("/api/v1/sync", {})
    wait_until(lambda: found.has_settled, 30, "settled")
    wait_until(lambda: found.get("/api/v1/sync")["reports"] != [], 30, "synced")
    found.post("/api/v1/admin/cleanup", {"days": 36_500})  # nothing is as old as that
    wait_until(lambda: [row["state"] for row in found.get(RUNS)["rows"]] == ["ended"], 30, "cleaned up")
    return found.figures()


def assert_books_balance(found: Fuzzed) -> None:
    """`genledger books` finds no residue."""
    environ = {**clean_environ(), "GENLEDGER_URL": f"http://127.0.0.1:{found.port}"}
    environ |= {"GENLEDGER_KEY": found.key} if found.key else {}
    ran = subprocess.run([str(COMMAND), "books"], env=environ, capture_output=True, check=False)
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    assert b"counted" in ran.stdout


def first_event(found: Fuzzed, key: str = "") -> None:
    """The stream begins with what `live` says, has its headers, and lets its listener go."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"http://127.0.0.1:{found.port}/api/v1/usage/stream"
    with requests.get(url, headers=headers, stream=True, timeout=20) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        check_answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, b"")
        lines = response.iter_lines()
        assert next(lines) == b"event: live"
        assert set(json.loads(next(lines).removeprefix(b"data: "))) == {"rows", "truncated"}


def open_round(found: Fuzzed, examples: int, start: int) -> Shot:
    """As the owner of a service that has no key yet. What was rejected is redriven, too."""
    known = found.known()
    places = {name: known[name] for name in ("partition", "offset")}
    bodies = {**events(STEADY, may_claim_all=False), **SETTINGS, **OPENINGS}
    day = {"org": ["synced"], "day": known["day"]}
    page = {**known, "org": ["steady"], "model": ["m"], "limit": ["2"], "cursor": [CURSOR]}
    runs = {"run": known["run"]}
    written = {REDRIVE: places, RECONCILE: day, POINTS: page, RUN: runs}
    shot = found.shot(bodies, MAKE_KEY, written=written)
    shot.fuzz(examples, start)
    return shot


def closed_round(found: Fuzzed, examples: int, start: int) -> None:
    """As an administrator of one organisation, a reader and a producer; then with everybody's own key."""
    found.key = found.key_of("", "admin")
    bodies = events(STEADY, may_claim_all=True)
    for rights in ("admin", "reader", "producer"):
        key = found.key_of("fuzz-1", rights)
        shot = found.shot({**bodies, **SETTINGS, **OPENINGS, **KEYS}, key=key)
        shot.fuzz(max(1, examples // 2), start)
        if rights != "producer":
            first_event(found, key)
    # Keys by the owner's: some dozens are made, and two that are nobody's are ended; never the owner's.
    spare = [found.post("/api/v1/keys", {"organization": "other"})["id"] for _ in range(2)]
    shot = found.shot(KEYS, key=found.key, written={REVOKE: {"id": spare}})
    shot.without = [STREAM, *(one.label for one in shot.operations() if "/keys" not in one.path)]
    shot.fuzz(examples, start)
    assert shot.statuses[REVOKE, 200]
    assert shot.statuses[MAKE_KEY, 201]


def met(shot: Shot) -> set[str]:
    """The operations that were done, and not only refused."""
    return {label for label, status in shot.statuses if status < 300}


def test_an_open_service_is_what_its_document_says(tmp_path: Path) -> None:
    """Every answer of every route has a status, a type, headers and a body that the document names."""
    with fuzzed(tmp_path) as found:
        shot = open_round(found, EXAMPLES, 0)
        assert {one.label for one in shot.operations()} - met(shot) == {
            REVOKE,
            INFLUX_HEALTH,
        }  # no key to be ended
        first_event(found)


def test_a_key_of_one_organization_changes_no_other(tmp_path: Path) -> None:
    """Whatever is posted with such a key, others' figures stay; the document holds for every refusal, too."""
    with fuzzed(tmp_path) as found:
        closed_round(found, EXAMPLES, 0)


def test_another_method_is_405_in_json(tmp_path: Path) -> None:
    """What a route does not know is refused as everything is, and says what it would take."""
    with running(tmp_path / "data") as service:
        for path, known in service.get("/openapi.json")["paths"].items():
            for method in UNKNOWN_METHODS:
                url = f"http://127.0.0.1:{service.port}{path.replace('{', '').replace('}', '')}"
                response = requests.request(method, url, timeout=20)
                assert response.status_code == 405, (method, path)
                assert {one.upper() for one in known} <= set(response.headers["Allow"].split(","))
                headers = {name.lower(): value for name, value in response.headers.items()}
                check_answer(405, headers, response.content)


@pytest.mark.soak
@pytest.mark.parametrize("start", SOAK_SEEDS)
def test_a_long_run(tmp_path: Path, start: int) -> None:
    """The same with many more requests, of other seeds."""
    with fuzzed(tmp_path) as found:
        open_round(found, SOAK_EXAMPLES, start)
        closed_round(found, SOAK_EXAMPLES // 3, start)
