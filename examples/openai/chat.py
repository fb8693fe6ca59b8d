"""Calls of the OpenAI SDK, recorded: whole and streamed.

    OPENAI_API_KEY=sk-... python examples/openai/chat.py

OPENAI_BASE_URL names any other service that speaks the same, such as https://openrouter.ai/api/v1.
"""

import os

from openai import OpenAI

from streams.client import Client
from streams.integrations.openai import metered

URL = os.environ.get("GENLEDGER_URL", "http://127.0.0.1:8787")
KEY = os.environ.get("GENLEDGER_KEY", "")
MODEL = os.environ.get("MODEL", "gpt-4o-mini")


def main() -> None:
    """Two chat completions, the second streamed."""
    with Client(URL, KEY, organization="acme") as ledger:
        client = metered(OpenAI(), ledger, user="alice")  # the one line

        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Say hello."}]
        )
        print(answer.choices[0].message.content)

        for chunk in client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Count to three."}], stream=True
        ):
            print(chunk.choices[0].delta.content or "", end="")
        print()


if __name__ == "__main__":
    main()
