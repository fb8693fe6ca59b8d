"""The four things that `genledger migrate` does, and how what came of them is printed.

code = validate_only(service, asked)
"""

from typing import Any

from genledger.legacy import backups, here
from genledger.legacy.asked import Asked
from genledger.legacy.backups import Manifest
from genledger.legacy.comparing import Compared, compared
from genledger.legacy.findings import Finding, Findings
from genledger.legacy.migration import Migration, Order, Prepared, Refusal
from genledger.legacy.source import day_text, legacy
from genledger.options import Service, WrongUse
from genledger.output import print_json, print_rows, say, visible
from streams.errors import GenledgerError
from streams.money import text_of
from streams.settings import Settings

FAILED, DIFFERENT = 1, 3
FIRST_DAY, LAST_DAY = "0001-01-01", "9999-12-31"
SHOWN_MAX = 100


def validate_only(service: Service, asked: Asked) -> int:
    """The file by itself first: what is wrong with it is said, also when no service answers."""
    settings, found, prepared = service.settings(), Findings(), None
    order = _order(asked, everything=True)
    with legacy(asked.file) as source:
        source.check(found)
        sums = {} if found.errors else source.check_rows(order.first_day, order.last_day, found)
        try:
            with service.client(offline=True) as client:
                checked = Findings()
                prepared = Migration(settings, client).check(source, order, checked)
                found = checked
        except GenledgerError as error:
            found.error("this installation", str(error), "mend that, then check again")
    totals = [
        {
            "table": name,
            "rows": one.rows,
            "requests": one.requests,
            "total_tokens": one.total_tokens,
            "raw_cost": text_of(one.cost_nano),
            "markup_cost": text_of(one.markup_nano),
        }
        for name, one in sums.items()
    ]
    if asked.json:
        print_json({"tables": totals, **_told(found, prepared)})
    else:
        print_rows(totals, ["table", "rows", "requests", "total_tokens", "raw_cost", "markup_cost"], "table")
        _say_findings(found)
        if prepared is not None:
            _say_prepared(prepared)
    return DIFFERENT if found.errors else 0


def migrate(service: Service, asked: Asked) -> int:
    """Begin, or go on, or with --dry-run say what would be done."""
    settings, found, order = service.settings(), Findings(), _order(asked)
    with legacy(asked.file) as source, service.client(offline=True) as client:
        migration = Migration(settings, client)
        if asked.dry_run:
            prepared = migration.check(source, order, found)
            if asked.json:
                print_json(_told(found, prepared))
            else:
                _say_findings(found)
                _say_prepared(prepared)
            return FAILED if found.errors else 0
        try:
            manifest = migration.migrate(source, order, found)
        except Refusal:
            _say_findings(found)
            raise
    _say_findings(found)
    if manifest is None:
        say("everything of these days is there already: nothing was published")
        return 0
    _tell_manifest(manifest, asked)
    say(f"to take it back: genledger migrate --rollback --backup-id {manifest.id}")
    return 0


def validate_migration(service: Service, asked: Asked) -> int:
    """The file beside the views."""
    settings, found, order = service.settings(), Findings(), _order(asked)
    manifests = _standing(settings)
    with legacy(asked.file) as source, here.views(settings) as views:
        source.check(found)
        newest = _newest(manifests)
        if left := views.behind(newest):
            raise GenledgerError(f"the views have {left} records of the migration to read yet: try again")
        tables = compared(source, views, order.first_day, order.last_day, manifests, found)
    _say_findings(found)
    if asked.json:
        print_json({"tables": tables, "findings": found.all()})
    else:
        print_rows([_row_of(table) for table in tables], _COMPARED, "table")
        _show_differences(tables)
    return DIFFERENT if found.errors or any(table.differing for table in tables) else 0


def _standing(settings: Settings) -> list[Manifest]:
    found = [folder.manifest() for folder in backups.every(settings)]
    return [manifest for manifest in found if manifest.state in ("publishing", "done")]


