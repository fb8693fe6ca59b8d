"""`genledger orgs`: organisations and their settings, each value from its effective date on."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from genledger.client import NOT_FOUND, Client, Refused, segment
from genledger.options import Json, Service, WrongUse
from genledger.output import print_json, print_rows, say, visible
from streams import sources
from streams.truth import SYNC

app = App(
    name="orgs",
    help="Organisations: make, change, list, show.",
    help_prologue="""Examples:
  genledger orgs create acme --name "Acme Ltd" --markup 1.3 --timezone Europe/Warsaw
  genledger orgs set acme --markup 1.25 --effective 2026-12-01
  genledger orgs show acme
""",
)

ROUTE = "/api/v1/organizations"
# What our own sources write as an event's `source`. A producer may write another name there: so such a one is
# noted, not refused. Native events say what their producer wrote, so `native` is a name like any other.
SOURCES = (
    *dict.fromkeys(
        one.NAME for known in sources.BY_ROUTE.values() for one in known if one is not sources.native
    ),
    SYNC,
)
COLUMNS = [
    *("id", "name", "markup", "timezone", "monthly_limit", "billing_email", "provider_key", "active"),
    *("management_key", "truth"),
]

GONE = {
    "monthly_limit": "lifted",
    "billing_email": "removed",
    "provider_key": "removed",
    "management_key": "removed",
    "truth": "lifted",
}

Name = Annotated[str | None, Parameter(help="How people call it.")]
Markup = Annotated[str | None, Parameter(help="What its costs are multiplied by, an exact decimal: 1.3")]
Timezone = Annotated[str | None, Parameter(help="Where its days begin: Europe/Warsaw")]
MonthlyLimit = Annotated[
    str | None,
    Parameter(help="Dollars a month, as a decimal; '' lifts it. Kept for information: nothing is refused."),
]
BillingEmail = Annotated[str | None, Parameter(help="Where its statements go.")]
Active = Annotated[
    bool | None, Parameter(help="Whether it is in use. Kept for information: nothing is refused.")
]
ProviderKey = Annotated[
    str | None,
    Parameter(help="Where its provider's key is found: env:NAME or file:PATH. Never the key itself."),
]
ManagementKey = Annotated[
    str | None,
    Parameter(
        help="Where the key is found that reads the provider's activity, which proves completeness:"
        " env:NAME or file:PATH."
    ),
]
Truth = Annotated[
    list[str] | None,
    Parameter(
        negative="",
        help="PREFIX=SOURCE: of models that begin so, only calls that this source tells of count; a version"
        " of a call that counts joins it from anywhere. Several sources: SOURCE|SOURCE; every model: *."
        " Give it once for each prefix: it replaces all that were set; '' lifts them.",
    ),
]
Effective = Annotated[
    str | None,
    Parameter(
        help="From when on: a date in the organisation's timezone, or a time with a zone."
        " Absent: always for the first, else now."
    ),
]


@app.command(
    help_prologue="""Examples:
  genledger orgs create acme
  genledger orgs create acme --name "Acme Ltd" --markup 1.3 --timezone Europe/Warsaw
  genledger orgs create acme --provider-key env:ACME_OPENROUTER_KEY
"""
)
def create(
    id: str,
    *,
    name: Name = None,
    markup: Markup = None,
    timezone: Timezone = None,
    monthly_limit: MonthlyLimit = None,
    billing_email: BillingEmail = None,
    provider_key: ProviderKey = None,
    management_key: ManagementKey = None,
    truth: Truth = None,
    effective: Effective = None,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Make an organisation. What is not given is the installation's default.

    Parameters
    ----------
    id
        What events call it.
    """
    values = {
        "name": name,
        "markup": markup,
        "timezone": timezone,
        "monthly_limit": monthly_limit,
        "billing_email": billing_email,
        "provider_key": provider_key,
        "management_key": management_key,
        "truth": _joined(truth),
        "effective": effective,
    }
    return _post(id, {**values, "create": True}, service, json=json)


