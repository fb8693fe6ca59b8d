"""CloudEvents: what the specification asks, where fields are found, and ids that can't be mistaken."""

import base64
import json
from typing import Any

import pytest

from streams.errors import BadEvent
from streams.sources import cloudevents
from streams.sources.interface import How
from tests.sources.bodies import fields_of, parsed, read
from tests.sources.test_traps import counted, sums

DATA = {"id": "gen-1", "model": "m", "prompt_tokens": 7, "cost": "0.5"}
EVENT = {
    "specversion": "1.0",
    "id": "7f3a",
    "source": "/gateway/eu",
    "type": "llm.generation",
    "subject": "acme",
    "time": "2026-11-20T10:00:00Z",
    "data": DATA,
}
SECRET = "the secret that a prompt told"


def one(mapping: str = "", organization: str = "", **changes: Any) -> Any:
    """The generation of a CloudEvent."""
    given = {name: each for name, each in (EVENT | changes).items() if each != "left out"}
    how = cloudevents.mapping_of(mapping)
    [found] = read("cloudevents", given, organization=organization, cloudevents=how)
    return found


def field(**changes: Any) -> str:
    """What is wrong with a CloudEvent."""
    given = {name: each for name, each in (EVENT | changes).items() if each != "left out"}
    [found] = parsed("cloudevents", given)
    assert isinstance(found, BadEvent)
    assert SECRET not in str(found)
    return found.field


def test_openmeter_key() -> None:
    """Two CloudEvents of different sources and ids are two generations, wherever their parts are parted."""
    pairs = [
        ("a-b", "c"),
        ("a", "b-c"),
        ("a:b", "c"),
        ("a", "b:c"),
        ("1:a", "b"),
        ("1", "a:b"),
        ("é", "x"),
        ("e", "x"),
    ]
    bodies = [EVENT | {"source": source, "id": id, "data": DATA | {"id": None}} for source, id in pairs]
    assert sums(counted(*[("cloudevents", each) for each in bodies * 2]))[0] == len(pairs)


def test_the_providers_id_comes_first() -> None:
    """The same generation counts once, whichever CloudEvents tell of it."""
    bodies = [EVENT, EVENT | {"id": "other"}, EVENT | {"source": "/gateway/us"}]
    assert sums(counted(*[("cloudevents", each) for each in bodies])) == (1, 7, 500_000_000)


@pytest.mark.parametrize("name", ["id", "source", "type"])
@pytest.mark.parametrize("given", ["left out", None, "", 5, {}])
def test_what_a_cloudevent_must_have(name: str, given: Any) -> None:
    """An attribute that is required, and missing, null, empty or no text, is named."""
    assert field(**{name: given}) == name


@pytest.mark.parametrize("version", ["0.3", "1.1", 1.0, None, ""])
def test_other_versions(version: Any) -> None:
    """Other versions of the specification are refused."""
    assert field(specversion=version) == "specversion"


def test_where_fields_are_found() -> None:
    """By default in data under our own names; organisation and time also where CloudEvents have them."""
    found = one()
    assert (found.id, found.organization, found.model, found.prompt_tokens) == ("gen-1", "acme", "m", 7)
    assert (found.cost_nano, found.source) == (500_000_000, "cloudevents")
    assert found.created_ns == 1795168800000000000
    found = one(data=DATA | {"organization": "data", "created_at": "2026-11-20T11:00:00Z", "user": "u"})
    assert (found.organization, found.created_ns, found.user) == ("data", 1795172400000000000, "u")
    assert one(organization="caller", data=DATA | {"organization": "data"}).organization == "caller"


def test_a_mapping() -> None:
    """A mapped field is looked for at its place, and nowhere else."""
    data = {"request": {"id": "req-1", "model": {"name": "deep"}}, "tokens": 12, "model": "no", "user": "no"}
    mapping = (
        "id=data.request.id model=data.request.model.name prompt_tokens=data.tokens user=data.tokens.none"
        " organization=tenant"
    )
    found = one(mapping, data=data, tenant="customer-1")
    assert (found.id, found.organization, found.model) == ("req-1", "customer-1", "deep")
    assert (found.prompt_tokens, found.user) == (12, "")
    assert one("id=id").id == "7f3a"


