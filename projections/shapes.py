"""What the read routes answer, for the OpenAPI document: one type for each JSON body.

Rows come from the views as they are; tests/fuzz holds every answer against its type, names included.
Money is decimal text of dollars, times are seconds since 1970 unless they are text.
"""

from typing import Literal

import msgspec


class Figures(msgspec.Struct, kw_only=True):
    """One day's sums."""

    id: str
    client_org_id: str
    usage_date: str
    total_tokens: int
    total_requests: int
    raw_cost: str
    markup_cost: str
    prompt_tokens: int
    completion_tokens: int
    unpriced_requests: int
    created_at: int
    updated_at: int


class DayRow(Figures):
    """An organisation's day; no model leads where nothing is counted any more."""

    primary_model: str | None
    unique_users: int


class UserRow(Figures):
    """A user's day."""

    user_id: str
    openrouter_user_id: str


class ModelRow(Figures):
    """A model's day."""

    model_name: str
    provider: str | None


class Daily(msgspec.Struct):
    """Days of organisations; `truncated`: there are more than an answer may hold."""

    rows: list[DayRow]
    truncated: bool


class Users(msgspec.Struct):
    """Days of users."""

    rows: list[UserRow]
    truncated: bool


class Models(msgspec.Struct):
    """Days of models."""

    rows: list[ModelRow]
    truncated: bool


class PointRow(msgspec.Struct, kw_only=True):
    """One call; a cost or latency that nobody knows is null."""

    id: str
    client_org_id: str
    usage_date: str
    time: str
    model_name: str
    provider: str
    source: str
    user_id: str
    openrouter_user_id: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    raw_cost: str | None
    markup_cost: str | None
    latency_ms: int | None
    logged_at: str


class Points(msgspec.Struct):
    """Raw points; `next` goes into `cursor`: null when there is no more."""

    rows: list[PointRow]
    next: str | None


class LiveRow(msgspec.Struct):
    """An organisation's counters of its own today."""

    client_org_id: str
    current_date: str
    today_tokens: int
    today_requests: int
    today_raw_cost: str
    today_markup_cost: str
    today_unpriced_requests: int
    timezone: str
    last_updated: int


class LiveCounters(msgspec.Struct):
    """Today's counters."""

    rows: list[LiveRow]
    truncated: bool


class PartitionBooks(msgspec.Struct):
    """What became of a partition's records, by fate."""

    partition: int
    records: int
    read: int
    in_flight: int
    residue: int
    fates: dict[str, int]


class Books(msgspec.Struct):
    """The books of every partition."""

    balanced: bool
    partitions: list[PartitionBooks]


class ConflictRow(msgspec.Struct):
    """An id that two organisations claimed; null is one whom the caller may not know."""

    id: str
    holder: str | None
    claimant: str | None
    times: int
    taken_over: bool
    first_at: str
    last_at: str


class CleanupPart(msgspec.Struct):
    """What a run has forgotten of one organisation; its totals stay."""

    records_deleted: int
    old_tokens_removed: int
    old_cost_removed: str
    oldest_date: str
    newest_date: str


class CleanupRun(msgspec.Struct):
    """A run of the retention job: `success` and `error_message` are null while it runs.

    The breakdown has the largest of so many `organizations`.
    """

    run: str
    state: Literal["running", "ended", "failed"]
    success: bool | None
    cleanup_date: str
    cutoff_date: str
    days_retained: int
    records_before: int
    records_deleted: int
    records_remaining: int
    old_tokens_removed: int
    old_cost_removed: str
    storage_saved_kb: float
    cleanup_duration_seconds: float
    error_message: str | None
    organizations: int
    organization_breakdown: dict[str, CleanupPart]


class CleanupRuns(msgspec.Struct):
    """The newest first; `truncated`: there are older ones."""

    rows: list[CleanupRun]
    truncated: bool


class Conflicts(msgspec.Struct):
    """The latest first."""

    rows: list[ConflictRow]
    truncated: bool
