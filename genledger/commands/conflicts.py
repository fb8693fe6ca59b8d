"""`genledger conflicts`: which generation ids were claimed by two organisations."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from genledger.options import Json, Service
from genledger.output import print_json, print_rows, say

app = App(
    name="conflicts",
    help_prologue="""Examples:
  genledger conflicts
  genledger conflicts --org acme --from 2026-11-01 --to 2026-11-30
""",
)

COLUMNS = ["id", "holder", "claimant", "times", "taken_over", "first_at", "last_at"]


@app.default
def conflicts(
    *,
    org: Annotated[str | None, Parameter(help="Only those in which it has a part.")] = None,
    from_: Annotated[str | None, Parameter(name="--from", help="The first day, in UTC.")] = None,
    to: Annotated[str | None, Parameter(help="The last day, itself within.")] = None,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """List the ids that were claimed by two organisations, the latest first.

    The first one read keeps an id. Only a read-back with the claimant's own provider
    key takes it over, and its money with it. To a key of one organisation the other
    one has no name. The bytes of each claim: `genledger rejected list`.
    """
    with service.client() as client:
        found = client.get("/api/v1/conflicts", org=org, **{"from": from_, "to": to})
    if json:
        print_json(found["rows"])
    else:
        print_rows([_row(row) for row in found["rows"]], COLUMNS, "table")
    if found["truncated"]:
        say("There are more: name fewer days, or an organisation.")
    return 0


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """An organisation that the caller may not know is not a name."""
    return row | {name: row[name] or "(another)" for name in ("holder", "claimant")}
