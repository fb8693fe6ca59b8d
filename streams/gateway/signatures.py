"""Who signed a body: Standard Webhooks 1.0.0, OpenRouter's own signature, and secrets that are shown. Pure.

    claims = claims_of(headers, now_s, 300, openrouter=False)    # before the body is read
    secret = signer_of(claims, body, secrets)                    # after

| how                | headers                                             | over              |
| ------------------ | --------------------------------------------------- | ----------------- |
| Standard Webhooks  | webhook-id, webhook-timestamp, webhook-signature    | id.timestamp.body |
| OpenRouter         | X-OpenRouter-Signature: t=..,v1=<hex>               | t,body            |
| shown              | Authorization: Bearer <secret>, or X-Webhook-Secret | nothing           |

The body is the unpacked one, byte for byte. What headers alone can tell is told before the body is read.
A header that could be read in two ways is a `Refusal` (400); everything else that is not right is None, so
that nobody learns which part it was.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from multidict import CIMultiDictProxy

from streams.gateway.answers import Refusal
from streams.webhook_secrets import Secret

STANDARD_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
OPENROUTER_HEADER = "X-OpenRouter-Signature"
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105  a header's name
SIGNATURES_MAX = 16
MAC_BYTES = 32

Headers = CIMultiDictProxy[str]

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Claim:
    """What headers say of a body: what was signed before it, and the MACs, one of which must fit."""

    how: Literal["standard", "openrouter"]
    before: bytes
    macs: tuple[bytes, ...]


def claims_of(headers: Headers, now_s: int, tolerance_s: float, *, openrouter: bool) -> tuple[Claim, ...]:
    """The claims that a request's headers make and that may still hold."""
    for name in (*STANDARD_HEADERS, OPENROUTER_HEADER, SECRET_HEADER):
        if len(headers.getall(name, ())) > 1:
            raise Refusal(400, "repeated_header", f"{name} must be given once", name, close=True)
    found = [_standard(headers)]
    if openrouter:
        found.append(_openrouter(headers))
    return tuple(
        claim for timestamp, claim in filter(None, found) if _is_timely(timestamp, now_s, tolerance_s)
    )


def _is_timely(timestamp: str, now_s: int, tolerance_s: float) -> bool:
    return _TIMESTAMP.fullmatch(timestamp) is not None and abs(now_s - int(timestamp)) <= tolerance_s


def _standard(headers: Headers) -> tuple[str, Claim] | None:
    id, timestamp, signature = (headers.get(name, "") for name in STANDARD_HEADERS)
    signatures = signature.split(" ")
    _check_number(signatures, "webhook-signature")
    macs = [_base64(one.removeprefix("v1,")) for one in signatures if one.startswith("v1,")]
    good = tuple(mac for mac in macs if mac is not None)
    if not id or not good:
        return None
    return timestamp, Claim("standard", f"{id}.{timestamp}.".encode("utf-8", "surrogateescape"), good)


def _openrouter(headers: Headers) -> tuple[str, Claim] | None:
    parts = [part.strip().partition("=") for part in headers.get(OPENROUTER_HEADER, "").split(",")]
    _check_number([name for name, _, _ in parts if name != "t"], OPENROUTER_HEADER)
    times = [value for name, _, value in parts if name == "t"]
    macs = [value for name, _, value in parts if name == "v1" and _HEX.fullmatch(value)]
    if len(times) != 1 or not macs:
        return None
    before = f"{times[0]},".encode("utf-8", "surrogateescape")
    return times[0], Claim("openrouter", before, tuple(bytes.fromhex(mac) for mac in macs))


def _check_number(signatures: Sequence[str], name: str) -> None:
    if len(signatures) > SIGNATURES_MAX:
        message = f"{name} must have at most {SIGNATURES_MAX} signatures"
        raise Refusal(400, "too_many_signatures", message, name, close=True)


def _base64(text: str) -> bytes | None:
    try:
        mac = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return mac if len(mac) == MAC_BYTES else None


def signer_of(claims: Sequence[Claim], body: bytes, secrets: Sequence[Secret]) -> Secret | None:
    """The secret that one of the claims was made with."""
    found = None
    for claim in claims:
        for secret in secrets:
            key = secret.standard_key if claim.how == "standard" else secret.text
            mac = hmac.new(key, claim.before, "sha256")
            mac.update(body)
            wanted = mac.digest()
            # Every MAC is looked at, so that the time tells nothing.
            fits = sum(hmac.compare_digest(wanted, given) for given in claim.macs)
            found = found or (secret if fits else None)
    return found


def shown_of(headers: Headers) -> tuple[bytes, ...]:
    """The secrets that a request shows, as they are."""
    given = headers.getall("Authorization", [])
    bearer = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    shown = [bearer.group(1)] if bearer else []
    shown += headers.getall(SECRET_HEADER, [])
    return tuple(one.encode("utf-8", "surrogateescape") for one in shown)


def shower_of(shown: Sequence[bytes], secrets: Sequence[Secret]) -> Secret | None:
    """The secret that was shown."""
    found = None
    for given in shown:
        for secret in secrets:
            fits = hmac.compare_digest(given, secret.text)
            found = found or (secret if fits else None)
    return found


def hashed_bytes(claims: Sequence[Claim], body: bytes, secrets: Sequence[Secret]) -> int:
    """How much a check has to hash."""
    return len(claims) * len(secrets) * len(body)
