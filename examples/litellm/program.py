"""LiteLLM used as a library, its calls recorded: whole, streamed, awaited.

pip install litellm
OPENAI_API_KEY=sk-... GENLEDGER_ORGANIZATION=acme python examples/litellm/program.py
"""

import asyncio
import os

import litellm

from streams.integrations.litellm import callback

MODEL = os.environ.get("MODEL", "openai/gpt-4o-mini")
litellm.callbacks = [callback]


def main() -> None:
    """One call whole, one streamed, one awaited."""
    messages = [{"role": "user", "content": "Say hello."}]
    litellm.completion(model=MODEL, messages=messages)
    for _ in litellm.completion(
        model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    ):
        pass
    asyncio.run(awaited(messages))


async def awaited(messages: list[dict[str, str]]) -> None:
    """A call that is awaited."""
    await litellm.acompletion(model=MODEL, messages=messages)
    # LiteLLM tells its callbacks afterwards: a service that goes on has nothing to wait for.
    await asyncio.sleep(1)


if __name__ == "__main__":
    main()