def test_a_mapped_field_that_is_missing() -> None:
    """Nothing takes the place of a mapped field: an id or an organisation that is not there is refused."""
    for mapping, name in (("id=data.none", "id"), ("organization=data.none", "organization")):
        with pytest.raises(BadEvent) as caught:
            one(mapping)
        assert caught.value.field == name


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("organization", "organization"),
        ("organization=", "''"),
        ("=subject", "''"),
        ("colour=subject", "'colour'"),
        ("source=source", "'source'"),
        ("model=data.a model=data.b", "twice"),
        ("model=data", "'data'"),
        ("model=data_base64", "'data_base64'"),
        ("model=data..a", "'data..a'"),
        ("model=Data.a", "'Data.a'"),
        ("model=subject.a", "'subject.a'"),
        ("model = data.a", "'model'"),
        ("model=data" + ".a" * 9, "names within data"),
    ],
)
def test_a_mapping_that_is_no_good(text: str, word: str) -> None:
    """The setting's check says which part of it is wrong."""
    with pytest.raises(ValueError, match=word.replace(".", r"\.")):
        cloudevents.mapping_of(text)


def test_a_good_mapping() -> None:
    """Parts stand with any space between them; no text is no mapping."""
    assert cloudevents.mapping_of("") == {}
    text = "organization=subject\n model=data.model-name  user=data.émile.x_1"
    wanted = {"organization": "subject", "model": "data.model-name", "user": "data.émile.x_1"}
    assert cloudevents.mapping_of(text) == wanted


@pytest.mark.parametrize(
    "kind", ["left out", None, "application/json", "text/json; x=y", "application/a+json"]
)
def test_data_in_base64(kind: Any) -> None:
    """data_base64 is the same object, where its type is JSON or not given."""
    packed = base64.b64encode(json.dumps(DATA).encode()).decode()
    assert one(data="left out", data_base64=packed, datacontenttype=kind).id == "gen-1"
    assert one("model=data.id", data="left out", data_base64=packed).model == "gen-1"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"data": json.dumps(DATA | {"user": SECRET})}, "data"),
        ({"data": [DATA]}, "data"),
        ({"data": 5}, "data"),
        ({"datacontenttype": "application/xml", "data": f"<{SECRET}/>"}, "datacontenttype"),
        ({"data_base64": "e30="}, "data_base64"),
        ({"data": None, "data_base64": "%%%"}, "data_base64"),
        ({"data": None, "data_base64": "/w=="}, "data"),
        ({"data": None, "data_base64": base64.b64encode(b"[" * 9000).decode()}, "data"),
        ({"data": None, "data_base64": base64.b64encode(SECRET.encode()).decode()}, "data"),
    ],
)
def test_data_of_another_kind(changes: dict[str, Any], name: str) -> None:
    """Text is never unpacked as JSON, and what is no JSON object is refused, nothing of it repeated."""
    assert field(**changes) == name


@pytest.mark.parametrize("data", ["left out", None, {}])
def test_no_data(data: Any) -> None:
    """A CloudEvent without data is no generation: its model is missing."""
    with pytest.raises(BadEvent) as caught:
        one(data=data)
    assert caught.value.field == "model"


def test_prompts_are_never_copied() -> None:
    """Of data only our own fields are taken."""
    [found] = parsed("cloudevents", EVENT | {"data": DATA | {"messages": [SECRET], "prompt": SECRET}})
    assert SECRET not in str(found)


def test_a_cost_keeps_its_text() -> None:
    """A cost is never read through a float."""
    text = json.dumps(EVENT).replace('"0.5"', "123456.123456789")
    [found] = cloudevents.events(fields_of(text), How())
    assert b'"cost":123456.123456789' in bytes(found)  # type: ignore[arg-type]
