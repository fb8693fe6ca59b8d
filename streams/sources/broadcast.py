"""OpenRouter's Broadcast: a trace of OTLP JSON for each call of an account, sent to a webhook. Pure.

    {"resourceSpans": [{"resource": {"attributes": [
        {"key": "service.name", "value": {"stringValue": "openrouter"}}]},
      "scopeSpans": [{"spans": [{"name": "LLM Generation", "attributes": [
        {"key": "gen_ai.response.id", "value": {"stringValue": "gen-1763634720-Xw"}},
        {"key": "gen_ai.usage.total_cost", "value": {"doubleValue": 0.00443}}]}]}]}]}

They are spans of the GenAI conventions, read as all others are (genai.py), whether they come to the webhook
or through a collector.

- **Id**: `gen_ai.response.id`, the generation's (gen-...), which the response and the sync have, too. A span
  with a usage and without it is refused, for nothing could be joined with it.
- **Not counted**: "provider attempt" spans (tries of one generation; their ids end in `:attempt-0`), spans
  without a usage, and the empty probe that OpenRouter sends when the webhook is set up.
- **Organisation**: the caller's, else the request's `trace.organization`. **User**: the request's `user`.
- **Cost**: `gen_ai.usage.total_cost`. A failed call has none: it is unknown, not zero. The parts of it
  (input_cost, output_cost, usage_upstream) are inside it, and left out.

Broadcast may be sampled, and promises no delivery: the sync is what makes it complete. Names and ids of
traces are the caller's own, and decide nothing. Metadata (`trace.metadata.*`) is not copied: it has whatever
callers put there, and the provider's raw answers.
"""

from streams.errors import BadEvent
from streams.sources import genai, otlp
from streams.sources.interface import Fields, How, Parsed

NAME = genai.BROADCAST


def matches(fields: Fields) -> bool:
    """Whether nobody but OpenRouter has sent spans in this body; a probe has none."""
    if not otlp.matches(fields):
        return False
    try:
        return all(
            genai.is_openrouters(resource) or genai.SERVICE not in resource
            for resource in otlp.resources(fields, (genai.SERVICE,))
        )
    except BadEvent:
        return True  # `events` says what is wrong with it


def events(fields: Fields, how: How) -> list[Parsed]:
    """An event for each generation."""
    return genai.events(fields, how, NAME)
