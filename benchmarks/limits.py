"""What the same machine could do without us: the same work by hand in one process, and decoding alone.

    by_hand(base, traffic)     # {"per_s": ...}
    decode_only(traffic)

The loop by hand has no HTTP, no second look at what was written, no recovery, no facts and no changelog: it
decodes with the project's decoder, keeps ids in a dictionary, and writes log, three summaries and
processed_generations to SQLite in batches of 4,000, each fsynced, into the project's own tables. It can't be
trusted with money; it shows what a framework and exactness cost.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks import views
from benchmarks.bench import Figures
from benchmarks.tables import Processed, Sums, Tables, connect
from benchmarks.traffic import Traffic
from streams import clock, times
from streams.generation import decode

BATCH = 4000
ZONE = "UTC"


def decode_only(traffic: Traffic) -> Figures:
    """Each event decoded and checked, and thrown away."""
    started_s = clock.monotonic_s()
    for line in traffic.lines:
        decode(line)
    return {"per_s": len(traffic.lines) / (clock.monotonic_s() - started_s)}


def by_hand(base: Path, traffic: Traffic) -> Figures:
    """The whole loop; its totals must be right too."""
    with closing(connect(base / "log.db")) as log, closing(Tables(base / "views.db")) as tables:
        log.execute('CREATE TABLE log ("offset" INTEGER PRIMARY KEY, value BLOB NOT NULL)')
        known: dict[str, bytes] = {}
        started_s = clock.monotonic_s()
        for i in range(0, len(traffic.lines), BATCH):
            _take(log, tables, known, traffic.lines[i : i + BATCH])
        took_s = clock.monotonic_s() - started_s
    views.check(base / "views.db", traffic.totals())
    return {"per_s": len(traffic.lines) / took_s}


def _take(log: sqlite3.Connection, tables: Tables, known: dict[str, bytes], lines: Sequence[bytes]) -> None:
    log.execute("BEGIN")
    log.executemany("INSERT INTO log (value) VALUES (?)", [(line,) for line in lines])
    log.execute("COMMIT")
    now_s = clock.now_ms() // 1000
    sums = Sums()
    processed: list[Processed] = []
    for line in lines:
        event = decode(line)
        if event.id in known:
            continue
        known[event.id] = line
        day, nano = times.day_of(event.created_ns or 0, ZONE), event.cost_nano or 0
        place = (event.organization, day)
        worth = (event.prompt_tokens, event.completion_tokens, nano, nano)
        sums.add((*place, event.user), (*place, event.model, event.provider), worth)
        processed.append((event.id, event.organization, day, now_s, event.total_tokens, nano))
    tables.write(sums, processed, now_s)
