"""Organisations and users of a legacy file that the service lacks, made by the same routes as any other.

    wanted = wanted_organizations(source, found)
    made = make_organizations(client, wanted)

What is there already stays as it is. A provider's key is never carried over: it has to be given as a
reference (`genledger orgs set ID --provider-key env:NAME`), and each that was left behind is named.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from genledger.client import Client, segment
from genledger.legacy import exact
from genledger.legacy.exact import BadCell
from genledger.legacy.findings import Findings
from genledger.legacy.source import Source
from genledger.legacy.tables import ORGANIZATIONS, USERS
from genledger.output import visible
from streams import admin, money, times
from streams.admin import BadChange, OrganizationChange

ROUTE, USERS_ROUTE = "/api/v1/organizations", "/api/v1/users"
REFERENCES = ("env:", "file:", "name:")
_MEND = "correct it in a copy of the file, and name the copy with --from"


class Person(msgspec.Struct, frozen=True):
    """A provider's user, and whom the application knows them as."""

    organization: str
    user: str
    user_id: str


def wanted_organizations(source: Source, found: Findings) -> list[dict[str, Any]]:
    """What the service is to be told of each organisation of the file."""
    wanted = []
    for cells in source.organizations():
        place = f"{ORGANIZATIONS.name} {visible(cells.get('id'))[:80]}"
        try:
            fields = _fields(cells, place, found)
            admin.check_organization(OrganizationChange(**fields))
        except BadCell as error:
            found.error(place, str(error), _MEND)
        except BadChange as error:
            found.error(place, f"{error.field} {error.error}", _MEND)
        else:
            wanted.append(fields)
    return wanted


def _fields(cells: Mapping[str, exact.Cell], place: str, found: Findings) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": exact.text_of(cells["id"], "id")}
    if name := exact.text_of(cells.get("name"), "name", empty=True):
        fields["name"] = name
    if cells.get("markup") is not None:
        fields["markup"] = exact.rate_of(cells["markup"])
    if cells.get("monthly_limit") not in (None, ""):
        fields["monthly_limit"] = money.text_of(exact.nano_of(cells["monthly_limit"], "monthly_limit"))
    email = exact.text_of(cells.get("billing_email"), "billing_email", empty=True)
    if "@" in email:
        fields["billing_email"] = email
    elif email:
        found.warn(place, "billing_email is no e-mail address: it is left out")
    if "active" in cells and not exact.is_on(cells["active"]):
        fields["active"] = False
    key = exact.text_of(cells.get("provider_key"), "openrouter_api_key", empty=True)
    if key.startswith(REFERENCES):
        fields["provider_key"] = key
    elif key:
        mend = "put it into the service's environment, then: genledger orgs set ID --provider-key env:NAME"
        found.warn(place, "has a provider key in the file: keys are not carried over", mend)
    return fields


def wanted_users(source: Source, found: Findings) -> list[Person]:
    """The mappings of the file that are in force."""
    wanted = []
    for cells in source.users():
        try:
            if not exact.is_on(cells.get("active")):
                continue
            names = ("organization", "user", "user_id")
            person = Person(*(exact.text_of(cells[name], name) for name in names))
            admin.mapped_user(None, person.organization, person.user, person.user_id, admin.ALWAYS_DAY, 0)
        except (BadCell, BadChange) as error:
            found.error(f"{USERS.name} {visible(cells.get('user'))[:80]}", str(error), _MEND)
        else:
            wanted.append(person)
    return wanted


def lacking(client: Client, wanted: Sequence[dict[str, Any]], found: Findings) -> list[dict[str, Any]]:
    """The organisations that the service has no settings of."""
    there = {one["id"]: one for one in client.get(ROUTE)["organizations"]}
    for fields in wanted:
        has = there.get(fields["id"])
        if has is not None and fields.get("markup") not in (None, has.get("markup")):
            what = f"has settings here already, with markup {has.get('markup') or 'default'}: they stay"
            found.note(visible(fields["id"]), what, "genledger orgs set, if the file is right")
    return [fields for fields in wanted if fields["id"] not in there]


def make_organizations(client: Client, wanted: Sequence[dict[str, Any]]) -> list[str]:
    """Make them; their ids."""
    for fields in wanted:
        client.post(ROUTE, fields)
    return [fields["id"] for fields in wanted]


def lacking_users(client: Client, wanted: Sequence[Person]) -> list[Person]:
    """The users that the service has no mapping of."""
    there: set[tuple[str, str]] = set()
    for organization in sorted({person.organization for person in wanted}):
        found = client.get(USERS_ROUTE, org=organization)["users"]
        there.update((organization, one["user"]) for one in found)
    return [person for person in wanted if (person.organization, person.user) not in there]


def make_users(client: Client, wanted: Sequence[Person]) -> int:
    """Map them, from always on; how many."""
    for person in wanted:
        client.post(USERS_ROUTE, msgspec.to_builtins(person))
    return len(wanted)


class Zones:
    """The timezone of each organisation on a day: that in which its days are reckoned here."""

    def __init__(self, client: Client, default: str) -> None:
        self._default = default
        self._histories: dict[str, list[tuple[int, str]]] = {}
        for one in client.get(ROUTE)["organizations"]:
            if one.get("timezone"):
                whole = client.get(f"{ROUTE}/{segment(one['id'])}")
                self._histories[one["id"]] = [*_zones_of(whole)]

    def on(self, organization: str, day: str) -> str:
        """By its history; the installation's default before it, and where there is none."""
        zone, noon_ns = self._default, times.midnight_ns(day, "UTC") + times.DAY_NS // 2
        for since_ns, name in self._histories.get(organization, ()):
            if since_ns <= noon_ns:
                zone = name
        return zone


def _zones_of(organization: Mapping[str, Any]) -> list[tuple[int, str]]:
    changes = organization.get("history") or ()
    return [
        (0 if one["effective"] == "always" else times.nanoseconds_of(one["effective"]), one["timezone"])
        for one in changes
        if one.get("timezone")
    ]
