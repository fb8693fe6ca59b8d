"""The same in asyncio.

python examples/client/asynchronous.py
"""

import asyncio
import os

from streams.client import AsyncClient

URL = os.environ.get("GENLEDGER_URL", "http://127.0.0.1:8787")
KEY = os.environ.get("GENLEDGER_KEY", "")


async def main() -> None:
    """Record twenty calls from as many tasks."""
    async with AsyncClient(URL, KEY, organization="acme") as ledger:
        ids = await asyncio.gather(
            *(
                ledger.record(
                    id=f"gen-async-{n}", model="m", prompt_tokens=12, completion_tokens=3, cost="0.01"
                )
                for n in range(20)
            )
        )
        print(len(ids), "recorded; all taken:", await ledger.flush(timeout_s=10))


if __name__ == "__main__":
    asyncio.run(main())
