"""What the tests of the sources share: the modules, the golden bodies, and a body read as the door reads it.

[event] = read("litellm", body, organization="acme")
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import msgspec

from streams import generation, sources
from streams.errors import BadEvent
from streams.generation import Generation
from streams.sources.interface import Fields, How, Parsed, Source

GOLDEN = Path(__file__).parent / "golden"
PUBLIC = ("NAME", "matches", "events")

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def modules() -> Mapping[str, Source]:
    """Each source by its module's name."""
    found = {one.name: import_module(f"streams.sources.{one.name}") for one in iter_modules(sources.__path__)}
    return {name: module for name, module in found.items() if all(hasattr(module, each) for each in PUBLIC)}


MODULES = modules()


def fields_of(body: bytes | str | Any) -> Fields:
    """The top of one object, its values still text."""
    if isinstance(body, dict):
        body = msgspec.json.encode(body)
    return _fields.decode(body)


def parsed(name: str, body: bytes | str | Any, **how: Any) -> list[Parsed]:
    """What a source makes of a body."""
    return MODULES[name].events(fields_of(body), How(**({"organization": "acme"} | how)))


def read(name: str, body: bytes | str | Any, **how: Any) -> list[Generation]:
    """The generations of a body, checked as native events are; `BadEvent` for the first that is none."""
    found: list[Generation] = []
    for one in parsed(name, body, **how):
        if isinstance(one, BadEvent):
            raise one
        found.append(generation.decode(one))
    return found


def exact(text: bytes | str) -> Any:
    """JSON with its decimal numbers as they are written."""
    return json.loads(text, parse_float=Decimal)
