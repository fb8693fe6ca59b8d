"""Organisations, users and keys over HTTP, by effective date."""

from typing import Any

import pytest

from streams import times
from streams.directory import message_of
from streams.organizations import HISTORY_MAX, Change, Organization, value_at
from tests.gateway.conftest import NOW_MS, House


async def change(house: House, **fields: Any) -> tuple[int, Any]:
    return await house.call("POST", "/api/v1/organizations", json={"id": "acme", **fields})


def effective(house: House) -> list[int]:
    acme = house.directory.organization("acme")
    assert acme is not None
    return [change.effective_ns for change in acme.history]


async def test_a_new_organisation_counts_from_always_and_a_change_from_now(house: House) -> None:
    """Without a date: the first values have always been so, later ones begin now."""
    assert (await change(house, markup="1.2"))[0] == 201
    house.now_ms += 1
    assert (await change(house, markup=1.3))[0] == 200
    assert effective(house) == [0, (NOW_MS + 1) * 1_000_000]
    acme = house.directory.organization("acme")
    assert acme is not None
    assert value_at(acme, "markup", NOW_MS * 1_000_000, NOW_MS + 5) == "1.2"
    assert value_at(acme, "markup", (NOW_MS + 1) * 1_000_000, NOW_MS + 5) == "1.3"


@pytest.mark.parametrize(
    ("fields", "instant"),
    [
        ({"effective": "2026-07-01", "markup": "2"}, "2026-06-30T22:00:00Z"),
        ({"effective": "2026-12-01", "markup": "2"}, "2026-11-30T23:00:00Z"),
        ({"effective": "2026-07-01", "timezone": "America/New_York"}, "2026-07-01T04:00:00Z"),
        ({"effective": "2026-07-01T10:00:00+02:00", "markup": "2"}, "2026-07-01T08:00:00Z"),
    ],
)
async def test_a_date_is_midnight_in_the_organisations_timezone(
    house: House, fields: dict[str, Any], instant: str
) -> None:
    """The timezone of that day, or the new one when it changes with it; an instant is what it says."""
    await change(house, timezone="Europe/Warsaw")
    assert (await change(house, **fields))[0] == 200
    assert times.text_of(effective(house)[-1]) == instant


@pytest.mark.parametrize(
    ("field", "value"),
    [("markup", "-1"), ("markup", -1), ("markup", "1e3"), ("markup", 1e30), ("markup", "1001"),
     ("markup", True), ("timezone", "Mars/Olympus"), ("timezone", "../../etc/passwd"), ("timezone", 5),
     ("monthly_limit", "lots"),
     ("monthly_limit", -5), ("billing_email", "nobody"), ("billing_email", "a@b\n"),
     ("name", ""),
     ("name", "x" * 257), ("name", "a\u0000"), ("active", "yes"), ("effective", "tomorrow"),
     ("effective", "2026-02-30"), ("effective", "2026-02-01T00:00:00"), ("colour", "red"), ("id", ""),
     ("id", "x" * 129), ("id", "a\nb"), ("provider_key", "plain"), ("provider_key", "env:"),
     ("provider_key", "sk-or-v1-abcdef"), ("provider_key", "Bearer abc")],
)  # fmt: skip
async def test_a_value_that_is_not_right_is_422_and_changes_nothing(
    house: House, field: str, value: Any
) -> None:
    """The answer names the field; nothing is written."""
    status, answer = await house.call("POST", "/api/v1/organizations", json={"id": "acme", field: value})
    assert status == 422
    assert answer["error"]["field"] in (field, "")
    assert field in str(answer["error"])
    assert await house.records("organizations") == []


async def test_a_providers_key_is_a_reference_only(house: House) -> None:
    """A secret is refused with advice and never reaches the log; references are taken."""
    status, answer = await change(house, provider_key="sk-or-v1-abcdef")
    assert status == 422 and "looks like a secret" in answer["error"]["message"]
    assert "abcdef" not in str(answer)
    for reference in ("env:OPENROUTER_KEY", "file:/run/secrets/key", "name:main", ""):
        assert (await change(house, provider_key=reference))[0] in (200, 201)


async def test_values_can_be_read_back(house: House) -> None:
    """What was set is what is shown, with its history; an unknown organisation is 404."""
    await change(house, name="Acme", monthly_limit=100.5, billing_email="a@b.example", active=True)
    status, shown = await house.call("GET", "/api/v1/organizations/acme")
    assert status == 200
    assert (shown["name"], shown["monthly_limit"], shown["active"]) == ("Acme", "100.5", True)
    assert shown["history"][0]["effective"] == "always"
    assert [o["id"] for o in (await house.call("GET", "/api/v1/organizations"))[1]["organizations"]] == [
        "acme"
    ]
    assert (await house.call("GET", "/api/v1/organizations/other"))[0] == 404


async def test_a_change_of_nothing_writes_nothing(house: House) -> None:
    """Creating with no values writes the organisation once; the same again does not."""
    assert [(await change(house))[0] for _ in range(3)] == [201, 200, 200]
    assert len(await house.records("organizations")) == 1


