"""What may be recorded, and what is said at the call when it may not."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from streams.client import BadEvent
from streams.client.events import event_of, line_of, line_of_json

NOW_MS = 1_795_176_000_000
EVENT = {"id": "gen-1", "organization": "acme", "model": "m"}


def _line(**fields):
    return json.loads(line_of({**EVENT, **fields}, "", NOW_MS)[1])


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model": None}, "model"),
        ({"organization": None}, "organization"),
        ({"cost": "12,5"}, "cost"),
        ({"cost": float("nan")}, "cost"),
        ({"cost": -1}, "cost"),
        ({"cost": True}, "cost"),
        ({"upstream_cost": []}, "upstream_cost"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"prompt_tokens": "12"}, "prompt_tokens"),
        ({"prompt_tokens": 1.5}, "prompt_tokens"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"created_at": datetime(2026, 11, 20)}, "created_at"),  # noqa: DTZ001 -- that it has no zone is the point
        ({"id": "a\nb"}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"prompt_token": 1}, "prompt_token"),
        ({"metadata": {"a": object()}}, "metadata"),
        ({"metadata": {"a": "x" * 5000}}, "metadata"),
        ({"user": "\ud800"}, "user"),
    ],
)
def test_a_field_that_is_wrong_is_named_at_the_call(fields, name):
    """Nobody has to look into the gateway's answers for a slip of the pen."""
    with pytest.raises(BadEvent) as raised:
        line_of({**EVENT, **fields}, "", NOW_MS)
    assert raised.value.field == name


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        ("0.0123", "0.0123"),
        (Decimal("0.1"), "0.1"),
        (Decimal("1E-9"), "1E-9"),
        (0.0123, "0.0123"),
        (3.6e-06, "3.6e-06"),
        (2, "2"),
    ],
)
def test_a_cost_is_the_text_of_what_was_given(cost, text):
    """A Decimal and a float are what they print as: no digit is added on the way."""
    assert _line(cost=cost)["cost"] == text


def test_an_event_without_an_id_gets_one_that_is_its_own():
    """What is sent twice has the same id, and two events have two."""
    made = {line_of({"model": "m"}, "acme", NOW_MS)[0] for _ in range(10)}
    assert len(made) == 10
    assert all(id.startswith("client-") for id in made)


def test_an_event_is_dated_when_it_is_recorded():
    """One that waits in a spool for days falls on the day of its call."""
    assert _line()["created_at"] == "2026-11-20T12:00:00Z"
    assert _line(created_at="2026-11-01T00:00:00Z")["created_at"] == "2026-11-01T00:00:00Z"
    assert _line(created_at=datetime(2026, 11, 1, tzinfo=UTC))["created_at"] == "2026-11-01T00:00:00+00:00"


def test_the_organisation_may_be_the_keys():
    """With a key the gateway knows whose event it is."""
    assert "organization" not in json.loads(line_of({"id": "a", "model": "m"}, "", NOW_MS, keyed=True)[1])
    assert json.loads(line_of({"id": "a", "model": "m"}, "acme", NOW_MS)[1])["organization"] == "acme"


def test_json_keeps_its_numbers_as_they_are_written():
    """A cost of many digits is not read on its way, and a line is one line."""
    text = b'{"id":"a","model":"m","cost":\n0.10000000000000000001,"organization":"acme",\r\n"metadata":{\n}}'
    line = line_of_json(text, "", NOW_MS)[1]
    assert b"0.10000000000000000001" in line
    assert b"\n" not in line
    assert event_of(line)["cost"] == Decimal("0.10000000000000000001")


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff", b'{"id":"a"} {}'])
def test_what_is_no_object_is_refused(text):
    """The whole is to blame: no field is named."""
    with pytest.raises(BadEvent) as raised:
        line_of_json(text, "acme", NOW_MS)
    assert raised.value.field == ""
