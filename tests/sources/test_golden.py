"""Golden pairs: a body as it is sent, and what it comes to.

`golden/<module>/<case>.json` is the body, `<case>.events.json` a list of the events that come out: native
events, or the field and the error of those that no event can be made of. `<case>.how.json` says how the
body is read, where the organisation is not simply the caller's.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams import generation
from streams.errors import BadEvent
from streams.sources.interface import How, Parsed
from tests.sources.bodies import GOLDEN, MODULES, exact, fields_of

CASES = sorted(
    path
    for path in GOLDEN.glob("*/*.json")
    if not path.name.endswith((".events.json", ".how.json")) and path.name != "how.json"
)


def how_of(case: Path) -> How:
    """How a case is read: by default as a caller's of acme."""
    for path in (case.with_suffix(".how.json"), case.with_name("how.json")):
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=How)
    return How(organization="acme")


def told(parsed: Parsed, how: How) -> Any:
    """What the door makes of a source's result."""
    if isinstance(parsed, BadEvent):
        return {"field": parsed.field, "error": parsed.error}
    try:
        generation.decode(parsed, how.organization)
    except BadEvent as error:
        return {"field": error.field, "error": error.error}
    return exact(parsed)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_a_body_comes_to_its_events(case: Path) -> None:
    """A real body is recognised, and gives exactly the events beside it."""
    source = MODULES[case.parent.name]
    fields = fields_of(case.read_bytes())
    assert source.matches(fields)
    how = how_of(case)
    found = [told(parsed, how) for parsed in source.events(fields, how)]
    assert found == exact(case.with_suffix(".events.json").read_text())


def test_every_source_has_golden_pairs() -> None:
    """No source is without a body as it is really sent, and no pair without its source."""
    assert {case.parent.name for case in CASES} == set(MODULES)
