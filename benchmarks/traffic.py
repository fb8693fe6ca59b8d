"""The events, and what they must add up to, reckoned in integers.

    traffic = make(100_000, "openrouter", seed=1)
    traffic.lines[0]          # b'{"id":"gen-1795...","organization":"org-03",...}'
    traffic.totals()          # Totals(requests=100000, tokens=..., cost_nano=...)
    deliveries(traffic)       # (key, line) of each, 5 % of them once more at a random later place

20 organisations, 300 users (each of one organisation) and 40 models, each event on any of 3 days. In the kind
`scattered` every user is in every organisation: a batch touches as many rows as it can. No id comes twice.
"""

import random
import string
import uuid
from collections.abc import Callable, Sequence

import msgspec

from streams import clock, money, times

Ids = Callable[[random.Random, int], str]

ORGANIZATIONS = 20
USERS = 300
MODELS = 40
DAYS = 3
DAY_S = 86_400
DUPLICATES_PER_100 = 5
PROVIDERS = ("Anthropic", "OpenAI", "Google", "Mistral")
COST_NANO_MAX = 50_000_000
# A new second of OpenRouter's ids after so many.
IDS_PER_SECOND = 100

_ALPHABET = string.ascii_letters + string.digits


class Totals(msgspec.Struct, frozen=True, gc=False):
    """What every table of a day's use must add up to."""

    requests: int = 0
    tokens: int = 0
    cost_nano: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.requests + other.requests, self.tokens + other.tokens, self.cost_nano + other.cost_nano
        )


class Traffic(msgspec.Struct, frozen=True):
    """Events as they are sent, their ids, and what each is worth."""

    lines: Sequence[bytes]
    ids: Sequence[str]
    worths: Sequence[Totals]

    def totals(self) -> Totals:
        """What they all add up to."""
        return sum(self.worths, Totals())

    def first(self, count: int) -> "Traffic":
        """The first so many."""
        return Traffic(self.lines[:count], self.ids[:count], self.worths[:count])

    def bodies(self, size: int) -> list[bytes]:
        """As NDJSON, so many events a body."""
        return [b"\n".join(self.lines[i : i + size]) for i in range(0, len(self.lines), size)]


def openrouter_id(source: random.Random, second: int) -> str:
    """`gen-<unix>-<20 characters>`: rises with time."""
    return f"gen-{second}-{''.join(source.choices(_ALPHABET, k=20))}"


def uuid_id(source: random.Random, second: int) -> str:
    """A random UUID: falls anywhere in an index."""
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


SCATTERED = "scattered"
IDS: dict[str, Ids] = {"openrouter": openrouter_id, "uuid": uuid_id, SCATTERED: openrouter_id}


def make(count: int, kind: str, seed: int, *, users: int = USERS, age_days: int = 0) -> Traffic:
    """So many events of one kind of ids; the same for the same seed and day, save for the ids' seconds.

    `age_days`: how long before yesterday the last of their days was.
    """
    source = random.Random(seed)
    id_of = IDS[kind]
    now_s = clock.now_ms() // 1000
    midnight_s = now_s // DAY_S * DAY_S - age_days * DAY_S
    lines, ids, worths = [], [], []
    for i in range(count):
        id = id_of(source, now_s + i // IDS_PER_SECOND)
        prompt, completion = source.randrange(5000), source.randrange(900)
        nano = source.randrange(COST_NANO_MAX)
        created_s = midnight_s - source.randrange(DAYS * DAY_S) - 1
        ids.append(id)
        user = source.randrange(users)
        organization = source.randrange(ORGANIZATIONS) if kind == SCATTERED else user % ORGANIZATIONS
        lines.append(_line(source, id, (organization, user), (prompt, completion, nano), created_s))
        worths.append(Totals(1, prompt + completion, nano))
    return Traffic(lines, ids, worths)


def records_of(generations: int) -> int:
    """How many records `deliveries` makes of so many."""
    return generations + generations * DUPLICATES_PER_100 // 100


def deliveries(traffic: Traffic) -> list[tuple[bytes, bytes]]:
    """Each event as a record (its id, its line), and 5 % of the same records again at random later places."""
    source = random.Random(len(traffic.lines))
    count = len(traffic.lines)
    places = [(float(i), i) for i in range(count)]
    again = source.sample(range(count), records_of(count) - count)
    places += [(source.uniform(i, count), i) for i in again]
    return [(traffic.ids[i].encode(), traffic.lines[i]) for _, i in sorted(places)]


def _line(
    source: random.Random, id: str, whose: tuple[int, int], worth: tuple[int, int, int], created_s: int
) -> bytes:
    model = source.randrange(MODELS)
    prompt, completion, cost_nano = worth
    return msgspec.json.encode(
        {
            "id": id,
            "organization": f"org-{whose[0]:02d}",
            "user": f"user-{whose[1]:03d}",
            "model": f"vendor/model-{model:02d}",
            "provider": PROVIDERS[model % len(PROVIDERS)],
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "cost": money.text_of(cost_nano),
            "created_at": times.text_of(created_s * times.SECOND_NS),
            "source": "webhook",
        }
    )
