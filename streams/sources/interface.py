"""What a source is: a kind of body that others send, and the events that are in it. Pure.

Each source is one module with the same three names:

    NAME = "litellm"                            what its events say as their `source`
    matches(fields) -> bool                     is this object one of mine?
    events(fields, how) -> list[Parsed]         the native events in it, as JSON

`fields` is the top of one JSON object, its values still as text, so that a cost is never read through a
float. What comes out is the event of docs/event.schema.json: from there on every source takes the one road,
is checked as a native event is, and meets the same ledger. A part that is wrong is a `BadEvent` in its
place; what is no generation of its own (a parent span, a probe) is left out. Prompts and answers are never
copied.
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from streams.errors import BadEvent

Fields = Mapping[str, msgspec.Raw]
Parsed = bytes | BadEvent

LiteLLMOrganization = Literal["organization", "team", "team_alias", "organization_alias", "key_alias"]

_encoder = msgspec.json.Encoder()


class How(msgspec.Struct, frozen=True, kw_only=True):
    """How bodies are read, by the installation's settings and by who sends them.

    `organization` is the caller's and decides: only when it is "" does a source look into the body. What
    names none there is `otherwise`'s, as `?org=` has it.
    """

    organization: str = ""
    otherwise: str = ""
    litellm_organization: LiteLLMOrganization = "team"
    # field of our event: where CloudEvents have it, as "subject" or "data.model"
    cloudevents: Mapping[str, str] = {}


class Source(Protocol):
    """A source's module."""

    NAME: str

    def matches(self, fields: Fields) -> bool:
        """Whether an object is one of this source's."""

    def events(self, fields: Fields, how: How) -> list[Parsed]:
        """The native events in it; `BadEvent` for those that can't be read, in their places."""


def native(**fields: Any) -> bytes:
    """A native event as JSON, without the fields that are None. Money goes in as `msgspec.Raw`."""
    return _encoder.encode({name: value for name, value in fields.items() if value is not None})
