"""`genledger reconcile --provider`: a day of ours beside the provider's own account of it.

code = compare_with_provider(service, "acme", "2026-11-20", fix=False, json=False)
"""

from typing import Any

from genledger.client import Client, Refused
from genledger.commands.sync import run_now
from genledger.options import Service
from genledger.output import print_json, print_rows, say, visible
from streams import clock, times

DIFFERENT = 3
FAILED = 1
# There is no management key, or the provider does not answer.
NO_ACCOUNT = frozenset(("no_management_key", "provider"))
# Less than a nano-dollar for each request: the provider rounds its sum, we round each cost.
NO_DIFFERENCE = frozenset(("rounding",))
COLUMNS = ("organization", "model", "provider", "requests", "ours", "theirs", "difference", "because")


def compare_with_provider(
    service: Service, org: str | None, day: str | None, *, fix: bool, json: bool
) -> int:
    """Compare a day of each model with what the provider says of it, and print what differs."""
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