async def test_a_history_is_bounded(house: House) -> None:
    """The change after the last allowed one is refused."""
    history = tuple(Change(effective_ns=n, logged_ms=n, name=str(n)) for n in range(HISTORY_MAX))
    await house.log.append([message_of(Organization(id="acme", created_ms=0, history=history))])
    status, answer = await change(house, name="one more")
    assert (status, answer["error"]["field"]) == (422, "id")


async def test_users_are_mapped_by_day(house: House) -> None:
    """The first mapping has always been so, the next begins today, null ends it."""
    await change(house, timezone="Pacific/Auckland")

    async def map_user(**fields: Any) -> tuple[int, Any]:
        body = {"organization": "acme", "user": "u-1", **fields}
        return await house.call("POST", "/api/v1/users", json=body)

    assert (await map_user(user_id="alice"))[0] == 200
    assert (await map_user(user_id="bob"))[0] == 200
    assert (await map_user(user_id=None, effective="2027-01-01"))[0] == 200
    (user,) = (await house.call("GET", "/api/v1/users?org=acme"))[1]["users"]
    assert [(m["effective"], m["user_id"]) for m in user["history"]] == [
        ("2000-01-01", "alice"),
        ("2026-11-21", "bob"),
        ("2027-01-01", None),
    ]
    assert (await map_user(user_id="x", effective="soon"))[0] == 422
    assert (await map_user(user_id=""))[0] == 422
    assert (await house.call("GET", "/api/v1/users"))[0] == 422


@pytest.mark.parametrize(
    "body",
    [
        {"rights": "producer"},
        {"rights": "root"},
        {"organization": "a", "rights": 1},
        {"organization": "a\n"},
        [],
        1,
    ],
)
async def test_keys_that_can_not_be_are_422(house: House, body: Any) -> None:
    """A key needs an organisation unless it is an administrator's, and known rights."""
    assert (await house.call("POST", "/api/v1/keys", json=body))[0] == 422
    assert await house.records("keys") == []


async def test_small_bodies_have_their_own_limit(house: House) -> None:
    """A settings route takes 64 KiB, JSON only."""
    assert (await change(house, name="x" * 70_000))[0] == 413
    assert (await house.call("POST", "/api/v1/organizations", data=b'{"id":"a"}'))[0] == 415


async def test_a_change_of_what_must_exist_makes_nothing(house: House) -> None:
    """404 for an organisation without settings; once it has some, the same call changes it."""
    status, answer = await change(house, markup="2", must_exist=True)
    assert (status, answer["error"]["field"]) == (404, "id")
    assert await house.records("organizations") == []
    assert (await change(house, markup="1"))[0] == 201
    assert (await change(house, markup="2", must_exist=True))[0] == 200


async def test_a_user_or_key_of_an_unheard_of_organisation_comes_with_a_note(house: House) -> None:
    """It is taken, for an organisation may come later; the note is gone once it has settings."""
    user, key = {"organization": "acme", "user": "u", "user_id": "a"}, {"organization": "acme"}
    admin = await house.key("", "admin")
    for noted in (True, False):
        for path, body in (("users", user), ("keys", key)):
            status, answer = await house.call("POST", f"/api/v1/{path}", admin, json=body)
            assert status in (200, 201)
            assert (answer.get("note") == "organisation acme has no settings yet") == noted
        await house.call("POST", "/api/v1/organizations", admin, json={"id": "acme"})
    assert "note" not in (await house.call("POST", "/api/v1/keys", admin, json={"rights": "admin"}))[1]


@pytest.mark.parametrize(("query", "body"), [("?force=1", {}), ("", {"force": True})])
async def test_the_last_administrators_key_is_ended_by_force_only(
    house: House, query: str, body: dict[str, bool]
) -> None:
    """409 says what would happen and changes nothing; a key that another can replace goes at once."""
    first, last = await house.key("", "admin"), await house.key("", "admin")
    await house.key("acme", "admin")

    async def revoke(secret: str, query: str = "", body: Any = None) -> tuple[int, Any]:
        options = {} if body is None else {"json": body}
        return await house.call("POST", f"/api/v1/keys/{house.key_id(secret)}/revoke{query}", last, **options)

    assert (await revoke(first))[0] == 200
    for given in (None, {}, {"force": False}):
        status, answer = await revoke(last, "", given)
        assert (status, answer["error"]["code"]) == (409, "last_key")
        assert "keys create --rights admin" in answer["error"]["message"]
    assert (await revoke(last, "", {"force": 1}))[0] == 422
    assert (await revoke(last, query, body))[0] == 200
    assert (await house.call("GET", "/api/v1/keys", last))[0] == 401


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"id": 5}, "must be text"), ({"active": "yes"}, "must be true or false"),
     ({"must_exist": 1}, "must be true or false"), ({"history": []}, "unknown field")],
)  # fmt: skip
async def test_refusals_of_settings_are_in_plain_words(
    house: House, fields: dict[str, Any], message: str
) -> None:
    """Whoever sends JSON need not know Python's types."""
    status, answer = await change(house, **fields)
    assert status == 422 and message in answer["error"]["message"]
