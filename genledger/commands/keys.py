"""`genledger keys`: API keys. A key is shown once; only its hash is kept."""

from typing import Annotated

from cyclopts import App, Parameter

from genledger.client import segment
from genledger.options import DryRun, Json, Service
from genledger.output import print_json, print_rows, say
from streams.organizations import Rights

app = App(
    name="keys",
    help="API keys: make, list, revoke. Until the first is made, a service on loopback is open.",
    help_prologue="""Examples:
  genledger keys create --org acme
  genledger keys create --rights admin
  genledger keys revoke key_3f9ac0d217b85e64
""",
)

ROUTE = "/api/v1/keys"
COLUMNS = ["id", "organization", "rights", "created_at", "revoked_at"]


@app.command(
    help_prologue="""Examples:
  genledger keys create --org acme
  genledger keys create --org acme --rights reader
  genledger keys create --rights admin
"""
)
def create(
    *,
    org: Annotated[str, Parameter(help="The organisation whose events it publishes; none for all.")] = "",
    rights: Annotated[
        Rights, Parameter(help="What it may do: publish, read, or administer too.")
    ] = "producer",
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Make an API key and print it. It is shown this once: keep it.

    The first key closes the door: from then on every request needs one, and
    the commands take theirs from GENLEDGER_KEY. When the first key is not an
    administrator's, one of those is made with it, and printed on a second
    line, `administrator: glk_...`.
    """
    with service.client(offline=True) as client:
        found = client.post(ROUTE, {"organization": org, "rights": rights})
    if json:
        print_json(found)
    else:
        say(f"Key {found['id']} with the rights of a {rights}. It is not shown again:")
        print(found["secret"])
        if "administrator" in found:
            print(f"administrator: {found['administrator']['secret']}")
            say("From now on a key is needed, so an administrator's was made too. It is not shown again:")
            say("keep it, and set GENLEDGER_KEY to it for commands such as this one.")
    return 0


@app.command(
    name="list",
    help_prologue="""Examples:
  genledger keys list
  genledger keys list --json
""",
)
def list_(*, service: Service = Service(), json: Json = False) -> int:
    """List all keys, revoked ones too; the keys themselves are not kept."""
    with service.client(offline=True) as client:
        found = client.get(ROUTE)["keys"]
    print_rows(found, COLUMNS, "json" if json else "table")
    return 0


@app.command(
    help_prologue="""Examples:
  genledger keys revoke key_3f9ac0d217b85e64
  genledger keys revoke key_3f9ac0d217b85e64 --dry-run
"""
)
def revoke(
    id: str,
    *,
    force: Annotated[
        bool, Parameter(negative="", show_default=False, help="Also the last administrator's key.")
    ] = False,
    dry_run: DryRun = False,
    service: Service = Service(),
) -> int:
    """End a key: the next request with it is refused.

    Parameters
    ----------
    id
        The key's id, as `genledger keys list` shows it.
    """
    with service.client(offline=True) as client:
        if not dry_run:
            client.post(f"{ROUTE}/{segment(id)}/revoke", {"force": force})
            say(f"Key {id} is revoked.")
            return 0
        known = [key["id"] for key in client.get(ROUTE)["keys"] if not key.get("revoked_at")]
    say(f"Key {id} would be revoked." if id in known else f"There is no key {id} to revoke.")
    return 0 if id in known else 1
