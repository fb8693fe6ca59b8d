"""`genledger status`: what runs, and how far behind it is."""

from typing import Any

from cyclopts import App

from genledger.options import Json, Service
from genledger.output import print_json, print_rows, visible

app = App(
    name="status",
    help_prologue="""Examples:
  genledger status
  genledger status --json
""",
)


@app.default
def status(*, service: Service = Service(), json: Json = False) -> int:
    """Show each role, whether it is well, and how many records it is behind. Exit code 1 if one is not.

    Alarms, the last proof, the last comparison and the last runs of the sync stand below; they don't change
    the exit code.
    """
    with service.client() as client:
        found = client.get("/api/v1/status")
    if json:
        print_json(found)
    else:
        print_rows(rows_of(found), ["role", "state", "lag_records"], "table")
        if found.get("proof"):
            print(told_of(found["proof"]))
        if found.get("reconciliation"):
            print(compared_of(found["reconciliation"]))
        for name, text in (found.get("alarms") or {}).items():
            print(f"ALARM {name}: {text}")
        for report in (found.get("sync") or {}).values():
            print(synced_of(report))
    return 0 if all(state == "ok" for state in found["roles"].values()) else 1


def told_of(proof: dict[str, Any]) -> str:
    """The last proof in a line."""
    found = (
        "the views held" if proof["holds"] else f"{proof['differences']} DIFFERENCES: see `genledger prove`"
    )
    return f"last proof {proof['time']}: {found}, {proof['records']} records, digest {proof['digest']}"


def compared_of(found: dict[str, Any]) -> str:
    """The last comparison with InfluxDB in a line."""
    sides = "SQLite, InfluxDB and the log" if found["influxdb"] else "SQLite and the log"
    said = "agreed" if found["holds"] else f"{found['differences']} DIFFERENCES: see `genledger reconcile`"
    return f"last reconciled {found['time']}: {sides}: {said}, {found['compared']} days of models"


def synced_of(report: dict[str, Any]) -> str:
    """The last run of one organisation's sync in a line."""
    head = f"last sync of {visible(report['organization'])} {report['started_at']}"
    if report["error"]:
        return f"{head}: FAILED: {visible(report['error'])}"
    missing = "" if report["missing"] is None else f", {report['missing']} missing"
    return (
        f"{head}: {report['synced_generations']} new, {report['amended']} amended,"
        f" {report['awaited']} awaited{missing}"
    )


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each role."""
    return [
        {"role": role, "state": state, "lag_records": found["lag"].get(role)}
        for role, state in found["roles"].items()
    ]
