"""What the API asks of the tables, at a year of 20 organisations with 20 users and 20 models a day each.

    year(bench)      # {"daily_year_p50_ms": ..., "daily_year_p99_ms": ..., ...}

7,300 daily rows, 146,000 user rows and as many model rows, filled through the summaries' own fold and writer
into tables made by the migrations. Asked through `projections.queries.Queries`, as the HTTP routes do, each
question some hundred times, of organisations and months at random; every answer's rows are counted, and each
organisation's year must add up to what went in. Milliseconds from question to rows, without HTTP.
"""

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

from benchmarks import BenchmarkFailed
from benchmarks.bench import Bench, Figures
from benchmarks.latency import percentile
from benchmarks.traffic import Totals
from projections import schema, summaries
from projections.queries import Queries, Row
from projections.stores.summaries import write
from streams import clock
from streams.fact import Entry, Fact
from streams.money import NANO

ORGANIZATIONS = 20
EACH = 20
DAYS = 365
FIRST = date(2025, 1, 1)
FIRST_MS = 1_735_689_600_000
DAY_MS = 86_400_000
RUNS = 300
SEED = 11
PROVIDERS = ("Anthropic", "OpenAI", "Google", "Mistral")

Question = Callable[[Queries, str, str], Awaitable[Sequence[Row]]]


def year(bench: Bench, days: int = DAYS, runs: int = RUNS) -> Figures:
    """Fill the tables, then ask."""
    path = bench.base / "year.db"
    schema.upgrade(path)
    started_s = clock.monotonic_s()
    expected = _fill(path, days)
    filled_s = clock.monotonic_s() - started_s
    figures = asyncio.run(_ask(path, days, runs, expected))
    size = sum(file.stat().st_size for file in path.parent.glob("year.db*"))
    return {
        "rows": ORGANIZATIONS * days * (1 + 2 * EACH),
        "filled_s": filled_s,
        "disk_mib": size / 2**20,
        **figures,
    }


def _name(number: int) -> str:
    return f"org-{number:02d}"


def _fill(path: Path, days: int) -> dict[str, Totals]:
    """A month at a time is one transaction; what each organisation must add up to."""
    source = random.Random(SEED)
    expected = {_name(n): Totals() for n in range(ORGANIZATIONS)}
    offset = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for start in range(0, days, 30):
            facts = []
            for number in range(start, min(start + 30, days)):
                for organization, before in expected.items():
                    entries = [_entry(source, organization, number, n) for n in range(EACH)]
                    for entry in entries:
                        facts.append(_fact(entry, number, offset))
                        offset += 1
                    expected[organization] = before + _worth(entries)
            connection.execute("BEGIN")
            for _ in write(connection, 0, summaries.fold(facts)):
                pass
            connection.execute("COMMIT")
    return expected


def _entry(source: random.Random, organization: str, number: int, n: int) -> Entry:
    day = (FIRST + timedelta(days=number)).isoformat()
    prompt, completion, nano = source.randrange(50_000), source.randrange(9_000), source.randrange(5 * NANO)
    return Entry(
        organization=organization,
        day=day,
        today=day,
        model=f"vendor/model-{n:02d}",
        user=f"{organization}-user-{n:02d}",
        provider=PROVIDERS[n % len(PROVIDERS)],
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cost_nano=nano,
        markup_nano=nano,
    )


def _fact(entry: Entry, number: int, offset: int) -> Fact:
    time_ms = FIRST_MS + number * DAY_MS
    return Fact(
        fate="counted",
        id=f"gen-{offset}",
        partition=0,
        offset=offset,
        prev=offset - 1,
        time_ms=time_ms,
        plus=entry,
    )


def _worth(entries: Sequence[Entry]) -> Totals:
    return Totals(
        len(entries), sum(one.total_tokens for one in entries), sum(one.cost_nano or 0 for one in entries)
    )


def _last(days: int) -> str:
    return (FIRST + timedelta(days=days - 1)).isoformat()


async def _year(reader: Queries, organization: str, month: str) -> Sequence[Row]:
    year = month[:4]
    return (await reader.usage("daily", organization, f"{year}-01-01", f"{year}-12-31")).rows


async def _users(reader: Queries, organization: str, month: str) -> Sequence[Row]:
    return (await reader.usage("users", organization, f"{month}-01", f"{month}-31")).rows


async def _models(reader: Queries, organization: str, month: str) -> Sequence[Row]:
    return (await reader.usage("models", organization, f"{month}-01", f"{month}-31")).rows


async def _live(reader: Queries, organization: str, month: str) -> Sequence[Row]:
    return (await reader.live(FIRST_MS)).rows


async def _by_user(reader: Queries, organization: str, month: str) -> Sequence[Row]:
    return await reader.statement(organization, month, "user")


async def _by_model(reader: Queries, organization: str, month: str) -> Sequence[Row]:
    return await reader.statement(organization, month, "model")


async def _by_day(reader: Queries, organization: str, month: str) -> Sequence[Row]:
    return await reader.statement(organization, month, "day")


QUESTIONS: dict[str, Question] = {
    "daily_year": _year,
    "users_month": _users,
    "models_month": _models,
    "live": _live,
    "statement_by_user": _by_user,
    "statement_by_model": _by_model,
    "statement_by_day": _by_day,
}


def _rows(name: str, days_in_month: int, days: int) -> int:
    """How many rows an answer has."""
    return {
        "daily_year": days,
        "users_month": days_in_month * EACH,
        "models_month": days_in_month * EACH,
        "live": ORGANIZATIONS,
        "statement_by_user": EACH,
        "statement_by_model": EACH,
        "statement_by_day": days_in_month,
    }[name]


async def _ask(path: Path, days: int, runs: int, expected: dict[str, Totals]) -> Figures:
    source = random.Random(SEED)
    months: dict[str, int] = {}
    for number in range(days):
        month = (FIRST + timedelta(days=number)).isoformat()[:7]
        months[month] = months.get(month, 0) + 1
    figures: Figures = {}
    reader = await Queries.open(path)
    try:
        await check(reader, months, expected)
        for name, question in QUESTIONS.items():
            took_ms = []
            for _ in range(runs):
                organization, month = source.choice(list(expected)), source.choice(list(months))
                started_s = clock.monotonic_s()
                rows = await question(reader, organization, month)
                took_ms.append((clock.monotonic_s() - started_s) * 1000)
                if len(rows) != _rows(name, months[month], days):
                    raise BenchmarkFailed(f"{name} of {organization} in {month} has {len(rows)} rows")
            figures[f"{name}_p50_ms"] = percentile(sorted(took_ms), 0.5)
            figures[f"{name}_p99_ms"] = percentile(sorted(took_ms), 0.99)
    finally:
        await reader.close()
    return figures


async def check(reader: Queries, months: dict[str, int], expected: dict[str, Totals]) -> None:
    """The statements of a year add up to what went in, by user, model and day."""
    for name in ("statement_by_user", "statement_by_model", "statement_by_day"):
        for organization, wanted in expected.items():
            found = Totals()
            for month in months:
                for row in await QUESTIONS[name](reader, organization, month):
                    found += Totals(row["requests"], row["total_tokens"], row["raw_cost_nano"])
            if found != wanted:
                raise BenchmarkFailed(f"{name} of {organization} adds up to {found}, not {wanted}")
