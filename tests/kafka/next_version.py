"""`genledger` as a later version: what tests of an upgrade start beside this one, as a process.

    NEXT_FOR_TESTS=facts,seen python -P tests/kafka/next_version.py worker ledger

| in NEXT_FOR_TESTS | the later version writes                        | and reads                        |
| ----------------- | ----------------------------------------------- | -------------------------------- |
| facts             | schema 2: `time_ms` is called `at_ms`, `host` is new | schemas 1 and 2             |
| seen              | layout 5 for an id: one field more              | layouts 1 to 5                   |

What it says when it meets schema 3 or layout 6 is what this version says now.
"""

import json
import os
from typing import Any

import msgspec

import streams.fact
import streams.known
from genledger.main import main
from streams.errors import LogMismatch
from streams.fact import Fact
from streams.known import Anything, Balance, Held, Horizon, Known
from streams.log.interface import Headers

NEXT = "NEXT_FOR_TESTS"
SCHEMA_HEADERS: Headers = (("schema", b"2"),)
HOST = "one"

_encode_fact, _decode_fact = streams.fact.encode, streams.fact.decode


class NextKnown(Known, frozen=True, gc=False, array_like=True, tag=5):
    """What is known of an id, and where it was decided."""

    host: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Known | Balance | Horizon | Held | NextKnown)


def encode_fact(fact: Fact) -> bytes:
    """Under schema 2."""
    fields: dict[str, Any] = json.loads(_encode_fact(fact))
    fields["at_ms"], fields["host"] = fields.pop("time_ms"), HOST
    return json.dumps(fields).encode()


def decode_fact(value: bytes, headers: Headers = SCHEMA_HEADERS) -> Fact:
    """Of schema 1 or 2."""
    schema = dict(headers).get("schema", b"1")
    if schema == b"1":
        return _decode_fact(value)
    if schema != b"2":
        raise LogMismatch(f"a fact of schema {schema!r} is newer than this version: upgrade genledger")
    fields: dict[str, Any] = json.loads(value)
    assert fields.pop("host") == HOST
    fields["time_ms"] = fields.pop("at_ms")
    return _decode_fact(json.dumps(fields).encode())


def encode_known(known: Anything) -> bytes:
    """An id under layout 5."""
    if not isinstance(known, Known):
        return _encoder.encode(known)
    fields: tuple[Any, ...] = (*msgspec.structs.astuple(known), HOST)
    return _encoder.encode(NextKnown(*fields))


def decode_known(value: bytes) -> Anything:
    """Of layouts 1 to 5; the ledger decides by what all of them say."""
    found: Anything = _decoder.decode(value)
    if not isinstance(found, NextKnown):
        return found
    assert found.host == HOST
    return Known(*msgspec.structs.astuple(found)[:-1])


def become(parts: str) -> None:
    """Put the later version's functions where this one's are."""
    if "facts" in parts:
        streams.fact.SCHEMA_HEADERS = SCHEMA_HEADERS
        streams.fact.encode, streams.fact.decode = encode_fact, decode_fact
    if "seen" in parts:
        streams.known.encode, streams.known.decode = encode_known, decode_known


if __name__ == "__main__":
    become(os.environ[NEXT])
    main()
