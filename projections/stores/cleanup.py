"""The rows of the audit: known ids of a partition, runs' pieces, what each organisation lost, and runs' rows.

A run's row is made of its pieces anew after each batch that has to do with it, so a late tombstone still
shows, and neither batches nor the order of the partitions make a difference.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from projections.cleanup import Audit, Began, Changes, Ended, Forgotten, Gone, Piece, audit_of, settled
from projections.stores.pieces import pieces
from projections.stores.summaries import SUM_MAX, sum_of

_READ_PARTITION = 'SELECT known_ids, run FROM cleanup_partitions WHERE "partition" = ?'
_WRITE_PARTITION = """INSERT INTO cleanup_partitions ("partition", known_ids, run) VALUES (?,?,?)
    ON CONFLICT DO UPDATE SET known_ids = excluded.known_ids, run = excluded.run"""
# A run that was overtaken and begins once more goes on with what it has.
_BEGIN = """INSERT INTO cleanup_pieces (run, "partition", started_ms, cutoff_ns, horizon_ns, days, partitions,
    records_before, records_deleted, tokens_removed, cost_removed_nano, outcome, error)
    VALUES (?,?,?,?,?,?,?,?,0,0,0,'running','')
    ON CONFLICT DO UPDATE SET outcome = 'running', error = '', ended_ms = NULL"""
_END = """UPDATE cleanup_pieces SET outcome = ?, ended_ms = ?, error = ?
    WHERE run = ? AND "partition" = ? AND outcome = 'running'"""
_HAS = 'SELECT 1 FROM cleanup_pieces WHERE run = ? AND "partition" = ?'
_ADD = f"""UPDATE cleanup_pieces SET records_deleted = records_deleted + ?,
    {sum_of("tokens_removed", "?")}, {sum_of("cost_removed_nano", "?")} WHERE run = ? AND "partition" = ?"""
_ORGANIZATION = f"""INSERT INTO cleanup_organizations
    (run, client_org_id, records_deleted, tokens_removed, cost_removed_nano, oldest_day, newest_day)
    VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET
    records_deleted = records_deleted + excluded.records_deleted,
    {sum_of("tokens_removed", "excluded.tokens_removed")},
    {sum_of("cost_removed_nano", "excluded.cost_removed_nano")},
    oldest_day = min(oldest_day, excluded.oldest_day), newest_day = max(newest_day, excluded.newest_day)"""
_PIECES = f"""SELECT {", ".join(f'"{name}"' for name in Piece.__struct_fields__)}
    FROM cleanup_pieces WHERE run = ? ORDER BY "partition" """
_FORGET_AUDIT = "DELETE FROM processed_generation_cleanup_log WHERE id = ?"
_AUDIT = f"""INSERT OR REPLACE INTO processed_generation_cleanup_log ({", ".join(Audit.__struct_fields__)})
    VALUES ({", ".join("?" * len(Audit.__struct_fields__))})"""


def write(connection: sqlite3.Connection, partition: int, changes: Changes) -> Iterator[None]:
    """Bring the rows forward, in bounded pieces of the caller's transaction."""
    if not changes.known and not changes.steps:
        return
    known, run = connection.execute(_READ_PARTITION, (partition,)).fetchone() or (0, "")
    touched: dict[str, None] = {}
    for steps in pieces(changes.steps):
        for step in steps:
            if isinstance(step, Began):
                if run not in ("", step.run):
                    overtaken = f"overtaken by run {step.run}"
                    connection.execute(_END, ("overtaken", step.started_ms, overtaken, run, partition))
                    touched[run] = None
                _begin(connection, partition, step, known + step.known)
                run = step.run
            elif isinstance(step, Ended):
                connection.execute(_END, (step.outcome, step.ended_ms, step.error, step.run, partition))
                run = "" if run == step.run else run
            if isinstance(step, Forgotten):
                touched.update(dict.fromkeys(step.runs))
                yield from _forget(connection, partition, step)
            else:
                touched[step.run] = None
        yield
    connection.execute(_WRITE_PARTITION, (partition, known + changes.known, run))
    yield from _audit(connection, touched)


def _begin(connection: sqlite3.Connection, partition: int, step: Began, before: int) -> None:
    told = (step.cutoff_ns, step.horizon_ns, step.days, step.partitions, before)
    connection.execute(_BEGIN, (step.run, partition, step.started_ms, *told))


def _forget(connection: sqlite3.Connection, partition: int, step: Forgotten) -> Iterator[None]:
    """Add what went. Tombstones of no run that has begun here forget all the same, and are in no audit."""
    for run, organizations in step.runs.items():
        if connection.execute(_HAS, (run, partition)).fetchone() is None:
            continue
        records, tokens, cost_nano = _sums(organizations.values())
        connection.execute(_ADD, (records, tokens, cost_nano, run, partition))
        for rows in pieces(organizations.items()):
            connection.executemany(_ORGANIZATION, [_row(run, name, gone) for name, gone in rows])
            yield


def _sums(found: Iterable[Gone]) -> tuple[int, int, int]:
    records = tokens = cost_nano = 0
    for gone in found:
        records += gone.records
        tokens += gone.tokens
        cost_nano += gone.cost_nano
    return records, min(tokens, SUM_MAX), min(cost_nano, SUM_MAX)


def _row(run: str, organization: str, gone: Gone) -> tuple[object, ...]:
    tokens, cost_nano = min(gone.tokens, SUM_MAX), min(gone.cost_nano, SUM_MAX)
    return run, organization, gone.records, tokens, cost_nano, gone.oldest_day, gone.newest_day


def _audit(connection: sqlite3.Connection, runs: Mapping[str, None]) -> Iterator[None]:
    """The rows of runs as their pieces say now."""
    for piece in pieces(runs):
        for run in piece:
            found = [Piece(*row) for row in connection.execute(_PIECES, (run,))]
            if settled(found):
                values = msgspec.structs.astuple(audit_of(run, found))
                connection.execute(_AUDIT, [min(v, SUM_MAX) if isinstance(v, int) else v for v in values])
            else:
                connection.execute(_FORGET_AUDIT, (run,))
        yield
