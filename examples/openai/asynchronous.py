"""The same with AsyncOpenAI, and the Responses API.

OPENAI_API_KEY=sk-... python examples/openai/asynchronous.py
"""

import asyncio
import os

from openai import AsyncOpenAI

from streams.client import AsyncClient
from streams.integrations.openai import metered

URL = os.environ.get("GENLEDGER_URL", "http://127.0.0.1:8787")
KEY = os.environ.get("GENLEDGER_KEY", "")
MODEL = os.environ.get("MODEL", "gpt-4o-mini")


async def main() -> None:
    """A response, and a streamed chat completion."""
    async with AsyncClient(URL, KEY, organization="acme") as ledger, AsyncOpenAI() as openai:
        client = metered(openai, ledger)

        answer = await client.responses.create(model=MODEL, input="Say hello.", user="bob")
        print(answer.output_text)

        async for chunk in await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Count to three."}], stream=True
        ):
            print(chunk.choices[0].delta.content or "", end="")
        print()


if __name__ == "__main__":
    asyncio.run(main())
