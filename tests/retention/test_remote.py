"""The seeds' names in Python, against a door that runs."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from projections import remote
from projections.processed import (
    cleanup_old_processed_generations,
    is_duplicate,
    is_generation_processed,
)
from streams import generation
from streams.errors import BadEvent, GenledgerError, ServiceUnreachable
from streams.gateway.answers import Refusal, answer
from streams.known import Known, Terms
from tests.gateway.conftest import House, Make, make_house
from tests.ledger.sim import event

__all__ = ["make_house"]

TOLD = {
    "state": "ended",
    "success": True,
    "records_deleted": 8,
    "old_cost_removed": "0.004",
    "organization_breakdown": {"acme": {"records_deleted": 8, "old_cost_removed": "0.004"}},
}


class Job:
    """Stands for the retention job: what it answers, one after the other, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers: list[tuple[int, Any]] = []

    async def begin(self, request: web.Request) -> web.Response:
        """Begin a run"""
        self.asked.append(await request.json())
        if self.asked[-1]["days"] == 8:
            raise Refusal(409, "cleanup_running", "cleanup-1 is under way")
        return answer(202, {"run": "cleanup:1"})

    async def run(self, request: web.Request) -> web.Response:
        """How a run is"""
        self.asked.append(request.match_info["run"])
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(status, body)


@pytest.fixture
def job() -> Job:
    return Job()


@pytest_asyncio.fixture
async def house(make_house: Make, job: Job, monkeypatch: pytest.MonkeyPatch) -> House:
    house: House = await make_house(
        extra_routes=[
            web.post("/api/v1/admin/cleanup", job.begin),
            web.get("/api/v1/admin/cleanup/runs/{run}", job.run),
        ]
    )
    monkeypatch.setenv("GENLEDGER_URL", f"http://127.0.0.1:{house.port}")
    monkeypatch.setattr(remote, "POLL_S", 0.001)
    for id, cost in (("gen/1", "0.0123"), ("unpriced", None)):
        won = generation.decode(event(id=id, model="m", cost=cost))
        house.known[id] = Known(won, Terms("1", "UTC", "2026-11-20", ""), None, 1)
    return house


async def asked(question: Callable[..., Any], *given: Any, **options: Any) -> Any:
    return await asyncio.to_thread(question, *given, **options)


@pytest.mark.usefixtures("house")
async def test_a_known_generation_is_processed_for_its_organisation() -> None:
    """Another organisation's is not, nor is one that nobody told of."""
    assert await asked(is_generation_processed, "gen/1", "acme") is True
    assert await asked(is_generation_processed, "gen/1", "globex") is False
    assert await asked(is_generation_processed, "gen-2", "acme") is False


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("id", "model", "cost", "expected"),
    [
        ("gen/1", "m", "0.0123", True),
        ("gen/1", "m", 0.0123, True),
        ("gen/1", "m", Decimal("0.012300999"), True),
        ("gen/1", "m", "0.012301", False),
        ("gen/1", "m", 1.23e-2, True),
        ("gen/1", "m", 0, False),
        ("gen/1", "m", None, False),
        ("gen/1", "another", "0.0123", False),
        ("unpriced", "m", None, True),
        ("unpriced", "m", 0, False),
        ("gen-2", "m", "0.0123", False),
    ],
)
async def test_a_duplicate_is_of_the_same_model_and_within_a_millionth(
    id: str, model: str, cost: Any, expected: bool
) -> None:
    """To the nano-dollar, however the cost is given; unknown is not zero."""
    assert await asked(is_duplicate, id, model, cost) is expected


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize("cost", ["x", float("nan"), float("inf")])
async def test_what_is_no_cost_is_refused(cost: Any) -> None:
    """Before anybody is asked."""
    with pytest.raises(BadEvent, match="cost"):
        await asked(is_duplicate, "gen/1", "m", cost)


@pytest.mark.usefixtures("house")
async def test_a_cleanup_returns_the_seeds_dictionary_when_it_is_over(job: Job) -> None:
    """It waits for the views to know of the run and for its end; costs are exact."""
    job.answers = [
        (404, {"error": {"code": "not_found", "message": "x"}}),
        (200, {"state": "running"}),
        (200, TOLD),
    ]
    told = await asked(cleanup_old_processed_generations, 90)
    assert job.asked == [{"days": 90}, *["cleanup:1"] * 3]
    assert (told["success"], told["records_deleted"], told["old_cost_removed"]) == (True, 8, Decimal("0.004"))
    assert told["organization_breakdown"]["acme"]["old_cost_removed"] == Decimal("0.004")


@pytest.mark.usefixtures("house")
async def test_a_cleanup_that_fails_says_so_in_its_dictionary(job: Job) -> None:
    """As the seeds' did."""
    job.answers = [(200, TOLD | {"state": "failed", "success": False, "error_message": "no room"})]
    told = await asked(cleanup_old_processed_generations)
    assert (told["success"], told["error_message"], job.asked[0]) == (False, "no room", {"days": None})


@pytest.mark.usefixtures("house")
async def test_a_cleanup_that_can_t_begin_or_does_not_end_is_an_error(job: Job) -> None:
    """With what the service said, or where to look."""
    with pytest.raises(GenledgerError, match=r"cleanup-1 is under way \(409 cleanup_running\)"):
        await asked(cleanup_old_processed_generations, 8)
    job.answers = [(200, {"state": "running"})]
    with pytest.raises(GenledgerError, match=r"cleanup:1 has not ended within 0.01 s"):
        await asked(cleanup_old_processed_generations, 90, timeout_s=0.01)
    assert len(job.asked) == 12


async def test_the_key_of_the_environment_is_shown(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one the answer is the door's own refusal."""
    key = await house.key("acme", "reader")
    with pytest.raises(GenledgerError, match="401 unauthorized"):
        await asked(is_generation_processed, "gen/1", "acme")
    monkeypatch.setenv("GENLEDGER_KEY", key)
    assert await asked(is_generation_processed, "gen/1", "acme") is True
    with pytest.raises(GenledgerError, match="403"):
        await asked(cleanup_old_processed_generations, 90)


def test_without_a_service_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that says which setting to look at."""
    monkeypatch.setenv("GENLEDGER_URL", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnreachable, match="GENLEDGER_URL says where it is"):
        is_duplicate("gen-1", "m", "1")
