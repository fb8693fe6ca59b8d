"""`genledger sync`: generations read back from the provider."""

import time
from typing import Annotated, Any

from cyclopts import App, Parameter

from genledger.client import Client
from genledger.options import Json, Service
from genledger.output import print_json, print_rows, say, visible
from genledger.progress import Progress
from streams.errors import GenledgerError

app = App(
    name="sync",
    help_prologue="""Examples:
  genledger sync
  genledger sync --once
  genledger sync --once --org acme --json
""",
)


class CutOff(GenledgerError):
    """A run has begun, and nobody has reported how it went."""


LOOK_EVERY_S = 0.3
# The table's headings, for a terminal's width; --json has all that a report says.
COLUMNS = {
    "organization": "organization",
    "started_at": "started_at",
    "synced_generations": "new",
    "amended": "amended",
    "duplicates_skipped": "known",
    "failed": "failed",
    "not_found": "not_found",
    "awaited": "awaited",
    "missing": "missing",
    "seconds": "seconds",
}


@app.default
def sync(
    *,
    once: Annotated[
        bool, Parameter(negative="", show_default=False, help="Run now, and wait for the end.")
    ] = False,
    org: Annotated[str | None, Parameter(help="Only this organisation.")] = None,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Show how the last runs of the sync went, or run it now. Exit code 1 if a run that is shown has failed.

    The running service does it by itself every BACKGROUND_SYNC_INTERVAL seconds,
    for each organisation that has a provider key (`genledger orgs set ID
    --provider-key env:NAME`). What the ledger lacks, or holds with lower authority,
    is published as the provider has it; nothing counts twice.

    `awaited` ids are known, and the provider has not told their figures yet.
    `missing` is how many generations the provider's own activity has more than
    the ledger; it needs a management key (`--management-key`).
    """
    with service.client() as client:
        reports = run_now(client, org) if once else client.get("/api/v1/sync", org=org)["last"]
    if json:
        print_json(reports)
    else:
        rows = [{head: report[name] for name, head in COLUMNS.items()} for report in reports]
        print_rows(rows, list(COLUMNS.values()), "table")
    if not reports:
        say("there was no run yet: each organisation that has a provider key gets one at once")
    for report in reports:
        if report["error"]:
            say(f"{visible(report['organization'])}: {visible(report['error'])}")
    return 1 if any(report["error"] for report in reports) else 0


def run_now(client: Client, org: str | None, *, everything: bool = False) -> list[dict[str, Any]]:
    """Begin a run and wait for it: the reports that have come since, of each organisation the newest.

    `everything`: also what was put off, and the whole list.
    """
    before = {_run_of(report) for report in client.get("/api/v1/sync", org=org)["last"]}
    begun = client.post("/api/v1/sync", {"organization": org or "", "everything": everything})[
        "organizations"
    ]
    if not begun:
        say("no organisation has a provider key: genledger orgs set ID --provider-key env:NAME")
    with Progress("syncing", "organisations") as progress:
        while True:
            found = client.get("/api/v1/sync", org=org)
            running = set(found["running"]) & set(begun)
            progress.moved(len(begun) - len(running), len(begun))
            if not running:
                break
            time.sleep(LOOK_EVERY_S)
    reports = [report for report in found["last"] if _run_of(report) not in before]
    if absent := set(begun) - {report["organization"] for report in reports}:
        raise CutOff(f"{len(absent)} runs were cut off, by a stop or another leader: see `genledger sync`")
    return reports


def _run_of(report: dict[str, Any]) -> tuple[str, str]:
    return report["organization"], report["started_at"]
