"""Traffic with known costs while something fails, and the check that every figure is exact afterwards.

    with Load(gateway, per_s=400) as load:
        broker.kill()
        ...
    assert_exact(installation, gateway, load.costs)

A batch that got no 2xx is posted again, the same, until it gets one, as a producer would: so every id is
acknowledged in the end, and must count once however often it arrived. Each id has a cost of its own, in
nano-dollars, so that no two mistakes cancel out.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

from tests.kafka.installation import Installation, Role
from tests.road.harness import NDJSON, wait_until

ORGANIZATIONS = 3
CREATED_AT = "2026-11-20T12:00:00Z"
SETTLE_S = 40.0
ACKNOWLEDGED_WITHIN_S = 60.0


def event(n: int, cost_nano: int, **fields: Any) -> bytes:
    """The event of one id; `fields` add to it, or change it."""
    base = {"id": f"gen-{n}", "organization": f"org-{n % ORGANIZATIONS}", "model": "m"}
    cost = f"{Decimal(cost_nano).scaleb(-9):f}"
    return json.dumps({**base, "cost": cost, "created_at": CREATED_AT, **fields}).encode()


def cost_nano(n: int) -> int:
    """What an id costs: another amount for each of those that are near."""
    return 1 + n * 7919 % 1_000_003


@dataclass(frozen=True, slots=True)
class Answer:
    """What a post came to: status 0 is no answer at all."""

    at_s: float
    took_s: float
    status: int
    retry_after: str | None
    events: int


class Load:
    """Posts batches from a thread of its own, so many events a second."""

    def __init__(self, gateway: Role, *, per_s: float, batch: int = 20, first: int = 0) -> None:
        self._gateway = gateway
        self._batch = batch
        self._pause_s = batch / per_s
        self.posted = first
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.costs: dict[str, int] = {}
        self.answers: list[Answer] = []
        self.failure = ""

    @property
    def acknowledged(self) -> int:
        """How many events have got their 2xx."""
        return len(self.costs)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """The batch that is on its way is still posted until it is acknowledged."""
        self._stopping.set()
        self._thread.join(ACKNOWLEDGED_WITHIN_S + 5)
        assert not self._thread.is_alive(), "the load does not end"
        assert not self.failure, self.failure

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                started_s = time.monotonic()
                self._post(range(self.posted, self.posted + self._batch))
                self.posted += self._batch
                self._stopping.wait(max(0.0, started_s + self._pause_s - time.monotonic()))
        except AssertionError as error:
            self.failure = str(error)

    def _post(self, numbers: range) -> None:
        """Again and again until there is a 2xx."""
        body = b"\n".join(event(n, cost_nano(n)) for n in numbers) + b"\n"
        deadline_s = time.monotonic() + ACKNOWLEDGED_WITHIN_S
        while True:
            answer = post_once(self._gateway.port, body, len(numbers))
            self.answers.append(answer)
            if answer.status == 202:
                self.costs.update((f"gen-{n}", cost_nano(n)) for n in numbers)
                return
            assert answer.status in (0, 429, 503), f"the gateway answered {answer.status}"
            assert time.monotonic() < deadline_s, "a batch was never acknowledged"
            time.sleep(0.1)


def post_once(port: int, body: bytes, events: int, timeout_s: float = 40.0) -> Answer:
    """One post on a connection of its own, whatever comes of it."""
    started_s = time.monotonic()
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    status, retry_after = 0, None
    try:
        connection.request("POST", "/api/v1/generations", body, {"Content-Type": NDJSON})
        response = connection.getresponse()
        status, retry_after = response.status, response.getheader("Retry-After")
        response.read()
    except (OSError, HTTPException):
        pass
    finally:
        connection.close()
    return Answer(time.monotonic(), time.monotonic() - started_s, status, retry_after, events)


def post_all(gateway: Role, numbers: Iterable[int], **fields: Any) -> dict[str, int]:
    """Post these ids, which must be taken; their costs."""
    wanted = list(numbers)
    assert gateway.send([event(n, cost_nano(n), **fields) for n in wanted]) == []
    return {f"gen-{n}": cost_nano(n) for n in wanted}


def requests_now(gateway: Role) -> int:
    """How many requests the summaries hold; -1 when they can't be asked now."""
    status, body, _ = gateway.request("GET", "/api/v1/usage/daily")
    return sum(row["total_requests"] for row in body["rows"]) if status == 200 else -1


def wait_counted(gateway: Role, count: int, within_s: float = SETTLE_S) -> float:
    """Until the summaries hold so many requests, at least; how long that took."""
    started_s = time.monotonic()
    wait_until(lambda: requests_now(gateway) >= count, within_s, f"counted {count}")
    return time.monotonic() - started_s


def wait_settled(installation: Installation, gateway: Role, count: int, within_s: float = SETTLE_S) -> float:
    """Until so many are counted and nothing is in flight, in any view; how long that took."""

    def settled() -> bool:
        status, found, _ = gateway.request("GET", "/api/v1/books")
        if status != 200 or requests_now(gateway) < count:
            return False
        read = sum(row["read"] for row in found["partitions"])
        return _in_flight(found) == 0 and _processed_records(installation.data) >= read

    started_s = time.monotonic()
    wait_until(settled, within_s, f"settled with {count}")
    return time.monotonic() - started_s


def _in_flight(books: Mapping[str, Any]) -> int:
    return sum(row["in_flight"] for row in books["partitions"])


def _processed_records(data: Path) -> int:
    """How many records the view of single generations has taken."""
    with closing(sqlite3.connect(f"file:{data / 'genledger.db'}?mode=ro", uri=True, timeout=10)) as views:
        [(count,)] = views.execute(
            "SELECT coalesce(sum(records), 0) FROM positions WHERE projection = 'processed'"
        )
    return int(count)


def assert_exact(
    installation: Installation, gateway: Role, costs: Mapping[str, int], within_s: float = SETTLE_S
) -> float:
    """Every id counts once, at its cost: sums, single rows, and the books. How long it took to settle."""
    took_s = wait_settled(installation, gateway, len(costs), within_s)
    assert found_sums(gateway) == expected_sums(costs)
    assert processed(installation.data) == dict(costs)
    gateway.assert_books_balance()
    return took_s


def expected_sums(costs: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Requests and nano-dollars of each organisation."""
    found: dict[str, tuple[int, int]] = {}
    for id, nano in costs.items():
        organization = f"org-{int(id.removeprefix('gen-')) % ORGANIZATIONS}"
        requests, total_nano = found.get(organization, (0, 0))
        found[organization] = (requests + 1, total_nano + nano)
    return found


def found_sums(gateway: Role) -> dict[str, tuple[int, int]]:
    """The same, as the service tells it."""
    found: dict[str, tuple[int, int]] = {}
    for row in gateway.get("/api/v1/usage/daily")["rows"]:
        organization = row["client_org_id"]
        requests, total_nano = found.get(organization, (0, 0))
        nano = int(Decimal(row["raw_cost"]).scaleb(9))
        found[organization] = (requests + row["total_requests"], total_nano + nano)
    return found


def processed(data: Path) -> dict[str, int]:
    """The cost of each id that the views hold a row of."""
    with closing(sqlite3.connect(f"file:{data / 'genledger.db'}?mode=ro", uri=True, timeout=10)) as views:
        return dict(views.execute("SELECT id, total_cost_nano FROM processed_generations"))


def rss_bytes(pid: int) -> int:
    """How much memory a process holds now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{pid} has no memory: it is gone")
