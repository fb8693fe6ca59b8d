"""The rows of processed_generations: the last state of each id, its first log time kept."""

import sqlite3
from collections.abc import Iterator

from projections.processed import Changes
from projections.stores.pieces import pieces

_FORGET = "DELETE FROM processed_generations WHERE id = ?"
_ROW = """INSERT INTO processed_generations
    (id, client_org_id, generation_date, processed_at, total_tokens, total_cost_nano)
    VALUES (?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET
    client_org_id = excluded.client_org_id, generation_date = excluded.generation_date,
    processed_at = min(processed_at, excluded.processed_at),
    total_tokens = excluded.total_tokens, total_cost_nano = excluded.total_cost_nano"""


def write(connection: sqlite3.Connection, _partition: int, changes: Changes) -> Iterator[None]:
    """Bring the rows forward, in bounded pieces of the caller's transaction."""
    for ids in pieces(changes.forgotten):
        connection.executemany(_FORGET, [(id,) for id in ids])
        yield
    for piece in pieces(changes.rows.items()):
        connection.executemany(
            _ROW,
            [
                (id, row.organization, row.day, row.time_s, row.total_tokens, row.cost_nano)
                for id, row in piece
            ],
        )
        yield
