"""From a span of OpenTelemetry's GenAI conventions to an event: what both kinds of OTLP bodies share. Pure.

    for parsed in events(fields, how, "opentelemetry"): ...

OpenRouter's Broadcast is spans of these conventions too, and reaches us by its own webhook or through
somebody's collector, mixed with others' spans. So there is one reading, whichever route a body came by, and
a span that OpenRouter sent says "broadcast" as its source.

**Which spans count.** Those with tokens or a cost, save
- agents, workflows and their steps, which repeat what the calls beneath them used (langfuse 14754);
- OpenRouter's "provider attempt" spans: tries of one generation, under ids of their own;
- a span without a response id above one that counts, in the same body: two libraries saw one call.
The names of operations are an open set: one that is not known to be a model call counts when it has a
response id, which a sum of several calls can't have.

**The id** is `gen_ai.response.id`: the provider's own, so the same call seen by LiteLLM, Broadcast or the
sync is the same generation, counted once by the ledger however many traces have it (maple 766). Without one,
a span of an application is `span:<trace id>:<span id>`: unique, and the same when it is sent again, but
nothing else can be joined with it. Trace ids alone are never an id: callers set them, and use them again.

**Tokens**: cached and reasoning tokens are parts of the two counts, never added. **Cost** has no convention:
the keys seen are read in one order, never added up. None given, or another currency than USD: unknown.

**Organisation**: the caller's; else the attribute `genledger.organization` of the span or its resource, or
`trace.metadata.organization`, which is `"trace": {"organization": ...}` in a request to OpenRouter.
**User**: `user.id`, else `enduser.id`.
"""

import re

import msgspec

from streams import times
from streams.errors import BadEvent
from streams.generation import LATENCY_MS_MAX
from streams.sources import otlp
from streams.sources.interface import Fields, How, Parsed, native
from streams.sources.otlp import Attributes, Span

# Of a hostile body; how many events a request may have is the door's setting, and less.
CALLS_MAX = 50_000
OPENROUTER = "openrouter"
BROADCAST = "broadcast"

# Our field: the keys that have it, the first one given counts.
TEXTS = {
    "id": ("gen_ai.response.id",),
    "organization": ("genledger.organization", "trace.metadata.organization"),
    "model": ("gen_ai.response.model", "gen_ai.request.model"),
    "user": ("user.id", "enduser.id"),
    "provider": ("trace.metadata.openrouter.provider_name", "gen_ai.provider.name", "gen_ai.system"),
    "finish_reason": ("gen_ai.response.finish_reason",),
    "session": ("session.id", "gen_ai.conversation.id"),
}
TOKENS = {
    "prompt_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "completion_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "total_tokens": ("gen_ai.usage.total_tokens",),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.output_tokens.reasoning",
        "gen_ai.usage.reasoning_tokens",
    ),
    "cached_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "gen_ai.usage.cache_read_input_tokens",
    ),
}
COST = ("gen_ai.usage.total_cost", "gen_ai.usage.cost", "gen_ai.usage.cost.amount")
CURRENCY = "gen_ai.usage.cost.currency"
FINISH_REASONS = "gen_ai.response.finish_reasons"
OPERATION = "gen_ai.operation.name"
IS_BYOK = "trace.metadata.openrouter_generation.is_byok"
SPAN_TYPE = "span.type"
SERVICE = "service.name"
WANTED = frozenset(
    (
        *(key for keys in TEXTS.values() for key in keys),
        *(key for keys in TOKENS.values() for key in keys),
        *(*COST, CURRENCY, FINISH_REASONS, OPERATION, IS_BYOK, SPAN_TYPE, SERVICE),
    )
)
# Their usage is the sum of what is beneath them, or none of a model's.
SUMS = frozenset(
    ("invoke_agent", "create_agent", "agent_step", "invoke_workflow", "workflow", "plan", "execute_tool")
)
# None: what the older conventions, and many libraries, say.
CALLS = frozenset(("", "chat", "text_completion", "generate_content", "embeddings"))

_USAGE = (*TOKENS["prompt_tokens"], *TOKENS["completion_tokens"], *TOKENS["total_tokens"], *COST)
_ATTEMPT_ID = re.compile(r".*:attempt-[0-9]+", re.DOTALL)
_ATTEMPT_NAME = "provider attempt "
_WHOLE = re.compile(rb"([0-9]{1,18})(?:\.0+)?")
_MONEY = re.compile(rb'"?-?[0-9][0-9.eE+-]{0,62}"?')
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_MS_NS = times.MS_NS

Place = tuple[str, str]  # a span's trace and its id


def events(fields: Fields, how: How, source: str) -> list[Parsed]:
    """The native events in an OTLP body; `BadEvent` for spans that can't be read, in their places."""
    parents: dict[Place, str] = {}
    found: list[tuple[Place | None, bool, Parsed]] = []
    try:
        for span in otlp.spans(fields, WANTED):
            if len(found) > CALLS_MAX:
                return [BadEvent(otlp.TOP, f"has more than {CALLS_MAX} calls: send fewer spans at once")]
            if isinstance(span, BadEvent):
                found.append((None, True, span))
                continue
            place = (span.trace_id, span.span_id)
            if span.parent_id:
                parents[place] = span.parent_id
            if _counts(span):
                found.append((place, bool(_text(span, TEXTS["id"])), _parsed(span, how, source)))
    except BadEvent as error:
        found.append((None, True, otlp.bare(error)))
    above = _above([place for place, _, _ in found if place is not None], parents)
    return [parsed for place, has_id, parsed in found if has_id or place not in above]


