"""`genledger books`: does every record read have its one fate?"""

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
    something is wrong. What each fate means: docs/fates.md.
    """
    with service.client() as client:
        found = client.get("/api/v1/books")
    if json:
        print_json(found)
    else:
        rows = [row | {fate: row["fates"].get(fate, 0) for fate in FATES} for row in found["partitions"]]
        # Fates that nothing has had yet would only make the table wide.
        seen = [fate for fate in FATES if any(row[fate] for row in rows)]
        print_rows(rows, ["partition", "records", *seen, "in_flight", "residue"], "table")
    if found["balanced"]:
        return 0
    say("The books do not balance: keep the log as it is, and report this.")
    return DIFFERENT
