"""Record to a spool: what is recorded outlives this process, and waits for a gateway that is away.

python examples/client/spooled.py ledger.spool 20      # records 20, whether anybody answers or not
python examples/client/spooled.py ledger.spool         # sends what an earlier run has left
"""

import os
import sys

from streams.client import Client, Rejection

URL = os.environ.get("GENLEDGER_URL", "http://127.0.0.1:8787")
KEY = os.environ.get("GENLEDGER_KEY", "")


def rejected(event: dict[str, object], why: Rejection) -> None:
    """An event that will never be taken as it is: keep it where somebody looks."""
    print("rejected:", event.get("id"), why.field, why.error, file=sys.stderr)


def main(path: str, count: int) -> None:
    """Record, and send what can be sent within five seconds."""
    ledger = Client(URL, KEY, spool=path, organization="acme", on_rejected=rejected)
    for number in range(count):
        ledger.record(
            id=f"gen-spooled-{number}", model="m", prompt_tokens=12, completion_tokens=3, cost="0.01"
        )
    print("left in the spool:", ledger.close(timeout_s=5))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
