"""OTLP in protobuf: the same events as its JSON, and bodies that nobody sends."""

import random
import struct
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from streams.errors import BadEvent
from streams.sources import opentelemetry, otlp_protobuf
from streams.sources.interface import How, Parsed
from tests.sources.bodies import fields_of
from tests.sources.spans import CHAT, body, protobuf, span

SECRET = "the secret that a prompt told"
HOW = How(organization="acme")
REAL = body(
    span({"http.request.method": "GET"}, span_id=1),
    span(
        CHAT
        | {
            "gen_ai.response.finish_reasons": ["stop", "length"],
            "gen_ai.usage.cost": 0.1 + 0.2,
            "gen_ai.prompt": SECRET,
            "trace.metadata.openrouter_generation.is_byok": True,
        },
        span_id=2,
        parent=1,
        events=[{"name": SECRET}],
    ),
    span(CHAT | {"gen_ai.response.id": None, "gen_ai.usage.cost": 0.000123}, span_id=3),
    **{"genledger.organization": "acme"},
)


def events(given: bytes, how: How = HOW) -> list[Parsed]:
    """The events of a body in protobuf."""
    fields = otlp_protobuf.fields_of(given)
    return [fields] if isinstance(fields, BadEvent) else opentelemetry.events(fields, how)


def error(given: bytes) -> str:
    """What is wrong with a whole body."""
    fields = otlp_protobuf.fields_of(given)
    assert isinstance(fields, BadEvent)
    return fields.error


def part(number: int, value: bytes) -> bytes:
    """A field of bytes on the wire."""
    length, text = len(value), bytearray()
    while length > 0x7F:
        text.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *text, length]) + value


def in_span(value: bytes) -> bytes:
    """A request of one span."""
    return part(1, part(2, part(2, value)))


def attribute(key: bytes, value: bytes) -> bytes:
    """An attribute of a span."""
    return part(9, part(1, key) + part(2, value))


def test_both_encodings_are_the_same() -> None:
    """A body gives the same events as protobuf and as JSON, the caller's organisation or the resource's."""
    for how in (HOW, How()):
        found = events(protobuf(REAL), how)
        assert len(found) == 2
        assert found == opentelemetry.events(fields_of(REAL), how)


def test_a_double_becomes_the_text_that_means_it() -> None:
    """A binary double's cost is its shortest decimal text; one that is no number is refused."""
    assert b'"cost":0.30000000000000004' in bytes(events(protobuf(REAL))[0])
    for number in (float("nan"), float("inf"), -float("inf")):
        value = b"\x21" + struct.pack("<d", number)
        ids = attribute(b"gen_ai.response.id", part(1, b"gen-1"))
        [found] = events(in_span(ids + attribute(b"gen_ai.usage.cost", value)))
        assert isinstance(found, BadEvent)
        assert found.field == "gen_ai.usage.cost"


def test_an_empty_body_has_no_spans() -> None:
    """An empty request is a request."""
    assert events(b"") == []


def test_prompts_are_never_decoded() -> None:
    """What is not asked for is skipped where it stands, even where it is no text at all."""
    told = attribute(b"gen_ai.prompt", part(1, SECRET.encode() + b"\xff\xfe")) + part(11, b"\xff" * 9)
    [found] = events(
        in_span(
            told
            + attribute(b"gen_ai.usage.input_tokens", b"\x18\x07")
            + part(1, b"t" * 16)
            + part(2, b"s" * 8)
        )
    )
    assert SECRET.encode() not in bytes(found)  # type: ignore[arg-type]
    assert b"secret" not in bytes(otlp_protobuf.fields_of(protobuf(REAL))["resourceSpans"])  # type: ignore[index]


@pytest.mark.parametrize(
    "given",
    [
        *(
            b"\xff" * 40,
            b"\x0a",
            b"\x0a\x05",
            b"\x0b",
            b"\x0f",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ),
        *(part(1, b"\x12\x7f"), in_span(b"\x39\x01"), in_span(attribute(b"gen_ai.usage.cost", b"\x21\x01"))),
        in_span(attribute(b"gen_ai.response.id", part(1, b"\xff"))),
    ],
)
def test_what_is_no_protobuf(given: bytes) -> None:
    """Broken bytes are one error, in plain words."""
    assert error(given) == "is not an OTLP trace request in protobuf"


def test_small_bytes_that_would_be_many_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body's fields are counted before anything is built of them, on every level."""
    monkeypatch.setattr(otlp_protobuf, "FIELDS_MAX", 1000)
    many = b"\x0a\x00" * 1001
    for given in (many, part(1, part(2, b"\x12\x00" * 1001)), in_span(b"\x4a\x00" * 1001)):
        assert "more than 1000 fields" in error(given)


def test_an_array_that_would_be_many_objects() -> None:
    """A value that is asked for is bounded, too; one that is not may be as large as the body."""
    value = part(5, b"\x0a\x00" * 40_000)
    assert "bytes" in error(in_span(attribute(b"gen_ai.response.finish_reasons", value)))
    assert events(in_span(attribute(b"gen_ai.prompt", value))) == []


def test_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies with bytes replaced, lost or repeated give events or errors, and never anything else."""
    dice, good = random.Random(6), protobuf(REAL)
    for _ in range(1500):
        given = bytearray(good)
        for _ in range(dice.randrange(1, 6)):
            place = dice.randrange(len(given))
            given[place : place + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        for each in events(bytes(given)):
            assert isinstance(each, bytes | BadEvent)


def test_the_answer() -> None:
    """The answer is OTLP's own: empty, or how many spans were not taken and why."""
    assert otlp_protobuf.answer_of(0, "") == b""
    answer: Any = ExportTraceServiceResponse.FromString(otlp_protobuf.answer_of(2, "cost must be"))
    assert (answer.partial_success.rejected_spans, answer.partial_success.error_message) == (
        2,
        "cost must be",
    )


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, that is what is said, and what to do."""
    assert otlp_protobuf.available()
    monkeypatch.setattr(otlp_protobuf, "_messages", lambda: None)
    assert not otlp_protobuf.available()
    assert "genledger[otlp]" in error(protobuf(REAL))