def _above(counted: list[Place], parents: dict[Place, str]) -> set[Place]:
    """The spans that stand above those that count, however high."""
    above: set[Place] = set()
    for trace, place in counted:
        parent = parents.get((trace, place), "")
        # A span that is known already is known with all above it; so no circle goes round twice.
        while parent and (trace, parent) not in above:
            above.add((trace, parent))
            parent = parents.get((trace, parent), "")
    return above


def is_openrouters(resource: Attributes) -> bool:
    """Whether it is OpenRouter that sent what this resource has."""
    return resource.get(SERVICE) == OPENROUTER


def _counts(span: Span) -> bool:
    if not any(key in span.attributes for key in _USAGE):
        return False
    return _text(span, (OPERATION,)) not in SUMS and not _is_attempt(span)


def _is_attempt(span: Span) -> bool:
    # A caller names its generations as it likes, so the name decides only where nothing else does.
    if _ATTEMPT_ID.fullmatch(_text(span, TEXTS["id"])):
        return True
    if not is_openrouters(span.resource):
        return False
    kind = _text(span, (SPAN_TYPE,))
    return kind == "span" if kind else span.name.startswith(_ATTEMPT_NAME)


def _parsed(span: Span, how: How, source: str) -> Parsed:
    try:
        return _event(span, how, BROADCAST if is_openrouters(span.resource) else source)
    except BadEvent as error:
        return otlp.bare(error)


def _event(span: Span, how: How, source: str) -> bytes:
    texts = {name: _text(span, keys) or None for name, keys in TEXTS.items()}
    tokens = {name: _tokens(span, keys) for name, keys in TOKENS.items()}
    texts["id"] = texts["id"] or _own_id(span, source)
    texts["organization"] = how.organization or texts["organization"] or _resources_organization(span)
    texts["finish_reason"] = texts["finish_reason"] or _finish_reason(span)
    total = tokens.pop("total_tokens")
    if total is not None and total >= (tokens["prompt_tokens"] or 0) + (tokens["completion_tokens"] or 0):
        tokens["total_tokens"] = total
    is_byok = span.attributes.get(IS_BYOK)
    return native(
        **texts,
        **tokens,
        cost=_cost(span),
        is_byok=is_byok if isinstance(is_byok, bool) else None,
        created_at=times.text_of(span.start_ns) if span.start_ns else None,
        latency_ms=_latency_ms(span),
        source=source,
    )


def _own_id(span: Span, source: str) -> str:
    if source == BROADCAST:
        raise BadEvent("gen_ai.response.id", "is required: OpenRouter's generation has no other id")
    if _text(span, (OPERATION,)) not in CALLS:
        raise BadEvent("gen_ai.response.id", "is required for an operation that is not known as one call")
    if _TRACE_ID.fullmatch(span.trace_id) is None or _SPAN_ID.fullmatch(span.span_id) is None:
        raise BadEvent(
            "gen_ai.response.id", "is required where traceId and spanId are not 32 and 16 hex digits"
        )
    return f"span:{span.trace_id}:{span.span_id}"


def _text(span: Span, keys: tuple[str, ...]) -> str:
    for key in keys:
        value = span.attributes.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # a user's number, and so on
    return ""


def _resources_organization(span: Span) -> str | None:
    value = span.resource.get(TEXTS["organization"][0])
    return value if isinstance(value, str) and value else None


def _tokens(span: Span, keys: tuple[str, ...]) -> int | None:
    key = next((key for key in keys if key in span.attributes), None)
    if key is None:
        return None
    value = span.attributes[key]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # JavaScript knows no integers: 812 may come as a double.
    whole = _WHOLE.fullmatch(bytes(value)) if isinstance(value, msgspec.Raw) else None
    if whole is None:
        raise BadEvent(key, "must be a whole number")
    return int(whole.group(1))


def _cost(span: Span) -> msgspec.Raw | None:
    key = next((key for key in COST if key in span.attributes), None)
    if key is None or (_text(span, (CURRENCY,)) or "USD").upper() != "USD":
        return None
    value = span.attributes[key]
    text = b""
    if isinstance(value, msgspec.Raw):
        text = bytes(value)
    elif isinstance(value, str):
        text = f'"{value}"'.encode()
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value).encode()
    if _MONEY.fullmatch(text) is None:
        raise BadEvent(key, "must be a decimal number of dollars")
    return msgspec.Raw(text)


def _finish_reason(span: Span) -> str | None:
    reasons = span.attributes.get(FINISH_REASONS)
    return reasons[0] if isinstance(reasons, list) and reasons else None


def _latency_ms(span: Span) -> int | None:
    latency_ms = (span.end_ns - span.start_ns) // _MS_NS if span.start_ns else -1
    return latency_ms if 0 <= latency_ms <= LATENCY_MS_MAX else None
