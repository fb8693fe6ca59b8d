"""The tables' revisions: up, down, where it stands, and whether the tables are as they should be.

    upgrade(Path("data/genledger.db"))     # makes the file if need be; safe to run again
    check(Path("data/genledger.db"))       # [] when all is well, else what is wrong

Every change checks its prerequisites, runs in one transaction, verifies what it made inside it, and leaves
nothing behind when it fails. Underneath is Alembic, with the revisions in `migrations/`.
"""

import logging
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import migrations
from projections.stores.lock import FileLock
from streams.errors import SchemaMismatch

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD = "20261122_007"
_OWN = "20261121_003"  # the revision that makes genledger's own tables
SQLITE_MIN = (3, 37, 0)  # STRICT tables
_STEP = re.compile(r"[+-][0-9]{1,3}")

log = logging.getLogger(__name__)


class Revision(msgspec.Struct, frozen=True):
    """One step: its id, the one below it ('' for none), and what it says of itself."""

    id: str
    down: str
    text: str


class Table(msgspec.Struct, frozen=True):
    """What a table must have. `key` orders a dump of it; `since` is the revision that makes it.

    `later` says of a column that a later revision added it.
    """

    since: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    later: Mapping[str, str] = {}

    def columns_at(self, revision: str) -> Sequence[str]:
        """The columns that the table has at a revision."""
        return [column for column in self.columns if self.later.get(column, self.since) <= revision]


_TOTALS: tuple[str, ...] = (
    "total_tokens",
    "total_requests",
    "raw_cost",
    "markup_cost",
    "created_at",
    "updated_at",
)
_TOTALS += ("raw_cost_nano", "markup_cost_nano", "prompt_tokens", "completion_tokens", "unpriced_requests")
TABLES: dict[str, Table] = {
    "client_organizations": Table(
        "20250725_000",
        ("id",),
        (
            "id",
            "name",
            "openrouter_api_key",
            "openrouter_key_hash",
            "markup_rate",
            "monthly_limit",
            "billing_email",
            "is_active",
            "created_at",
            "updated_at",
            "markup_rate_text",
            "monthly_limit_text",
            "timezone",
            "has_settings",
        ),
    ),
    "user_client_mapping": Table(
        "20250725_000",
        ("client_org_id", "openrouter_user_id"),
        ("id", "user_id", "client_org_id", "openrouter_user_id", "is_active", "created_at", "updated_at"),
        ("idx_mapping_client",),
    ),
    "client_live_counters": Table(
        "20250725_000",
        ("client_org_id",),
        (
            "client_org_id",
            "current_date",
            "today_tokens",
            "today_requests",
            "today_raw_cost",
            "today_markup_cost",
            "last_updated",
            "today_raw_cost_nano",
            "today_markup_cost_nano",
            "today_unpriced_requests",
            "timezone",
            "last_ms",
        ),
    ),
    "client_daily_usage": Table(
        "20250725_000",
        ("client_org_id", "usage_date"),
        ("id", "client_org_id", "usage_date", "primary_model", "unique_users", *_TOTALS),
        ("idx_daily_client_date", "idx_daily_date"),
    ),
    "client_user_daily_usage": Table(
        "20250725_000",
        ("client_org_id", "usage_date", "openrouter_user_id"),
        ("id", "client_org_id", "user_id", "openrouter_user_id", "usage_date", *_TOTALS, "user_id_ms"),
        ("idx_user_daily_client_date", "idx_user_daily_date"),
    ),
    "client_model_daily_usage": Table(
        "20250725_000",
        ("client_org_id", "usage_date", "model_name"),
        ("id", "client_org_id", "model_name", "usage_date", "provider", *_TOTALS),
        ("idx_model_daily_rank", "idx_model_daily_date"),
    ),
    "processed_generations": Table(
        "20250725_001",
        ("id",),
        (
            "id",
            "client_org_id",
            "generation_date",
            "processed_at",
            "total_cost",
            "total_tokens",
            "total_cost_nano",
        ),
        ("idx_processed_client_date", "idx_processed_at", "idx_processed_generation_id"),
    ),
    "processed_generation_cleanup_log": Table(
        "20250725_002",
        ("id",),
        (
            "id",
            "cleanup_date",
            "cutoff_date",
            "days_retained",
            "records_before",
            "records_deleted",
            "records_remaining",
            "old_tokens_removed",
            "old_cost_removed",
            "storage_saved_kb",
            "cleanup_duration_seconds",
            "success",
            "error_message",
            "created_at",
            "old_cost_removed_nano",
        ),
        ("idx_cleanup_date_success",),
    ),
    "positions": Table(
        _OWN,
        ("projection", "partition"),
        ("projection", "partition", "usage_offset", "source_offset", "digest", "version", "records"),
        later={"records": "20261121_004"},
    ),
    "books": Table(_OWN, ("partition", "fate"), ("partition", "fate", "records")),
    "model_daily_providers": Table(
        _OWN,
        ("client_org_id", "usage_date", "model_name", "provider"),
        ("client_org_id", "usage_date", "model_name", "provider", "total_requests", "raw_cost_nano"),
    ),
    "generation_conflicts": Table(
        "20261121_005",
        ("generation_id", "holder_org_id", "claimant_org_id"),
        (
            "id",
            "generation_id",
            "holder_org_id",
            "claimant_org_id",
            "times",
            "taken_over",
            "created_at",
            "updated_at",
        ),
        (
            *("idx_conflicts_generation", "idx_conflicts_holder"),
            *("idx_conflicts_claimant", "idx_conflicts_updated"),
        ),
    ),
    "usage_points": Table(
        "20261122_006",
        ("id",),
        (
            "id",
            "client_org_id",
            "usage_date",
            "time_ns",
            "model_name",
            "provider",
            "source",
            "user_id",
            "openrouter_user_id",
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "raw_cost",
            "markup_cost",
            "raw_cost_nano",
            "markup_cost_nano",
            "latency_ms",
            "logged_ms",
        ),
        ("idx_points_client_date",),
    ),
    "cleanup_partitions": Table("20261122_007", ("partition",), ("partition", "known_ids", "run")),
    "cleanup_pieces": Table(
        "20261122_007",
        ("run", "partition"),
        (
            "run",
            "partition",
            "started_ms",
            "ended_ms",
            "cutoff_ns",
            "horizon_ns",
            "days",
            "partitions",
            "records_before",
            "records_deleted",
            "tokens_removed",
            "cost_removed_nano",
            "outcome",
            "error",
        ),
    ),
    "cleanup_organizations": Table(
        "20261122_007",
        ("run", "client_org_id"),
        (
            "run",
            "client_org_id",
            "records_deleted",
            "tokens_removed",
            "cost_removed_nano",
            "oldest_day",
            "newest_day",
        ),
    ),
}


