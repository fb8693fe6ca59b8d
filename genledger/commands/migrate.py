"""`genledger migrate`: from a legacy SQLite database of the seeds' schema onto the log, and back."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from genledger.legacy.asked import Asked, Policy
from genledger.options import DryRun, Json, Service, WrongUse

app = App(
    name="migrate",
    help_prologue="""Examples:
  genledger migrate --validate-only --from webui.db
  genledger migrate --migrate --from webui.db --start-date 2025-01-01 --end-date 2025-12-31 --dry-run
  genledger migrate --migrate --from webui.db --start-date 2025-01-01 --end-date 2025-12-31
  genledger migrate --validate-migration --from webui.db --start-date 2025-01-01 --end-date 2025-12-31
  genledger migrate --rollback --backup-id backup_20250801_143000
""",
)

LEGACY = Path("webui.db")
_OVERLAP = Parameter(help="Days that were counted here, too: refuse, skip them, or add (no call is in both).")
_FLAG = Parameter(negative="", show_default=False)


@app.default
def migrate(
    *,
    validate_only: Annotated[bool, _FLAG, Parameter(help="Check the file and this installation.")] = False,
    migrate: Annotated[bool, _FLAG, Parameter(help="Publish its totals and its ids.")] = False,
    validate_migration: Annotated[bool, _FLAG, Parameter(help="Compare its tables with ours.")] = False,
    rollback: Annotated[bool, _FLAG, Parameter(help="Take back what a migration published.")] = False,
    from_: Annotated[
        Path | None, Parameter(name="--from", help="The legacy database; webui.db here unless given.")
    ] = None,
    start_date: Annotated[str | None, Parameter(help="The first day, such as 2025-01-01.")] = None,
    end_date: Annotated[str | None, Parameter(help="The last day, included.")] = None,
    backup_id: Annotated[
        str | None, Parameter(help="Which migration, as it was named when it began.")
    ] = None,
    overlap: Annotated[Policy, _OVERLAP] = "refuse",
    dry_run: DryRun = False,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Bring the totals and ids of a legacy database onto the log. Exit code 3 if a check finds a difference.

    Daily totals become opening balances, exact to the nano-dollar; the ids of
    processed_generations become known ids, so that a sync that reads them again
    changes nothing. Organisations and users that are missing are made; provider
    keys are not carried over. The legacy file is only read.

    The ledger is backed up first, in <data>/backups/backup_YYYYMMDD_HHMMSS.
    Interrupted, the same command goes on; run again, it adds nothing. See
    docs/migration.md.
    """
    chosen = [validate_only, migrate, validate_migration, rollback]
    if sum(chosen) != 1:
        raise WrongUse("say one of --validate-only, --migrate, --validate-migration, --rollback")
    from genledger.legacy import verbs

    asked = Asked(from_ or LEGACY, start_date, end_date, backup_id, overlap, dry_run, json)
    work = (verbs.validate_only, verbs.migrate, verbs.validate_migration, verbs.rollback)[chosen.index(True)]
    return work(service, asked)
