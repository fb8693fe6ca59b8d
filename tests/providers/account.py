"""One customer's account at the provider: calls with exact costs, and what they come to.

>>> account = Account.seeded("acme", "sk-1", seed=7, count=3, newest_ms=1_795_176_000_000, days=1)
>>> [call.id for call in account.calls][:1], len(account.truth())
(['gen-acme-000000'], 3)
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from streams import money, times
from tests.providers import shapes

# slug, permaslug, provider, endpoint
ENDPOINTS = (
    ("openai/gpt-4.1", "openai/gpt-4.1-2025-04-14", "OpenAI", "e-1"),
    ("openai/gpt-4.1", "openai/gpt-4.1-2025-04-14", "Azure", "e-2"),
    ("anthropic/claude-sonnet-4", "anthropic/claude-4-sonnet-20250522", "Anthropic", "e-3"),
    ("anthropic/claude-sonnet-4", "anthropic/claude-4-sonnet-20250522", "Anthropic", "e-4"),
    ("meta-llama/llama-3.3-70b-instruct:free", "meta-llama/llama-3.3-70b-instruct", "Together", "e-5"),
)


@dataclass(frozen=True)
class Call:
    """One generation as the provider knows it. Costs are decimal text."""

    id: str
    model: str
    permaslug: str
    provider: str
    endpoint: str
    user: str
    created_ns: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    cost: str
    is_byok: bool
    upstream_cost: str | None
    latency_ms: int

    @property
    def day(self) -> str:
        """The UTC day that the provider reckons it to."""
        return times.day_of(self.created_ns, "UTC")

    @property
    def created_at(self) -> str:
        return times.text_of(self.created_ns)

    def answer(self) -> bytes:
        """The object of GET /generation, without the `data` around it."""
        nothing: dict[str, Any] = dict.fromkeys(
            name for kind, names in shapes.GENERATION.items() if kind.endswith("?") for name in names.split()
        )
        given = {
            "id": self.id,
            "model": self.model,
            "provider_name": self.provider,
            "external_user": self.user,
            "created_at": self.created_at,
            "native_tokens_prompt": self.prompt_tokens,
            "native_tokens_completion": self.completion_tokens,
            "native_tokens_reasoning": self.reasoning_tokens,
            "native_tokens_cached": self.cached_tokens,
            "tokens_prompt": self.prompt_tokens + 3,  # another count of the same
            "tokens_completion": self.completion_tokens + 1,
            "total_cost": msgspec.Raw(self.cost.encode()),
            "usage": msgspec.Raw(self.cost.encode()),
            "is_byok": self.is_byok,
            "upstream_inference_cost": self.upstream_cost and msgspec.Raw(self.upstream_cost.encode()),
            "upstream_id": f"chatcmpl-{self.id}",
            "latency": self.latency_ms,
            "streamed": True,
            "cancelled": False,
            "finish_reason": "stop",
            "native_finish_reason": "stop",
            "origin": "https://openrouter.ai/",
            "api_type": "completions",
            "data_region": "global",
        }
        return msgspec.json.encode(nothing | given)

    def event(self, organization: str, **fields: Any) -> dict[str, Any]:
        """The same generation as a producer would report it to us; `fields` make it say something else."""
        event = {
            "id": self.id,
            "organization": organization,
            "model": self.model,
            "provider": self.provider,
            "user": self.user,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self.cost,
            "created_at": self.created_at,
        } | fields
        return {name: value for name, value in event.items() if value is not None}


@dataclass(frozen=True)
class Truth:
    """What one generation must be counted with in the end."""

    day: str  # UTC
    model: str
    provider: str
    user: str
    prompt_tokens: int
    completion_tokens: int
    cost_nano: int


@dataclass
class Account:
    """An organisation's key and all its calls, in the order in which they were made."""

    organization: str
    key: str
    management_key: str = ""
    calls: list[Call] = field(default_factory=list)

    @classmethod
    def seeded(
        cls,
        organization: str,
        key: str,
        management_key: str = "",
        *,
        seed: int,
        count: int,
        newest_ms: int,
        days: float,
    ) -> "Account":
        """Calls spread over the days before `newest_ms`, the same for the same seed."""
        made = random.Random(f"{seed} {organization}")
        span_ns = int(days * times.DAY_NS)
        newest_ns = newest_ms * times.MS_NS
        ages_ns = sorted((made.randrange(span_ns) for _ in range(count)), reverse=True)
        calls = [
            _call(f"gen-{organization}-{number:06d}", newest_ns - age_ns, made)
            for number, age_ns in enumerate(ages_ns)
        ]
        return cls(organization, key, management_key, calls)

    def call(self, id: str) -> Call | None:
        """The call of an id, if it is this account's."""
        return next((call for call in self.calls if call.id == id), None)

    def truth(self) -> dict[str, Truth]:
        """By id, what each generation must be counted with."""
        return {
            call.id: Truth(
                call.day,
                call.model,
                call.provider,
                call.user,
                call.prompt_tokens,
                call.completion_tokens,
                money.nano_of(call.cost),
            )
            for call in self.calls
        }

    def activity(self, days: Sequence[str]) -> bytes:
        """The answer of GET /activity for these days."""
        groups: dict[tuple[str, str, str], list[Call]] = {}
        for call in self.calls:
            if call.day in days:
                groups.setdefault((call.day, call.model, call.endpoint), []).append(call)
        return msgspec.json.encode({"data": [_row(group) for _, group in sorted(groups.items())]})


def _call(id: str, created_ns: int, made: random.Random) -> Call:
    slug, permaslug, provider, endpoint = made.choice(ENDPOINTS)
    prompt, completion = made.randrange(1, 5000), made.randrange(2000)
    is_byok = made.random() < 0.1
    upstream = _cost(made) if made.random() < 0.5 or is_byok else None
    return Call(
        id=id,
        model=slug,
        permaslug=permaslug,
        provider=provider,
        endpoint=endpoint,
        user=f"user-{made.randrange(5)}",
        created_ns=created_ns // times.MS_NS * times.MS_NS,
        prompt_tokens=prompt,
        completion_tokens=completion,
        reasoning_tokens=made.randrange(completion + 1),
        cached_tokens=made.randrange(prompt + 1),
        cost="0" if slug.endswith(":free") else _cost(made),
        is_byok=is_byok,
        upstream_cost=upstream,
        latency_ms=made.randrange(50, 60_000),
    )


def _cost(made: random.Random) -> str:
    """Up to nine digits behind the point; no float would add them up right."""
    return money.text_of(made.randrange(1, 50_000_000))


def _row(calls: Sequence[Call]) -> dict[str, Any]:
    one = calls[0]
    byok = (Decimal(call.upstream_cost or 0) for call in calls if call.is_byok)
    return {
        "date": one.day,
        "model": one.model,
        "model_permaslug": one.permaslug,
        "endpoint_id": one.endpoint,
        "provider_name": one.provider,
        "requests": len(calls),
        "prompt_tokens": sum(call.prompt_tokens for call in calls),
        "completion_tokens": sum(call.completion_tokens for call in calls),
        "reasoning_tokens": sum(call.reasoning_tokens for call in calls),
        "usage": _number(sum((Decimal(call.cost) for call in calls), Decimal(0))),
        "byok_usage_inference": _number(sum(byok, Decimal(0))),
    }


def _number(amount: Decimal) -> msgspec.Raw:
    return msgspec.Raw(f"{amount:f}".encode())
