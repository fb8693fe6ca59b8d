"""OpenTelemetry's GenAI spans over OTLP/HTTP, from an application's SDK or a collector. Pure.

    {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "5b8e...", "spanId": "eee1...",
      "startTimeUnixNano": "1763634720000000000", "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.response.id", "value": {"stringValue": "chatcmpl-9"}},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "812"}}]}]}]}]}

Every OTLP body is read here, as JSON or, once `otlp_protobuf` has taken it apart, as protobuf; of a mixed one
the spans that OpenRouter sent say that they are Broadcast's. Which spans count, which field is the id, how
organisation and user are found: genai.py. What can't be joined: a span without `gen_ai.response.id` is a
generation of its own, so where the same calls come by another source too, one of the two is to be left
off; and a call that two libraries saw counts twice where neither span has a response id and each came in a
body of its own.
"""

from streams.sources import genai, otlp
from streams.sources.interface import Fields, How, Parsed

NAME = "opentelemetry"

matches = otlp.matches


def events(fields: Fields, how: How) -> list[Parsed]:
    """An event for each span that is a model's call."""
    return genai.events(fields, how, NAME)
