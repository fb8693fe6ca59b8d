"""`genledger books`: does every record read have its one fate?"""

from typing import Any

from cyclopts import App

from genledger.options import Json, Service
from genledger.output import print_json, print_rows, say
from streams.fact import FATES

app = App(
    name="books",
    help_prologue="""Examples:
  genledger books
  genledger books --json
""",
)

DIFFERENT = 3


@app.default
def books(*, service: Service = Service(), json: Json = False) -> int:
    """The balance of each partition: records read = the sum of their fates. Exit code 3 if it is not.

    `residue` is records that were read and have no fate, or have two: 0, or
    something is wrong.
    """
    with service.client() as client:
        rows = balance_of(client.get("/api/v1/books"))
    if json:
        print_json(rows)
    else:
        # Fates that nothing has had yet would only make the table wide.
        seen = [fate for fate in FATES if any(row[fate] for row in rows)]
        print_rows(rows, ["partition", "read", *seen, "residue"], "table")
    if not any(row["residue"] for row in rows):
        return 0
    say("The books do not balance: keep the log as it is, and report this.")
    return DIFFERENT


def balance_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each partition: what was read, by the view's position, against what became of it."""
    offsets = {
        row["partition"]: row["source_offset"]
        for row in found["positions"]
        if row["projection"] == "summaries"
    }
    partitions = {int(partition): row["fates"] for partition, row in found["partitions"].items()}
    rows = []
    for partition in sorted({*offsets, *partitions}):
        fates = partitions.get(partition, {})
        read = offsets.get(partition, -1) + 1
        row: dict[str, Any] = {"partition": partition, "read": read}
        row |= {fate: fates.get(fate, 0) for fate in FATES}
        rows.append(row | {"residue": read - sum(fates.values())})
    return rows
