"""Which generations explain a row that differs: a pass over the facts for those that touched it.

    blamed = await blame(log, rows, stops)
    blamed[0].exact         # their worth is just what is missing, or there twice
    blamed[0].ids           # else some of all that make the row; see `genledger explain`

Pure but for reading the log: what a fact adds to a row is what the fold says it does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from projections.rebuild.compare import Difference
from projections.rebuild.courses import READ_RECORDS
from projections.rebuild.plan import Stops
from projections.view import decode_fact
from streams import topics
from streams.fact import Entry, Fact, effects, unpriced
from streams.log.interface import Log

IDS_SHOWN_MAX = 20
# Of all rows together: what is beyond is told as `more`.
CONTRIBUTIONS_MAX = 1_000_000

Worth = tuple[int, ...]
Key = tuple[str, ...]
# Tables whose rows are each of one generation, and the column that names it.
_OF_ONE = {
    "processed_generations": "id",
    "generation_conflicts": "generation_id",
    "usage_points": "id",
}
_FIGURES = (
    "total_requests",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "raw_cost_nano",
    "markup_cost_nano",
    "unpriced_requests",
)
# What an audit calls them: of ids that were forgotten.
_AUDITED = {
    "cleanup_organizations": {
        "total_requests": "records_deleted",
        "total_tokens": "tokens_removed",
        "raw_cost_nano": "cost_removed_nano",
    },
    "processed_generation_cleanup_log": {
        "total_requests": "records_deleted",
        "total_tokens": "old_tokens_removed",
        "raw_cost_nano": "old_cost_removed_nano",
    },
}


class Blamed(msgspec.Struct, frozen=True):
    """The generations behind a row. `generations` is how many there are in all."""

    exact: Sequence[str] = ()
    ids: Sequence[str] = ()
    generations: int = 0


NOBODY = Blamed()


async def blame(
    log: Log, rows: Sequence[Difference], stops: Stops, told: Callable[[int], None] = lambda _: None
) -> Sequence[Blamed]:
    """For each row the ids that made it, by the facts up to where the views stand."""
    wanted: dict[Key, dict[str, Worth]] = {key: {} for row in rows if (key := _key_of(row)) is not None}
    if wanted:
        room = CONTRIBUTIONS_MAX
        async for facts in _read(log, stops):
            told(len(facts))
            for fact in facts:
                for key, worth in _contributions(fact):
                    found = wanted.get(key)
                    if found is not None and (fact.id in found or room > 0):
                        room -= fact.id not in found
                        before = found.get(fact.id, (0,) * len(_FIGURES))
                        found[fact.id] = tuple(a + b for a, b in zip(before, worth, strict=True))
    return [_blamed(row, wanted) for row in rows]


async def _read(log: Log, stops: Stops) -> Any:
    for partition in range(log.partitions(topics.USAGE)):
        ends = [end for (_, topic, n), end in stops.items() if (topic, n) == (topics.USAGE, partition)]
        offset, end = log.start_offset(topics.USAGE, partition), max(ends, default=-1)
        while offset <= end:
            records = await log.read(topics.USAGE, partition, offset, READ_RECORDS)
            if not records:
                break
            yield [decode_fact(record) for record in records if record.offset <= end]
            offset = records[-1].offset + 1


def _key_of(row: Difference) -> Key | None:
    """What a row is found by among the facts; None for rows that no generation makes alone."""
    key = row.key
    if row.table in _OF_ONE:
        return None
    if row.table == "client_live_counters":
        side = row.rebuilt or row.live or {}
        return ("day", key["client_org_id"], side["current_date"])
    names = {
        "client_daily_usage": ("day", "client_org_id", "usage_date"),
        "client_user_daily_usage": ("user", "client_org_id", "usage_date", "openrouter_user_id"),
        "client_model_daily_usage": ("model", "client_org_id", "usage_date", "model_name"),
        "model_daily_providers": ("model", "client_org_id", "usage_date", "model_name"),
        "cleanup_organizations": ("run and organisation", "run", "client_org_id"),
        "processed_generation_cleanup_log": ("run", "id"),
    }.get(row.table)
    return None if names is None else (names[0], *(key[name] for name in names[1:]))


def _contributions(fact: Fact) -> Iterator[tuple[Key, Worth]]:
    if fact.fate == "forgotten" and fact.minus is not None:
        gone = (1, 0, 0, fact.minus.total_tokens, fact.minus.cost_nano or 0, 0, 0)
        yield ("run", fact.run), gone
        yield ("run and organisation", fact.run, fact.minus.organization), gone
    for sign, entry in effects(fact):
        worth = _worth(sign, entry)
        day = (entry.organization, entry.day)
        if entry.margin in ("", "day"):
            yield ("day", *day), worth
        if entry.margin in ("", "user"):
            yield ("user", *day, entry.user), worth
        if entry.margin in ("", "model"):
            yield ("model", *day, entry.model), worth


def _worth(sign: int, entry: Entry) -> Worth:
    return tuple(
        sign * figure
        for figure in (
            entry.requests,
            entry.prompt_tokens,
            entry.completion_tokens,
            entry.total_tokens,
            entry.cost_nano or 0,
            entry.markup_nano or 0,
            unpriced(entry),
        )
    )


def _blamed(row: Difference, wanted: Mapping[Key, Mapping[str, Worth]]) -> Blamed:
    if row.table in _OF_ONE:
        id = row.key[_OF_ONE[row.table]]
        return Blamed(exact=[id], ids=[id], generations=1)
    key = _key_of(row)
    if key is None:
        return NOBODY
    found = wanted[key]
    off = _off(row)
    exact = [
        id
        for id, worth in found.items()
        if any(off) and (worth == off or tuple(-figure for figure in worth) == off)
    ]
    return Blamed(exact[:IDS_SHOWN_MAX], sorted(found)[:IDS_SHOWN_MAX], len(found))


def _off(row: Difference) -> Worth:
    """By how much the live row is off."""
    live, rebuilt, named = row.live or {}, row.rebuilt or {}, _AUDITED.get(row.table, {})
    columns = [named.get(name, name) for name in _FIGURES]
    return tuple((live.get(column) or 0) - (rebuilt.get(column) or 0) for column in columns)
