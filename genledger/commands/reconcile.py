"""`genledger reconcile`: our days beside the provider's own account of them."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from genledger.client import Client, Refused
from genledger.commands.sync import run_now
from genledger.options import Json, Service, WrongUse
from genledger.output import print_json, print_rows, say, visible
from streams import clock, times

app = App(
    name="reconcile",
    help_prologue="""Examples:
  genledger reconcile --provider
  genledger reconcile --provider --org acme --day 2026-11-20
  genledger reconcile --provider --day 2026-11-20 --fix --json
""",
)

DIFFERENT = 3
FAILED = 1
# There is no management key, or the provider does not answer.
NO_ACCOUNT = frozenset(("no_management_key", "provider"))
# Less than a nano-dollar for each request: the provider rounds its sum, we round each cost.
NO_DIFFERENCE = frozenset(("rounding",))
COLUMNS = ("organization", "model", "provider", "requests", "ours", "theirs", "difference", "because")


@app.default
def reconcile(
    *,
    provider: Annotated[
        bool, Parameter(negative="", show_default=False, help="Compare with the provider's own account.")
    ] = False,
    org: Annotated[
        str | None, Parameter(help="Only this organisation; else each that has a provider key.")
    ] = None,
    day: Annotated[
        str | None, Parameter(help="A UTC day, one of the last 30; yesterday unless given.")
    ] = None,
    fix: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="First read back what can be had, by id or list."),
    ] = False,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Compare a day of each model with what the provider says of it. Exit code 3 if anything differs.

    The provider's account is OpenRouter's /activity, which needs a management key
    (`genledger orgs set ID --management-key env:NAME`) and tells of the last 30
    completed days, in UTC. Each difference is shared out among its causes, which
    add up to it: missing_here, missing_there, unpriced, amended_later,
    day_boundary (the same calls, on the other side of midnight), unexplained.

    --fix changes nothing by hand: what the provider tells is published, and the
    ledger decides. What no id leads to stays missing, and is shown.
    """
    if not provider:
        raise WrongUse("say what to compare with: --provider")
    day = day or times.utc_day(clock.now_ms(), 1)
    with service.client() as client:
        if fix:
            run_now(client, org, everything=True)
        found = [_compared(client, org, day)] if org else _all_compared(client, day)
    if not found:
        say("nothing was compared")
        return FAILED
    if json:
        print_json(found)
    else:
        print_rows(
            [_row_of(one["organization"], row) for one in found for row in one["rows"]], COLUMNS, "table"
        )
    different = [row for one in found for row in one["rows"] if set(row["causes"]) - NO_DIFFERENCE]
    say(f"{len(different)} of {sum(len(one['rows']) for one in found)} models differ on {day} (UTC)")
    return DIFFERENT if different else 0


def _all_compared(client: Client, day: str) -> list[dict[str, Any]]:
    """Each organisation with a provider key; one whose account can't be had is named, and left out."""
    found = []
    for one in client.get("/api/v1/sync")["organizations"]:
        try:
            found.append(_compared(client, one["organization"], day))
        except Refused as refused:
            if refused.code not in NO_ACCOUNT:
                raise
            say(f"{visible(one['organization'])}: {refused}")
    return found


def _compared(client: Client, organization: str, day: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/v1/reconcile/provider", org=organization, day=day)
    return found


def _row_of(organization: str, row: dict[str, Any]) -> dict[str, Any]:
    """A model's line: requests as ours/theirs, money, and the causes in words."""
    ours, theirs = row["ours"], row["theirs"]
    return {
        "organization": organization,
        "model": row["model"],
        "provider": row["provider"],
        "requests": f"{ours['requests']}/{theirs['requests']}",
        "ours": ours["cost"],
        "theirs": theirs["cost"],
        "difference": row["difference"]["cost"],
        "because": "; ".join(_cause(name, part) for name, part in row["causes"].items()),
    }


def _cause(name: str, part: dict[str, Any]) -> str:
    requests = f"{part['requests']:+d} requests, " if part["requests"] else ""
    return f"{name}: {requests}{part['cost']}"
