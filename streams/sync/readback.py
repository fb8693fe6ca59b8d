"""Strategy (b), the provider as documented: each known id that lacks its figures is asked for by itself.

The ids come from whoever told of the generation first: a webhook, Broadcast, a client. The provider may not
have one yet, shortly after the call: then it is put off, for a minute, two, four, up to six hours.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from streams.generation import Generation
from streams.settings import Settings
from streams.sync.intake import Intake
from streams.sync.interface import Awaited, State
from streams.sync.provider import Provider, ProviderError

AT_ONCE = 8
BATCH = 100
BROKEN_MAX = 10  # answers of a run that are none: then it is not the ids
DELAY_MS = 60_000
DELAY_MS_MAX = 6 * 3_600_000


class Outcome(msgspec.Struct, frozen=True):
    """How a run's asking ended; `error` is what ended it, else the last answer that was none."""

    not_found: int = 0
    truncated: bool = False
    error: ProviderError | None = None


class Answer(msgspec.Struct, frozen=True):
    """What came of one id: no event when the provider has none, or none that can be read."""

    asked: Awaited
    found: bool = False
    event: Generation | None = None
    error: ProviderError | None = None

    @property
    def is_final(self) -> bool:
        """Whether it ends the run: an answer that is none may be this id's alone."""
        return self.error is not None and self.error.kind != "answer"

    @property
    def is_put_off(self) -> bool:
        """Those found, too: until the ledger has decided, or where it knows better, nobody asks again.

        And those that failed, or one id for which the provider always breaks would stop all that follow.
        """
        return self.error is None or self.error.kind in ("answer", "unreachable")


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
    broken: list[ProviderError] = []
    asked: set[str] = set()
    while True:
        due = [one for one in await state.due(organization, now_ms, BATCH) if one.id not in asked]
        if not due or left <= 0:
            return Outcome(not_found, truncated=bool(due), error=broken[-1] if broken else None)
        due = due[:left]
        asked.update(one.id for one in due)
        left -= len(due)
        answers = await _ask(provider, intake, due, broken)
        await intake.settle(answer.event for answer in answers if answer.event is not None)
        for one in (answer.asked for answer in answers if answer.is_put_off):
            await state.put_off(organization, one.id, now_ms + delay_ms(one.tries))
        not_found += sum(not answer.found and answer.error is None for answer in answers)
        error = next((answer.error for answer in answers if answer.is_final), None)
        if error is not None or len(broken) >= BROKEN_MAX:
            return Outcome(not_found, error=error or broken[-1])


async def _ask(
    provider: Provider, intake: Intake, due: Sequence[Awaited], broken: list[ProviderError]
) -> list[Answer]:
    """Some at a time. After a failure that ends the run no further one is asked for."""
    waiting = iter(due)
    answers: list[Answer] = []

    async def work() -> None:
        for one in waiting:
            answer = await _answer(provider, intake, one)
            answers.append(answer)
            if answer.error is not None and not answer.is_final:
                broken.append(answer.error)
                intake.fail(one.id)
            if answer.is_final or len(broken) >= BROKEN_MAX:
                for _ in waiting:  # nobody goes on
                    pass

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return answers


async def _answer(provider: Provider, intake: Intake, one: Awaited) -> Answer:
    try:
        data = await provider.generation(one.id)
    except ProviderError as error:
        return Answer(one, error=error)
    return Answer(one, found=data is not None, event=None if data is None else intake.read(data, one.id))
