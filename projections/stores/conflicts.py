"""The rows of generation_conflicts: claims added to what is there, its first log time kept."""

import sqlite3
from collections.abc import Iterator

from projections.conflicts import Changes
from projections.stores.pieces import pieces
from streams.organizations import row_id

_FORGET = "DELETE FROM generation_conflicts WHERE generation_id = ?"
_ROW = """INSERT INTO generation_conflicts
    (id, generation_id, holder_org_id, claimant_org_id, times, taken_over, created_at, updated_at)
    VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET
    times = times + excluded.times, taken_over = taken_over + excluded.taken_over,
    created_at = min(created_at, excluded.created_at), updated_at = max(updated_at, excluded.updated_at)"""


def write(connection: sqlite3.Connection, _partition: int, changes: Changes) -> Iterator[None]:
    """Bring the rows forward, in bounded pieces of the caller's transaction."""
    for ids in pieces(changes.forgotten):
        connection.executemany(_FORGET, [(id,) for id in ids])
        yield
    rows = ((id, parties, claims) for id, found in changes.rows.items() for parties, claims in found.items())
    for piece in pieces(rows):
        connection.executemany(
            _ROW,
            [
                (row_id(id, *parties), id, *parties, c.times, c.taken_over, c.first_s, c.last_s)
                for id, parties, c in piece
            ],
        )
        yield
