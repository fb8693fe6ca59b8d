"""Strategy (b), the provider as documented: each known id that lacks its figures is asked for by itself.

The ids come from whoever told of the generation first: a webhook, Broadcast, a client. The provider may not
have one yet, shortly after the call: then it is put off, for a minute, two, four, up to six hours.
"""

import asyncio
from collections.abc import Iterator, Sequence

import msgspec

from streams.generation import Generation
from streams.settings import Settings
from streams.sync.intake import Intake
from streams.sync.interface import Awaited, State
from streams.sync.provider import Provider, ProviderError

AT_ONCE = 8
BATCH = 100
DELAY_MS = 60_000
DELAY_MS_MAX = 6 * 3_600_000


class Outcome(msgspec.Struct, frozen=True):
    """How a run's asking ended."""

    not_found: int = 0
    truncated: bool = False
    error: ProviderError | None = None


class Answer(msgspec.Struct, frozen=True):
    """What came of one id: `event` is None when the provider has none, or none that can be read."""

    asked: Awaited
    found: bool
    event: Generation | None = None


def delay_ms(tries: int) -> int:
    """How long an id is put off that has been asked for so many times before.

    >>> [delay_ms(tries) // 60_000 for tries in (0, 1, 2, 10)]
    [1, 2, 4, 360]
    """
    return min(DELAY_MS << min(tries, 20), DELAY_MS_MAX)


async def read_back(
    organization: str, provider: Provider, state: State, intake: Intake, settings: Settings, now_ms: int
) -> Outcome:
    """Ask for the ids that are due, `sync_max` at most; what was found before a failure is published."""
    not_found, left = 0, settings.sync_max
    asked: set[str] = set()
    while True:
        due = await state.due(organization, now_ms, BATCH)
        due = [one for one in due if one.id not in asked]
        if not due or left <= 0:
            return Outcome(not_found, truncated=bool(due))
        due = due[:left]
        asked.update(one.id for one in due)
        left -= len(due)
        answers, error = await _ask(provider, intake, due)
        await intake.settle(answer.event for answer in answers if answer.event is not None)
        for answer in answers:
            # Those found, too: until the ledger has decided, or where it knows better, nobody asks again.
            one = answer.asked
            await state.put_off(organization, one.id, now_ms + delay_ms(one.tries))
        not_found += sum(not answer.found for answer in answers)
        if error is not None:
            return Outcome(not_found, error=error)


async def _ask(
    provider: Provider, intake: Intake, due: Sequence[Awaited]
) -> tuple[list[Answer], ProviderError | None]:
    """Some at a time. After a failure no further one is asked for."""
    waiting = iter(due)
    ended = await asyncio.gather(*(_worker(provider, intake, waiting) for _ in range(AT_ONCE)))
    answers = [answer for answered, _ in ended for answer in answered]
    return answers, next((error for _, error in ended if error is not None), None)


async def _worker(
    provider: Provider, intake: Intake, waiting: Iterator[Awaited]
) -> tuple[list[Answer], ProviderError | None]:
    answers: list[Answer] = []
    for one in waiting:
        try:
            data = await provider.generation(one.id)
        except ProviderError as error:
            for _ in waiting:  # nobody goes on
                pass
            return answers, error
        event = None if data is None else intake.read(data, one.id)
        answers.append(Answer(one, data is not None, event))
    return answers, None
