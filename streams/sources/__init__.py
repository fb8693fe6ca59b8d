"""Where events come from: one module a kind of body, each with the three names of `interface.py`.

    for fields in body: the first of BY_ROUTE[route] that matches() says what its events() are

| module             | whose bodies                                                             |
| ------------------ | ------------------------------------------------------------------------ |
| `openrouter.py`    | OpenRouter's generation object                                           |
| `broadcast.py`     | OpenRouter Broadcast: spans, as OTLP's JSON                              |
| `usage.py`         | responses with a `usage`: OpenAI's, Anthropic's and OpenRouter's shapes  |
| `litellm.py`       | LiteLLM's logging payload and its spend log                              |
| `opentelemetry.py` | GenAI spans, as OTLP's JSON; `otlp_protobuf.py` makes that of protobuf   |
| `cloudevents.py`   | CloudEvents 1.0                                                          |
| `native.py`        | events of our own                                                        |

The order within a route is the order in which they are asked: what can be told by a mark of its own comes
before what can be told by its shape only.
"""

from collections.abc import Mapping

from streams.sources import broadcast, cloudevents, litellm, native, openrouter, opentelemetry, usage
from streams.sources.interface import Source

BY_ROUTE: Mapping[str, tuple[Source, ...]] = {
    "openrouter": (broadcast, openrouter, usage),
    "litellm": (litellm,),
    "standard": (cloudevents, opentelemetry, litellm, openrouter, usage, native),
    "opentelemetry": (opentelemetry,),
    "cloudevents": (cloudevents,),
}
