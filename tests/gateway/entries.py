"""Every endpoint that takes events, and a good body for each: what a bad input must get, it must get at all.

for entry in ENTRIES:
    await house.send(entry, entry.body("gen-1"))
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

JSON = "application/json"
NDJSON = "application/x-ndjson"

# Fields of our event, as JSON text: what a producer would send.
Texts = dict[str, str]


@dataclass(frozen=True)
class Entry:
    """One endpoint. `made` makes a body of an event's fields, each as JSON text."""

    name: str
    path: str
    made: Callable[[Texts], str]
    ok: int = 202
    type: str = JSON
    source: str = ""

    def body(self, id: str = "gen-1", /, **texts: str) -> bytes:
        """One good generation, but for the fields that are given as JSON text."""
        good = {"id": json.dumps(id), "model": '"m"', "cost": "0.01", "organization": '"acme"'}
        return self.made({**good, "prompt_tokens": "7", "completion_tokens": "5", **texts}).encode()

    @property
    def head(self) -> bytes:
        """The beginning of a request by hand."""
        return f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {self.type}\r\n".encode()

    @property
    def types(self) -> Sequence[str]:
        """The types that it takes, of several items."""
        if self.type != JSON:
            return (self.type,)
        return (JSON,) if self.name in ("traces", "manual") else (JSON, NDJSON)


def _object(texts: Texts) -> str:
    return "{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}"


def _renamed(texts: Texts, names: Texts) -> Texts:
    return {names.get(name, name): text for name, text in texts.items() if names.get(name, name)}


def _openrouter(texts: Texts) -> str:
    names = {"cost": "total_cost", "prompt_tokens": "native_tokens_prompt", "user": "external_user",
             "completion_tokens": "native_tokens_completion", "organization": ""}  # fmt: skip
    return f'{{"data":{_object(_renamed(texts, names))}}}'


def _litellm(texts: Texts) -> str:
    names = {"cost": "response_cost", "user": "end_user", "organization": ""}
    fixed = {"call_type": '"acompletion"', "status": '"success"', "startTime": "1795170000.5"}
    metadata = _object({"user_api_key_team_id": texts["organization"]})
    return _object({**_renamed(texts, names), **fixed, "metadata": metadata})


def _standard(texts: Texts) -> str:
    return f'{{"type":"generation.done","timestamp":"2026-11-20T11:59:00Z","data":{_object(texts)}}}'


def _manual(texts: Texts) -> str:
    names = {"prompt_tokens": "tokens", "completion_tokens": "", "id": "by" if "user" in texts else "user"}
    return _object(_renamed(texts, names))


_ATTRIBUTES = {
    "id": ("gen_ai.response.id", "stringValue"),
    "model": ("gen_ai.request.model", "stringValue"),
    "cost": ("gen_ai.usage.cost", "doubleValue"),
    "prompt_tokens": ("gen_ai.usage.input_tokens", "intValue"),
    "completion_tokens": ("gen_ai.usage.output_tokens", "intValue"),
    "user": ("user.id", "stringValue"),
}


def _traces(texts: Texts) -> str:
    attributes = [
        f'{{"key":"{key}","value":{{"{kind}":{texts[name]}}}}}'
        for name, (key, kind) in _ATTRIBUTES.items()
        if name in texts
    ]
    attributes.append('{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}}')
    span = (
        '{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"chat m",'
        '"startTimeUnixNano":"1795170000000000000","endTimeUnixNano":"1795170001000000000",'
        f'"attributes":[{",".join(attributes)}]}}'
    )
    return f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}'


def _cloudevent(texts: Texts) -> str:
    head = {"specversion": '"1.0"', "id": '"e-1"', "source": '"/gateway"', "type": '"llm.generation"'}
    return _object({**head, "data": _object(texts)})


OURS = Entry("generations", "/api/v1/generations", _object)
OPENROUTER = Entry("openrouter", "/webhooks/openrouter?org=acme", _openrouter, source="openrouter")
LITELLM = Entry("litellm", "/webhooks/litellm", _litellm, source="litellm")
STANDARD = Entry("standard", "/webhooks/standard", _standard, source="standard")
TRACES = Entry("traces", "/v1/traces?org=acme", _traces, 200, source="opentelemetry")
EVENTS = Entry(
    "events", "/api/v1/events", _cloudevent, 204, "application/cloudevents+json", source="cloudevents"
)

MANUAL = Entry("manual", "/api/v1/admin/usage/manual-record", _manual, source="manual")

WEBHOOKS = (OPENROUTER, LITELLM, STANDARD, TRACES, EVENTS)
ENTRIES = (OURS, *WEBHOOKS)
# The id of what is put down by hand is in no body: for what bodies get wherever they are sent.
TAKING = (*ENTRIES, MANUAL)
