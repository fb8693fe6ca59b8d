"""What a source's parser costs: a body in memory to messages for the log, by the door's own steps, alone.

    read(bench)     # {"native_us_per_event": 14.2, "litellm_us_per_event": ..., ...}

The bodies are the golden ones of the tests, without their spaces, as they are really sent: a LiteLLM payload
has its messages, which are read over and dropped; the agent's OTLP body has four spans, two of which are
generations. What comes out must be the golden events, each time.
"""

import asyncio
from pathlib import Path

import msgspec

from benchmarks import BenchmarkFailed
from benchmarks.bench import Bench, Figures
from streams import clock, generation, times
from streams.gateway import items, webhooks
from streams.gateway.events import Terms, judge
from streams.gateway.webhooks import Route
from streams.log.interface import Message
from streams.sources.interface import How

GOLDEN = Path(__file__).parents[1] / "tests" / "sources" / "golden"
ORGANIZATION = "acme"
# name: the golden body, the route that takes it
BODIES = {
    "native": ("native/event", webhooks.STANDARD),
    "openrouter": ("openrouter/generation", webhooks.OPENROUTER),
    "litellm": ("litellm/success", webhooks.LITELLM),
    "otlp": ("opentelemetry/agent", webhooks.TRACES),
}
EVENTS_MAX = 4_000
WARM_UP = 100


def read(bench: Bench) -> Figures:
    """Microseconds an event, of each source."""
    count = min(EVENTS_MAX, len(bench.traffic.lines))
    return {f"{name}_us_per_event": asyncio.run(_source(*body, count)) for name, body in BODIES.items()}


async def _source(case: str, route: Route, count: int) -> float:
    body = _golden(f"{case}.json")
    wanted = msgspec.json.decode(_golden(f"{case}.events.json"), type=list[msgspec.Raw])
    terms = Terms(
        organization=ORGANIZATION,
        authorities=frozenset(("estimate", "reported")),
        latest_ns=clock.now_ms() * times.MS_NS + generation.EARLY_NS_MAX,
        partitions=4,
        strict=False,
        accepts=None,
    )
    await _messages(body, route, terms, WARM_UP)
    started_s = clock.monotonic_s()
    found = await _messages(body, route, terms, count)
    took_s = clock.monotonic_s() - started_s
    _check(case, found, wanted * (len(found) // len(wanted)))
    return took_s * 1e6 / len(found)


def _golden(name: str) -> bytes:
    return msgspec.json.format((GOLDEN / name).read_bytes(), indent=-1)


async def _messages(body: bytes, route: Route, terms: Terms, count: int) -> list[Message]:
    """As a request each, until there are so many."""
    found: list[Message] = []
    how = How(organization=terms.organization)
    while len(found) < count:
        for place, part in items.split(body, items.JSON, count, are_ours=False):
            _, events = webhooks.events_of(part, route, how)
            messages, _, _ = await judge([(place, event) for event in events], terms)
            found += messages
    return found


def _check(case: str, found: list[Message], wanted: list[msgspec.Raw]) -> None:
    decoded = [generation.decode(message.value or b"") for message in found]
    if decoded != [generation.decode(event, ORGANIZATION) for event in wanted]:
        raise BenchmarkFailed(f"{case} does not come to its golden events")
