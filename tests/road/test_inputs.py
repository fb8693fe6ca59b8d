"""Bad and odd inputs whose consequence is in the figures: each over real HTTP, all the way to the tables."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.road.harness import NDJSON, Service, running
from tests.road.run import settle

DAY = "2025-11-20"
NOON = f"{DAY}T12:00:00Z"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all rows; each row has organisations of its own."""
    with running(tmp_path_factory.mktemp("inputs") / "data") as found:
        yield found


def post(service: Service, *events: dict[str, Any]) -> tuple[int, Any]:
    """Post events as NDJSON: status and answer."""
    full = [{"model": "m", "created_at": NOON, "cost": "0.01", **event} for event in events]
    body = b"\n".join(json.dumps(event).encode() for event in full)
    status, answer, _ = service.request("POST", "/api/v1/generations", body, NDJSON)
    return status, answer


def rows(service: Service, kind: str, organization: str) -> list[dict[str, Any]]:
    """The summary rows of an organisation, once everything is taken."""
    settle(service)
    found: list[dict[str, Any]] = service.get(f"/api/v1/usage/{kind}?org={organization}")["rows"]
    return found


def requests(service: Service, organization: str) -> int:
    """How many requests an organisation has, over all days."""
    return sum(row["total_requests"] for row in rows(service, "daily", organization))


def test_ids_that_differ_by_normal_form_are_two(service: Service) -> None:
    """Row 30: ids are bytes; two spellings that look alike are two generations."""
    status, _ = post(
        service, {"id": "gen-\u00e9", "organization": "r30"}, {"id": "gen-e\u0301", "organization": "r30"}
    )
    assert status == 202 and requests(service, "r30") == 2


def test_organisation_and_id_are_never_joined(service: Service) -> None:
    """Row 31: `a-b` + `c` and `a` + `b-c` are two generations of two organisations."""
    post(service, {"id": "r31-c", "organization": "r31-b"}, {"id": "b-r31-c", "organization": "r31"})
    assert (requests(service, "r31-b"), requests(service, "r31")) == (1, 1)


def test_the_same_id_under_two_organisations_counts_for_the_first(service: Service) -> None:
    """Row 34: the second is a conflict, kept with its bytes, never added to the first."""
    post(service, {"id": "r34-1", "organization": "r34-first"})
    settle(service)
    post(service, {"id": "r34-1", "organization": "r34-second", "cost": "7"})
    assert requests(service, "r34-second") == 0
    [day] = rows(service, "daily", "r34-first")
    assert (day["total_requests"], day["raw_cost"]) == (1, "0.01")
    kept = [row for row in service.get("/api/v1/rejected?limit=1000")["rejected"] if row["key"] == "r34-1"]
    assert [row["reason"] for row in kept] == ["conflict"]


@pytest.mark.parametrize(
    ("row", "model"),
    [
        ("r36", "'; DROP TABLE x--"),
        ("r37", '") |> yield()'),
        ("r38", "ends in a backslash\\"),
        ("r39", "${env.HOME}"),
        ("r44", "<img onerror=alert(1)>"),
    ],
)
def test_names_are_kept_to_the_letter(service: Service, row: str, model: str) -> None:
    """Rows 36 to 39 and 44: whatever a model is called, that is what the tables and the API say."""
    assert post(service, {"id": f"{row}-1", "organization": row, "model": model, "user": model})[0] == 202
    [found] = rows(service, "models", row)
    assert (found["model_name"], found["total_requests"]) == (model, 1)
    [user] = rows(service, "users", row)
    assert user["openrouter_user_id"] == model


def test_a_hundred_thousand_models_leave_metrics_bounded_and_sums_right(service: Service) -> None:
    """Row 40: names are no labels, and each has its row."""
    before = len(service.request("GET", "/metrics")[1].splitlines())
    for start in range(0, 100_000, 10_000):
        post(
            service,
            *(
                {"id": f"r40-{n}", "organization": "r40", "model": f"m-{n}"}
                for n in range(start, start + 10_000)
            ),
        )
    [day] = rows(service, "daily", "r40")
    assert (day["total_requests"], day["raw_cost"]) == (100_000, "1000")
    metrics = service.request("GET", "/metrics")[1]
    assert len(metrics.splitlines()) < before + 120
    assert "m-1" not in metrics and "r40" not in metrics


@pytest.mark.parametrize(
    ("created_at", "day"),
    [
        ("1970-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59Z", None),
        ("2025-11-20T12:00:00", None),
        ("2016-12-31T23:59:60Z", "2016-12-31"),
        ("2025-11-20T23:59:59.999999999Z", "2025-11-20"),
        ("2025-11-21T00:30:00+01:00", "2025-11-20"),
    ],
)
def test_odd_times_land_on_their_own_day_or_nowhere(
    service: Service, created_at: str, day: str | None
) -> None:
    """Row 45: refused, or on the day that the text says; never another day's total."""
    organization = f"r45-{created_at}".replace(":", ".").replace("+", "p")
    status, answer = post(
        service, {"id": organization, "organization": organization, "created_at": created_at}
    )
    if day is None:
        assert status == 422 and answer["rejected"][0]["field"] == "created_at"
    else:
        assert status == 202
    assert [row["usage_date"] for row in rows(service, "daily", organization)] == ([day] if day else [])


def test_one_organisations_input_moves_no_others_figures(service: Service) -> None:
    """Invariant I12: duplicates, amendments and conflicts of one leave another's rows as they were."""
    post(service, *({"id": f"i12-{n}", "organization": "i12"} for n in range(20)))
    before = rows(service, "daily", "i12"), rows(service, "users", "i12"), rows(service, "models", "i12")
    post(service, *({"id": f"i12-{n}", "organization": "i12-other", "cost": "1"} for n in range(25)))
    post(service, *({"id": f"i12-{n}", "organization": "i12-other", "revision": n} for n in range(25)))
    after = rows(service, "daily", "i12"), rows(service, "users", "i12"), rows(service, "models", "i12")
    assert before == after
    assert requests(service, "i12-other") == 5


def test_all_of_it_balances(service: Service) -> None:
    """After every row above the books add up, and the service is well."""
    settle(service)
    assert service.get("/api/v1/books")["balanced"] is True
    assert service.get_status("/readyz") == 200
