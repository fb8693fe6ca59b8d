"""An event of our own, where a webhook brings one: under a Standard Webhooks envelope, or bare. Pure.

    {"id": "gen-1", "model": "openai/gpt-4o", "cost": "0.0123", "organization": "acme"}

- **Id**: `id`, the provider's. There are no aliases.
- **Organisation** and **user**: the event's own; what the caller's key or secret says of the organisation
  decides, as it does for every event.
- **Authority**: at most the caller's.

It is taken as POST /api/v1/generations takes it: unknown fields are dropped and named in the answer.
"""

import msgspec

from streams.sources.interface import Fields, How, Parsed

NAME = "native"

_encoder = msgspec.json.Encoder()


def matches(fields: Fields) -> bool:
    """Whether this has what every event has. Other sources' bodies may, too: they are asked first."""
    return "id" in fields and ("model" in fields or "void" in fields)


def events(fields: Fields, how: How) -> list[Parsed]:
    """The event as it came."""
    return [_encoder.encode(fields)]