def _newest(manifests: list[Manifest]) -> dict[int, int]:
    newest: dict[int, int] = {}
    for manifest in manifests:
        for partition, offset in manifest.newest.items():
            newest[int(partition)] = max(offset, newest.get(int(partition), -1))
    return newest


_COMPARED = ["table", "rows", "rows_here", "requests", "requests_here", "total_tokens", "total_tokens_here"]
_COMPARED += ["raw_cost", "raw_cost_here", "markup_cost", "markup_cost_here", "left_out", "differing"]


def _row_of(table: Compared) -> dict[str, Any]:
    row: dict[str, Any] = {"table": table.table, "differing": table.differing, "left_out": table.left_out}
    for suffix, side in (("", table.legacy), ("_here", table.here)):
        row |= {f"rows{suffix}": side.rows, f"requests{suffix}": side.requests}
        row[f"total_tokens{suffix}"] = side.total_tokens
        row[f"raw_cost{suffix}"] = text_of(side.cost_nano)
        row[f"markup_cost{suffix}"] = text_of(side.markup_nano)
    return row


def _show_differences(tables: list[Compared]) -> None:
    for table in tables:
        for one in table.differences[:SHOWN_MAX]:
            name = " ".join(map(visible, (one.table, one.organization, one.day, one.row))).rstrip()
            print(f"{name}: {_shown(one.legacy)} in the file, {_shown(one.here)} here")
        if table.differing > SHOWN_MAX:
            print(f"{table.table}: {table.differing - SHOWN_MAX} more rows differ")


def _shown(side: Any) -> str:
    return (
        "nothing" if side is None else ", ".join(f"{name} {visible(value)}" for name, value in side.items())
    )


def rollback(service: Service, asked: Asked) -> int:
    """Take one migration back."""
    if asked.backup_id is None:
        known = ", ".join(folder.id for folder in backups.every(service.settings())) or "none"
        raise WrongUse(f"--rollback needs --backup-id; there are {known}")
    with service.client(offline=True) as client:
        manifest = Migration(service.settings(), client).roll_back(asked.backup_id, dry_run=asked.dry_run)
    _tell_manifest(manifest, asked)
    if manifest.organizations_made:
        say(
            "organisations that it made stay, and count nothing: their settings are part of the log's history"
        )
    return 0


def _order(asked: Asked, *, everything: bool = False) -> Order:
    first, last = asked.start_date, asked.end_date
    if everything:
        first, last = first or FIRST_DAY, last or LAST_DAY
    if first is None or last is None:
        raise WrongUse("name the days with --start-date and --end-date, both such as 2025-01-31")
    try:
        first, last = day_text(first, "--start-date"), day_text(last, "--end-date")
    except GenledgerError as error:
        raise WrongUse(str(error)) from None
    if first > last:
        raise WrongUse("--start-date is after --end-date")
    return Order(first, last, asked.overlap)


def _told(found: Findings, prepared: Prepared | None) -> dict[str, Any]:
    return {"findings": found.all(), "would": prepared}


def _say_findings(found: Findings) -> None:
    for one in found.all():
        say(_text_of(one))


def _text_of(one: Finding) -> str:
    more = f" and {one.count - len(one.places)} more" if one.count > len(one.places) else ""
    mend = f"\n  -> {one.mend}" if one.mend else ""
    return f"{one.level}: {'; '.join(one.places)}{more}: {one.what}{mend}"


def _say_prepared(prepared: Prepared) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in prepared.entries.items())
    say(f"entries to be published: {counts}; {prepared.unchanged} are there already")
    names = ", ".join(map(visible, prepared.organizations)) or "none"
    say(f"organisations to be made: {names}; users to be mapped: {prepared.users}")


def _tell_manifest(manifest: Manifest, asked: Asked) -> None:
    if asked.json:
        print_json(manifest)
        return
    counts = ", ".join(f"{count} {name}" for name, count in manifest.entries.items())
    done = manifest.taken_back if manifest.state.startswith("roll") else manifest.published
    print(f"{manifest.id}: {manifest.state}, {done} entries ({counts})")
