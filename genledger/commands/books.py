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

    `residue` is what has been read and has no fate: 0, or something is wrong.
    `in_flight` has not been read yet.
    """
    with service.client() as client:
        found = client.get("/api/v1/books")
    if json:
        print_json(found)
    else:
        rows = rows_of(found)
        # Fates that nothing has had yet would only make the table wide.
        seen = [fate for fate in FATES if any(row.get(fate) for row in rows)]
        print_rows(rows, ["partition", "read", *seen, "residue", "in_flight"], "table")
    if found["balanced"]:
        return 0
    say("The books do not balance: a record has no fate, or two. Keep the log as it is, and report this.")
    return DIFFERENT


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a partition, its fates beside its other figures."""
    return [{**row, **row.get("fates", {})} for row in found["partitions"]]
