"""Entries of the table "seen", made quickly: real ones, with another id patched into their bytes.

    entry_of = maker("openrouter")
    key, value = entry_of(17)          # b"gen-1790000000-...", some 290 bytes that `known.decode` takes

The entry is that of an event with every field that OpenRouter's read-back fills; one from the benchmark's own
traffic, which says less, has 173 bytes. Numbers are ids in the order of their making: `openrouter` ids rise
with it, `uuid` ids are random. The same number always gives the same id, so nothing is kept to look it up.
"""

import base64
import random
from collections.abc import Callable
from hashlib import blake2b

from streams import known, times
from streams.generation import Generation
from streams.known import Known, Terms

KINDS = ("openrouter", "uuid")
IDS_PER_SECOND = 100
TEMPLATES = 509
SEED = 20261121
FIRST_S = 1_790_000_000

Entry = tuple[bytes, bytes]


def openrouter_id(number: int) -> bytes:
    """As OpenRouter makes them: the time first."""
    digest = blake2b(b"%d" % number, digest_size=15).digest()
    return b"gen-%d-%s" % (FIRST_S + number // IDS_PER_SECOND, base64.b64encode(digest, b"Zz"))


def uuid_id(number: int) -> bytes:
    """A random UUID."""
    text = blake2b(b"%d" % number, digest_size=16).hexdigest()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()


IDS: dict[str, Callable[[int], bytes]] = {"openrouter": openrouter_id, "uuid": uuid_id}


def maker(kind: str) -> Callable[[int], Entry]:
    """Key and value of a number."""
    id_of = IDS[kind]
    source = random.Random(SEED)
    placeholder = id_of(0)
    templates = []
    for _ in range(TEMPLATES):
        before, found, after = known.encode(_known(source, placeholder.decode())).partition(placeholder)
        assert found and placeholder not in after
        templates.append((before, after))

    def entry_of(number: int) -> Entry:
        id = id_of(number)
        before, after = templates[number % TEMPLATES]
        return id, before + id + after

    return entry_of


def _known(source: random.Random, id: str) -> Known:
    prompt, completion = source.randrange(50_000), source.randrange(5_000)
    created_ns = FIRST_S * times.SECOND_NS + source.randrange(10**15)
    user = f"{source.getrandbits(128):032x}"
    event = Generation(
        id=id,
        organization=f"organization-{source.randrange(20):02d}",
        model=f"vendor/model-family-{source.randrange(40):02d}",
        user=user,
        provider="Anthropic",
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cost_nano=source.randrange(50_000_000),
        created_ns=created_ns,
        source="openrouter",
        reasoning_tokens=source.randrange(5_000),
        cached_tokens=source.randrange(50_000),
        upstream_cost_nano=source.randrange(50_000_000),
        is_byok=False,
        latency_ms=source.randrange(60_000),
        finish_reason="stop",
        session=f"{source.getrandbits(128):032x}",
        authority="reconciled",
        revision=source.randrange(1, 1_000),
    )
    terms = Terms("1.3", "Europe/Warsaw", times.day_of(created_ns, "Europe/Warsaw"), user[:12])
    return Known(event, terms, None, created_ns)
