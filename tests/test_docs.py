"""The documentation is complete and current: a command, setting, metric or route can't be forgotten."""

import re
from pathlib import Path

import pytest

from genledger import reference
from genledger.main import app
from streams import fact, generation, metrics, money, schemas, settings, topics
from streams.gateway import openapi

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])
SOURCES = [path for name in ("streams", "projections", "genledger") for path in (ROOT / name).rglob("*.py")]
ROUTE = re.compile(r'"(/(?:api/v1|webhooks|v1)/[A-Za-z0-9_/{}.-]+|/metrics|/livez|/readyz|/openapi\.json)"')


def _text(name):
    return (DOCS / name).read_text()


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_made_from_the_code_is_current(name):
    """The commands and settings pages are what the code says now: else run `make docs`."""
    assert _text(name) == reference.PAGES[name]()


@pytest.mark.parametrize("name", schemas.FILES)
def test_a_schema_is_current(name):
    """The JSON Schemas are those of the types that decode: else run `make docs`."""
    assert _text(name) == schemas.text_of(schemas.FILES[name]())


def test_the_schemas_have_every_field():
    """A field of the event or the fact can't be missing from its schema, and only the id is required."""
    event, decided = schemas.event_schema(), schemas.fact_schema()
    assert tuple(event["properties"]) == generation.FIELDS
    assert event["required"] == ["id"]
    assert event["additionalProperties"] is False
    assert tuple(decided["properties"]) == fact.Fact.__struct_fields__
    assert tuple(decided["$defs"]["Entry"]["properties"]) == fact.Entry.__struct_fields__


@pytest.mark.parametrize(
    "text",
    ["0", "0.0123", "1e-9", "12.5E+2", "-1", "01", ".5", "1.", "1,5", "NaN", "", " 1", "0x1", "9" * 65],
)
def test_the_schema_takes_the_money_that_the_decoder_takes(text):
    """A cost's text fits the schema exactly when the decoder takes it."""
    as_text = schemas.MONEY["anyOf"][0]
    fits = re.search(as_text["pattern"], text) is not None and len(text) <= as_text["maxLength"]
    try:
        money.nano_of(text)
    except ValueError:
        assert not fits
    else:
        assert fits


def test_every_command_is_documented():
    """Each command stands in docs/commands.md under its own heading."""
    headings = re.findall(r"^#+ genledger (.*)$", _text("commands.md"), re.MULTILINE)
    assert headings == [" ".join(words) for words in reference.commands(app)]


def test_every_setting_is_documented():
    """Each setting stands in docs/settings.md, and each field of the settings is one."""
    page = _text("settings.md")
    assert [row.env for row in settings.TABLE if f"| {row.env} |" not in page] == []
    fields = set(settings.Settings.__struct_fields__) - {"origin"}
    assert fields == {row.name for row in settings.TABLE}


def test_every_metric_is_documented():
    """Each metric that the process shows stands in docs/metrics.md, and no other does."""
    shown = metrics.exposition("")[0].decode()
    families = set(re.findall(r"^# TYPE (genledger_\w+)", shown, re.MULTILINE))
    documented = set(re.findall(r"^\| `(genledger_\w+)", _text("metrics.md"), re.MULTILINE))
    assert documented == families


def test_every_route_is_documented():
    """Each route stands in docs/http.md, and no other does."""
    served = {route for path in SOURCES for route in ROUTE.findall(path.read_text())}
    served |= {operation.path for operation in openapi.TABLE}
    documented = set(re.findall(r"^\| (?:GET|POST) `([^`]+)`", _text("http.md"), re.MULTILINE))
    assert documented == served


def test_every_fate_is_documented():
    """Each fate stands in docs/fates.md, in the order of the books, and no other does."""
    documented = re.findall(r"^\| `(\w+)`", _text("fates.md"), re.MULTILINE)
    assert tuple(documented) == fact.FATES


def test_every_topic_is_documented():
    """Each topic stands in docs/architecture.md."""
    page = _text("architecture.md")
    assert [spec.name for spec in topics.topic_table() if f"`{spec.name}`" not in page] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_somewhere(path):
    """Each relative link of a page leads to a file that is there."""
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_architecture_page_names_every_module():
    """The layout's table has each package and module, so that a newcomer finds it."""
    page = _text("architecture.md")
    missing = []
    for name in ("streams", "projections", "genledger"):
        for entry in sorted((ROOT / name).iterdir()):
            shown = f"{name}/{entry.name}" + ("/" if entry.is_dir() else "")
            if entry.name.startswith("__") or entry.suffix not in (".py", ""):
                continue
            if f"`{shown}`" not in page:
                missing.append(shown)
    assert missing == []


def test_the_readme_has_the_two_commands_and_a_first_result():
    """The README's curl posts to the route and port that the service has by default."""
    readme = (ROOT / "README.md").read_text()
    assert "make run" in readme
    assert "make test" in readme
    assert f"http://127.0.0.1:{settings.Settings().port}/api/v1/generations" in readme