def columns_of(connection: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """A table's own columns, without those that SQLite makes of others; and its primary key."""
    found = connection.execute(f"PRAGMA main.table_xinfo({table})").fetchall()
    key = [row[1] for row in sorted(found, key=lambda row: row[5]) if row[5]]
    return [row[1] for row in found if row[6] == 0], key


def upgrade(path: Path, revision: str = "head") -> str:
    """Bring the tables up to a revision; the one they are at then."""
    from alembic import command

    check_revision(revision)
    _check_stamp(path)
    return _change(path, lambda config: command.upgrade(config, revision), f"upgrade to {revision}")


def downgrade(path: Path, revision: str) -> str:
    """Take the tables down to a revision (`base` for none), with the rows they hold."""
    from alembic import command

    check_revision(revision)
    _check_stamp(path)
    return _change(path, lambda config: command.downgrade(config, revision), f"downgrade to {revision}")


def stamp(path: Path, revision: str) -> str:
    """Say which revision the tables are at, without touching them; refused if they are not like it."""
    from alembic import command

    check_stamp(path, revision)
    return _change(path, lambda config: command.stamp(config, revision), f"stamp as {revision}")


def check_revision(revision: str) -> None:
    """Refuse what names no revision; `head`, `base` and steps such as +1 or -1 do."""
    known = [step.id for step in history()]
    if revision not in (*known, "head", "base") and _STEP.fullmatch(revision) is None:
        raise SchemaMismatch(f"there is no revision {revision}: they are {', '.join(known)}, head and base")


def check_stamp(path: Path, revision: str) -> None:
    """Refuse a revision that the tables of a file are not like."""
    check_revision(revision)
    if _STEP.fullmatch(revision):
        raise SchemaMismatch(f"{revision} is a step: name the revision that the tables are like")
    wanted = {"head": HEAD, "base": ""}.get(revision, revision)
    found, problems = like(path), differences(path, wanted)
    if found == wanted and not problems:
        return
    said = "no revision" if found is None else f"revision {found or 'base'}"
    why = f" ({'; '.join(problems)})" if problems else ""
    raise SchemaMismatch(f"{path} was not stamped: its tables are like {said}, not like {revision}{why}")


def like(path: Path) -> str | None:
    """The revision whose tables a file has, whatever its stamp says; '' for none of them, None for a mix."""
    names = ["", *(step.id for step in history())]
    if not path.exists():
        return ""
    with closing(_reader(path)) as connection:
        _current(connection, path)
        found = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        for revision in reversed(names):
            newer = {name for name, table in TABLES.items() if table.since > revision}
            if not newer & found and not _differences(connection, revision):
                return revision
    return None


def differences(path: Path, revision: str) -> Sequence[str]:
    """What a file's tables lack of what a revision makes, one line each."""
    if not path.exists():
        return [f"table {name} is missing" for name, table in TABLES.items() if table.since <= revision]
    with closing(_reader(path)) as connection:
        return _differences(connection, revision)


def current(path: Path) -> str:
    """The revision of a file's tables; '' when it has none, or there is no file."""
    if not path.exists():
        return ""
    with closing(_reader(path)) as connection:
        return _current(connection, path)


def history() -> Sequence[Revision]:
    """Every revision, the first one first."""
    from alembic.script import ScriptDirectory

    found = list(ScriptDirectory.from_config(_config()).walk_revisions())
    return [Revision(r.revision, str(r.down_revision or ""), r.doc) for r in reversed(found)]


def check(path: Path) -> Sequence[str]:
    """What is wrong with a file's tables, one line each; empty when they are this version's."""
    if not path.exists():
        return [f"{path} does not exist: run `genledger db upgrade`"]
    with closing(_reader(path)) as connection:
        revision = _current(connection, path)
        if revision != HEAD:
            return [f"{path} is at revision {revision or 'none'}, not {HEAD}: run `genledger db upgrade`"]
        problems = _differences(connection, revision)
        damage = [row[0] for row in connection.execute("PRAGMA quick_check(10)")]
    return [*problems, *(text for text in damage if text != "ok")]


def require_head(path: Path) -> None:
    """Refuse tables that are not this version's. Quick: it loads nothing of Alembic."""
    revision = current(path)
    if revision != HEAD:
        advice = "run `genledger db upgrade`"
        if revision > HEAD:
            advice = "a newer genledger made it, so upgrade genledger"
        raise SchemaMismatch(f"{path} is at revision {revision or 'none'}, not {HEAD}: {advice}")


def _check_stamp(path: Path) -> None:
    """Refuse to go on from a stamp that is not true: the steps from there would not fit the tables."""
    stamped = current(path)
    if stamped and stamped not in (step.id for step in history()):
        return  # a newer genledger's: said by the prerequisites
    found = like(path)
    if found is not None and found != stamped:
        raise SchemaMismatch(
            f"{path} says that it is at revision {stamped or 'none'}, but its tables are like"
            f" {found or 'base'}: run `genledger db stamp {found or 'base'}`, then this again"
        )


def _change(path: Path, work: Callable[["Config"], None], what: str) -> str:
    """Do something to the tables in one transaction, verified before it is committed."""
    _check_prerequisites(path)
    lock = FileLock(path)
    try:
        before = current(path)
        after = _in_transaction(path, work, what)
    finally:
        lock.release()
    log.info("%s: %s: %s -> %s", path, what, before or "none", after or "none")
    return after


def _in_transaction(path: Path, work: Callable[["Config"], None], what: str) -> str:
    from alembic.util import CommandError
    from sqlalchemy import create_engine, pool
    from sqlalchemy.exc import DatabaseError

    engine = create_engine("sqlite://", creator=lambda: _writer(path), poolclass=pool.NullPool)
    try:
        with engine.connect() as connection:
            # The driver would commit before DDL; it is in autocommit mode, and the transaction ours.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                work(_config(connection))
                raw = connection.connection.driver_connection
                assert isinstance(raw, sqlite3.Connection)
                after = _current(raw, path)
                if problems := _differences(raw, after):
                    raise SchemaMismatch("; ".join(problems))
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")
            return after
    except (CommandError, DatabaseError, SchemaMismatch) as error:
        reason = str(error).partition("\n")[0]
        raise SchemaMismatch(f"{path}: could not {what}, nothing was changed: {reason}") from error
    finally:
        engine.dispose()


def _check_prerequisites(path: Path) -> None:
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise SchemaMismatch(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed")
    path.parent.mkdir(parents=True, exist_ok=True)
    revision = current(path)
    known = [step.id for step in history()]
    if revision and revision not in known:
        raise SchemaMismatch(
            f"{path} is at revision {revision}, which this version does not know: upgrade genledger"
        )


def _config(connection: "Connection | None" = None) -> "Config":
    from alembic.config import Config

    config = Config()
    location = Path(migrations.__file__).parent
    # Alembic's options take % as the start of an interpolation.
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _writer(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def _reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _current(connection: sqlite3.Connection, path: Path) -> str:
    try:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return ""
        raise SchemaMismatch(f"{path} can't be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise SchemaMismatch(f"{path} is not a views' database: {error}") from error
    return found[0] if found else ""


def _differences(connection: sqlite3.Connection, revision: str) -> list[str]:
    """How the tables differ from what a revision makes. Revisions' ids stand in the order of their steps."""
    problems = []
    for name, table in TABLES.items():
        if table.since > revision:
            continue
        columns = {row[1] for row in connection.execute(f"PRAGMA table_xinfo({name})")}
        if not columns:
            problems.append(f"table {name} is missing")
            continue
        problems += [f"column {name}.{c} is missing" for c in table.columns_at(revision) if c not in columns]
        indexes = {row[1] for row in connection.execute(f"PRAGMA index_list({name})")}
        problems += [f"index {i} of {name} is missing" for i in table.indexes if i not in indexes]
    return problems