@app.command(
    name="set",
    help_prologue="""Examples:
  genledger orgs set acme --markup 1.25 --effective 2026-12-01
  genledger orgs set acme --monthly-limit 500
  genledger orgs set acme --provider-key env:ACME_OPENROUTER_KEY --management-key file:/run/secrets/acme-mgmt
  genledger orgs set acme --truth "anthropic/=litellm" --truth "openai/=opentelemetry|sync"
  genledger orgs set acme --no-active
""",
)
def set_(
    id: str,
    *,
    name: Name = None,
    markup: Markup = None,
    timezone: Timezone = None,
    monthly_limit: MonthlyLimit = None,
    billing_email: BillingEmail = None,
    provider_key: ProviderKey = None,
    management_key: ManagementKey = None,
    truth: Truth = None,
    active: Active = None,
    effective: Effective = None,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Change an organisation's settings from a moment on. What is counted already stays as it was rated.

    It prints what was set, and from when on it counts.

    Parameters
    ----------
    id
        What events call it.
    """
    values = {
        "name": name,
        "markup": markup,
        "timezone": timezone,
        "monthly_limit": monthly_limit,
        "billing_email": billing_email,
        "provider_key": provider_key,
        "management_key": management_key,
        "truth": _joined(truth),
        "active": active,
    }
    if all(value is None for value in values.values()):
        raise WrongUse("say what to change, such as --markup 1.25")
    return _post(id, {**values, "effective": effective}, service, json=json)


def _joined(rules: list[str] | None) -> str | None:
    return None if rules is None else " ".join(rule for rule in rules if rule)


def _post(id: str, values: dict[str, Any], service: Service, *, json: bool) -> int:
    given = {name: value for name, value in values.items() if value is not None}
    create = given.pop("create", False)
    with service.client(offline=True) as client:
        if create and _exists(client, id):
            raise WrongUse(f"{visible(id)} exists already: change it with `genledger orgs set`")
        found = client.post(ROUTE, {"id": id, **given})
    if json:
        print_json(found)
    else:
        _tell_change(found)
    _tell_strangers(given.get("truth", ""))
    return 0


def _tell_strangers(truth: str) -> None:
    """A note for each believed source that is none of ours: a slip there would quarantine all its calls."""
    named = dict.fromkeys(name for rule in truth.split() for name in rule.rpartition("=")[2].split("|"))
    for name in (visible(name) for name in named if name not in SOURCES):
        say(
            f"note: {name} is none of our own sources ({', '.join(SOURCES)}): only events whose source is"
            f' "{name}" will count'
        )


def _tell_change(organization: dict[str, Any]) -> None:
    """What was set, and from when on: the newest of the changes."""
    changes = organization.get("history") or []
    if not changes:
        print(f"{visible(organization['id'])}: every value is the default")
        return
    # Without their Z, times with and without a fraction sort as they follow each other.
    newest = max(changes, key=lambda change: str(change["logged_at"]).rstrip("Z"))
    print(f"{visible(organization['id'])} {_change_text(newest)}")


def _change_text(change: dict[str, Any]) -> str:
    when = "always" if change["effective"] == "always" else f"from {change['effective']}"
    values = {name: change[name] for name in COLUMNS if change.get(name) is not None}
    return f"{when}: " + ", ".join(f"{name} {_shown(value) or GONE[name]}" for name, value in values.items())


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else visible(value)


def _row(organization: dict[str, Any]) -> dict[str, str]:
    """The values as they count now; what was never set, or was lifted, by what stands for it."""
    absent = {"markup": "default", "timezone": "default", "monthly_limit": "none", "active": "yes"}
    found = {name: _shown(organization.get(name)) for name in COLUMNS}
    return {name: text or absent.get(name, "") for name, text in found.items()}


def _exists(client: Client, id: str) -> bool:
    try:
        client.get(f"{ROUTE}/{segment(id)}")
    except Refused as error:
        if error.status != NOT_FOUND:
            raise
        return False
    return True


@app.command(
    name="list",
    help_prologue="""Examples:
  genledger orgs list
  genledger orgs list --json
""",
)
def list_(*, service: Service = Service(), json: Json = False) -> int:
    """List the organisations that have settings, with their values as they count now.

    Those that only have usage are not here. `default` is the setting of the
    service: GENLEDGER_DEFAULT_MARKUP, GENLEDGER_DEFAULT_TIMEZONE.
    """
    with service.client(offline=True) as client:
        found = client.get(ROUTE)["organizations"]
    if json:
        print_json(found)
    else:
        print_rows([_row(organization) for organization in found], COLUMNS, "table")
    return 0


@app.command(
    help_prologue="""Examples:
  genledger orgs show acme
  genledger orgs show acme --json
"""
)
def show(id: str, *, service: Service = Service(), json: Json = False) -> int:
    """Show one organisation: its values now, and every change with the moment it counts from.

    Parameters
    ----------
    id
        What events call it.
    """
    with service.client(offline=True) as client:
        found = client.get(f"{ROUTE}/{segment(id)}")
    if json:
        print_json(found)
        return 0
    print_rows([_row(found)], COLUMNS, "table")
    history = found.get("history") or []
    if history:
        print()
    for change in history:
        print(_change_text(change))
    return 0
