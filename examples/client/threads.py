"""Record model calls from any thread; they are sent in the background.

python examples/client/threads.py
"""

import os
from concurrent.futures import ThreadPoolExecutor

from streams.client import Client

URL = os.environ.get("GENLEDGER_URL", "http://127.0.0.1:8787")
KEY = os.environ.get("GENLEDGER_KEY", "")


def main() -> None:
    """Record twenty calls from four threads."""
    with Client(URL, KEY, organization="acme") as ledger, ThreadPoolExecutor(4) as pool:

        def call_a_model(number: int) -> str:
            # ... the call; then what the provider said of it:
            return ledger.record(
                id=f"gen-threads-{number}", model="m", prompt_tokens=12, completion_tokens=3, cost="0.0123"
            )

        ids = list(pool.map(call_a_model, range(20)))
        print(len(ids), "recorded; all taken:", ledger.flush(timeout_s=10))


if __name__ == "__main__":
    main()
