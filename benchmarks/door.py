"""What the door's checks cost: the same bodies on the same route, with every check and with none.

    checked(bench)       # {"ack_p99_ms": ..., ...}: signed, with keys, secrets and a rate for each secret
    unchecked(bench)     # open on loopback: no keys, no secrets, a rate that nobody reaches

Both post to /webhooks/standard, not one of them to /api/v1/generations: both then split, parse, judge, write
and fsync alike, and what differs is only what tells who sends. Checked is the dear case: 20 organisations
with a secret each, no `?org=` to say which, so every secret is tried, and the lines are in a file, which is
looked at again. The requests are signed before the clock runs, by the Standard Webhooks library.
"""

import base64
import datetime as dt
import hashlib
from pathlib import Path

import msgspec
from standardwebhooks import Webhook

from benchmarks.bench import Bench, Figures
from benchmarks.latency import Way, latency
from benchmarks.traffic import ORGANIZATIONS
from benchmarks.wire import JSON, request_of
from streams import clock

ROUTE = "/webhooks/standard"
RATE = 200
NEVER = "1000000000"


class _Named(msgspec.Struct):
    id: str
    organization: str


_named = msgspec.json.Decoder(_Named)


def checked(bench: Bench) -> Figures:
    """Signed requests to a service that asks for signatures."""
    return _measured(bench, checking(bench.base))


def unchecked(bench: Bench) -> Figures:
    """The same bodies to an open service."""
    return _measured(bench, UNCHECKED)


def _measured(bench: Bench, way: Way) -> Figures:
    # The run's own events, which are the same in each round, to the byte.
    traffic = bench.traffic.first(max(1, round(RATE * bench.seconds)))
    return latency(bench.base, traffic, RATE, bench.seed + 1, way)


def checking(base: Path) -> Way:
    """Every check: the secrets in a file, a key made, the default rate."""
    path = base / "secrets"
    path.write_text("".join(f"standard {name} {secret}\n" for name, secret in _secrets().items()))
    settings = {"GENLEDGER_WEBHOOK_SECRETS_FILE": str(path)}
    return Way(settings, has_key=True, request_of=_Signing().request_of)


def _secrets() -> dict[str, str]:
    """A secret for each organisation."""
    names = [f"org-{number:02d}" for number in range(ORGANIZATIONS)]
    digests = {name: hashlib.sha256(name.encode()).digest() for name in names}
    return {name: "whsec_" + base64.b64encode(digest).decode() for name, digest in digests.items()}


class _Signing:
    """Requests signed with the secret of the event's organisation."""

    def __init__(self) -> None:
        self._webhooks = {name: Webhook(secret) for name, secret in _secrets().items()}

    def request_of(self, port: int, line: bytes) -> bytes:
        """A whole POST of one event."""
        event = _named.decode(line)
        now = dt.datetime.fromtimestamp(clock.now_ms() // 1000, dt.UTC)
        headers = {
            "webhook-id": event.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhooks[event.organization].sign(event.id, now, line.decode()),
        }
        return request_of(port, line, JSON, ROUTE, headers)


def _unsigned(port: int, line: bytes) -> bytes:
    return request_of(port, line, JSON, ROUTE)


UNCHECKED = Way({"GENLEDGER_RATE_PER_S": NEVER, "GENLEDGER_RATE_BURST": NEVER}, request_of=_unsigned)
