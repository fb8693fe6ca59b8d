"""`genledger status`: what runs, and how far behind it is."""

from typing import Any

from cyclopts import App

from genledger.options import Json, Service
from genledger.output import print_json, print_rows, visible

# Of tables and topics: the largest. All of them are in --json.
SHOWN = 8

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

    Alarms, the last proof, the last comparison, the clean-up and the last runs of the sync stand below; they
    don't change the exit code.
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
        if found.get("cleanup"):
            print(cleaned_of(found["cleanup"]))
        for name, text in (found.get("alarms") or {}).items():
            print(f"ALARM {name}: {text}")
        if found.get("sizes"):
            print("\n".join(sizes_of(found["sizes"])))
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


def cleaned_of(found: dict[str, Any]) -> str:
    """How ids are forgotten, in a line."""
    head = f"clean-up: ids are kept for {found['days']} days"
    if not found["enabled"]:
        head = "clean-up: OFF, nothing is forgotten (CLEANUP_ENABLED)"
    last = "no run yet"
    if found["run"]:
        state = {"running": "is under way", "ended": "ended", "failed": "FAILED"}[found["state"]]
        count = "" if found["forgotten"] is None else f", {found['forgotten']} ids forgotten"
        last = f"{found['run']} {state}{count}"
    horizon = f", horizon {found['horizon_date']}" if found["horizon_date"] else ""
    following = f", next {found['next']}" if found["next"] else ""
    return f"{head}; {last}{horizon}{following}"


def sizes_of(found: dict[str, Any]) -> list[str]:
    """A line for topics, state, and the tables, the largest first; names are the service's own."""
    lines = []
    for part in ("topics", "files", "tables"):
        sizes = sorted((found.get(part) or {}).items(), key=lambda item: -item[1].get("bytes", 0))
        shown = [f"{name} {size_of(size)}" for name, size in sizes if any(size.values())]
        more = f", and {len(shown) - SHOWN} smaller" if len(shown) > SHOWN else ""
        if shown:
            lines.append(f"{part}: {', '.join(shown[:SHOWN])}{more}")
    if found.get("state"):
        lines.append(f"state: {found['state']['ids']} ids, {size_of({'bytes': found['state']['bytes']})}")
    return lines


def size_of(size: dict[str, int]) -> str:
    """What is known of one thing's size.

    >>> size_of({"records": 7, "bytes": 1_500_000}), size_of({"bytes": 900})
    ('7 (1.5 MB)', '0.9 KB')
    """
    if "bytes" not in size:
        return str(size["records"])
    large = size["bytes"] >= 1_000_000
    text = f"{size['bytes'] / 1e6:.1f} MB" if large else f"{size['bytes'] / 1e3:.1f} KB"
    return f"{size['records']} ({text})" if "records" in size else text


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
