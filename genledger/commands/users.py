"""`genledger users`: which of the application's users is behind a provider's user id."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from genledger.options import Json, Service
from genledger.output import print_json, print_rows

app = App(
    name="users",
    help="Users: which of your users is behind a provider's user id.",
    help_prologue="""Examples:
  genledger users map --org acme --user or-7f3 --to alice
  genledger users list --org acme
""",
)

ROUTE = "/api/v1/users"
COLUMNS = ["organization", "user", "user_id", "effective"]

Org = Annotated[str, Parameter(help="The organisation.")]


@app.command(
    name="map",
    help_prologue="""Examples:
  genledger users map --org acme --user or-7f3 --to alice
  genledger users map --org acme --user or-7f3 --to bob --effective 2026-12-01
""",
)
def map_(
    *,
    org: Org,
    user: Annotated[str, Parameter(help="The provider's user id, as events have it.")],
    to: Annotated[str, Parameter(help="Your user's id; '' ends the mapping.")],
    effective: Annotated[
        str | None, Parameter(help="From which day on. Absent: always for the first, else today.")
    ] = None,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Say who a provider's user is, from a day on. What is counted already stays as it was."""
    body = {"organization": org, "user": user, "user_id": to or None, "effective": effective}
    given = {name: value for name, value in body.items() if value is not None or name == "user_id"}
    with service.client(offline=True) as client:
        found = client.post(ROUTE, given)
    if json:
        print_json(found)
    else:
        print_rows(rows_of([found]), COLUMNS, "table")
    return 0


@app.command(
    name="list",
    help_prologue="""Examples:
  genledger users list --org acme
  genledger users list --org acme --json
""",
)
def list_(*, org: Org, service: Service = Service(), json: Json = False) -> int:
    """List an organisation's mapped users."""
    with service.client(offline=True) as client:
        found = client.get(ROUTE, org=org)["users"]
    if json:
        print_json(found)
    else:
        print_rows(rows_of(found), COLUMNS, "table")
    return 0


def rows_of(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each mapping, in the order in which they begin to count."""
    return [{**user, **mapping} for user in users for mapping in user["history"]]
