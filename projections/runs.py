"""Runs of the retention job as they are told: the seeds' dictionary, from a run's pieces.

>>> piece = Piece(0, 1000, None, 0, 90, 4, 14, 8, 330, 4_000_000, "running", "")
>>> told = told_of("cleanup-1", [piece], {})
>>> told["state"], told["success"], told["records_deleted"], told["old_cost_removed"]
('running', None, 8, '0.004')

A run that is under way is told of as far as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from projections.cleanup import Piece, audit_of, settled
from streams.money import text_of

LIMIT = 30
LIMIT_MAX = 366
# In an answer: of several runs each has its share.
ORGANIZATIONS_MAX = 10_000

# The newest first. `started` of a run is its first beginning.
NEWEST = """SELECT run, min(started_ms) AS started FROM cleanup_pieces
    GROUP BY run ORDER BY started DESC, run LIMIT ?"""
PIECES = f"""SELECT run, {", ".join(f'"{name}"' for name in Piece.__struct_fields__)} FROM cleanup_pieces
    WHERE run IN (SELECT value FROM json_each(?)) ORDER BY run, "partition" """
# The largest of each run, so many. How many there are in all is counted beside.
ORGANIZATIONS = """SELECT run, client_org_id, records_deleted, tokens_removed, cost_removed_nano, oldest_day,
    newest_day, organizations FROM (
        SELECT *, count(*) OVER (PARTITION BY run) AS organizations,
        row_number() OVER (PARTITION BY run ORDER BY records_deleted DESC, client_org_id) AS place
        FROM cleanup_organizations WHERE run IN (SELECT value FROM json_each(?))
    ) WHERE place <= ? ORDER BY run, place"""
# The newest row that says so, and the newest of all: by the index on cleanup_date.
LATEST = """SELECT id, records_deleted, storage_saved_kb, cleanup_duration_seconds, success, error_message,
    created_at FROM processed_generation_cleanup_log ORDER BY cleanup_date DESC LIMIT ?"""
SUCCEEDED = """SELECT max(created_at) AS last_s FROM processed_generation_cleanup_log WHERE success = 1"""
# Whether there is anything that a run would be missed for: ids, of days long past, for more than a moment.
AT_HAND = """SELECT (SELECT sum(known_ids) FROM cleanup_partitions) AS ids,
    (SELECT min(usage_date) FROM client_daily_usage) AS oldest_day,
    (SELECT min(created_at) FROM client_organizations) AS since_s"""


def told_of(
    run: str,
    pieces: Sequence[Piece],
    organizations: Mapping[str, Mapping[str, Any]],
    count: int | None = None,
) -> dict[str, Any]:
    """A run as it stands. `count`: of how many organisations ids went, where not all are given. Pure."""
    audit, over = audit_of(run, pieces), settled(pieces)
    state = "running" if not over else "ended" if audit.success else "failed"
    return {
        "run": run,
        "state": state,
        "success": bool(audit.success) if over else None,
        "cleanup_date": audit.cleanup_date,
        "cutoff_date": audit.cutoff_date,
        "days_retained": audit.days_retained,
        "records_before": audit.records_before,
        "records_deleted": audit.records_deleted,
        "records_remaining": audit.records_remaining,
        "old_tokens_removed": audit.old_tokens_removed,
        "old_cost_removed": text_of(audit.old_cost_removed_nano),
        "storage_saved_kb": audit.storage_saved_kb,
        "cleanup_duration_seconds": audit.cleanup_duration_seconds,
        "error_message": audit.error_message if over else None,
        "organizations": len(organizations) if count is None else count,
        "organization_breakdown": {name: dict(part) for name, part in organizations.items()},
    }


def part_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What went of one organisation. Pure."""
    return {
        "records_deleted": row["records_deleted"],
        "old_tokens_removed": row["tokens_removed"],
        "old_cost_removed": text_of(row["cost_removed_nano"]),
        "oldest_date": row["oldest_day"],
        "newest_date": row["newest_day"],
    }
