"""The settings routes: organisations, users' mappings and API keys. An installation administrator's only.

POST /api/v1/organizations {"id": "acme", "markup": "1.3", "timezone": "Europe/Warsaw"}
POST /api/v1/users {"organization": "acme", "user": "u-1", "user_id": "alice"}
POST /api/v1/keys {"organization": "acme", "rights": "producer"}      the secret is in this answer only
"""

from typing import Any, TypeVar

import msgspec
from aiohttp import web

from streams import times
from streams.admin import Administration, BadChange, LastKey, NoOrganization, OrganizationChange
from streams.clock import Clock
from streams.directory import Directory
from streams.gateway import body as bodies
from streams.gateway.answers import Refusal, answer, invalid, not_found
from streams.gateway.events import content_type_of
from streams.gateway.items import JSON
from streams.generation import in_plain_words
from streams.organizations import Change, Key, Organization, Rights, User, latest
from streams.settings import Settings

T = TypeVar("T")
LAST_KEY = (
    "without it nobody can change settings or make keys here any more, until the service is stopped and"
    " `genledger keys create --rights admin` is run on its files. force=1 ends it nevertheless"
)


class Decimals(msgspec.Struct):
    """The values of a change that may be JSON numbers: their text is what counts, not a float."""

    markup: msgspec.Raw = msgspec.Raw(b"null")
    monthly_limit: msgspec.Raw = msgspec.Raw(b"null")


class UserMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From a day on, `user_id` is whom the application knows the provider's `user` as; null ends it."""

    organization: str
    user: str
    user_id: str | None
    effective: str | None = None


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key for an organisation; without one it is the installation's administrator's."""

    organization: str = ""
    rights: Rights = "producer"


class Revocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`force` ends the last administrator's key, too."""

    force: bool = False


class SettingsRoutes:
    """The handlers."""

    def __init__(
        self,
        administration: Administration,
        directory: Directory,
        room: bodies.Room,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._administration = administration
        self._directory = directory
        self._room = room
        self._limits = bodies.small(settings)
        self._clock = clock

    async def change_organization(self, request: web.Request) -> web.Response:
        """POST /api/v1/organizations"""
        text = await self._body(request)
        change = decoded(_with_decimals(text), OrganizationChange)
        try:
            organization, created = await self._administration.change_organization(change)
        except BadChange as error:
            raise invalid(error.field, error.error) from None
        except NoOrganization as error:
            raise Refusal(404, "not_found", str(error), "id") from None
        return answer(201 if created else 200, self._organization(organization, history=True))

    async def list_organizations(self, request: web.Request) -> web.Response:
        """GET /api/v1/organizations"""
        found = [self._organization(organization) for organization in self._directory.organizations()]
        return answer(200, {"organizations": found})

    async def show_organization(self, request: web.Request) -> web.Response:
        """GET /api/v1/organizations/{id}"""
        organization = self._directory.organization(request.match_info["id"])
        if organization is None:
            raise not_found("no organisation of that id has settings")
        return answer(200, self._organization(organization, history=True))

    async def map_user(self, request: web.Request) -> web.Response:
        """POST /api/v1/users"""
        wanted = decoded(await self._body(request), UserMapping)
        try:
            user = await self._administration.map_user(
                wanted.organization, wanted.user, wanted.user_id, wanted.effective
            )
        except BadChange as error:
            raise invalid(error.field, error.error) from None
        return answer(200, user_of(user) | self._note(wanted.organization))

    async def list_users(self, request: web.Request) -> web.Response:
        """GET /api/v1/users?org="""
        organization = request.query.get("org", "")
        if not organization:
            raise invalid("org", "is required")
        return answer(200, {"users": [user_of(user) for user in self._directory.users(organization)]})

    async def make_key(self, request: web.Request) -> web.Response:
        """POST /api/v1/keys"""
        wanted = decoded(await self._body(request), KeyRequest)
        try:
            made = await self._administration.make_key(wanted.organization, wanted.rights)
        except BadChange as error:
            raise invalid(error.field, error.error) from None
        shown = [key_of(key) | {"secret": secret} for key, secret in made]
        found = shown[0] if len(shown) == 1 else shown[0] | {"administrator": shown[1]}
        return answer(201, found | self._note(wanted.organization), {"Cache-Control": "no-store"})

    async def list_keys(self, request: web.Request) -> web.Response:
        """GET /api/v1/keys"""
        keys = self._directory.keys()
        return answer(200, {"keys": [key_of(key) for key in keys]})

    async def revoke_key(self, request: web.Request) -> web.Response:
        """POST /api/v1/keys/{id}/revoke; ?force=1 or {"force": true} for the last administrator's"""
        with self._room.seat() as seat:
            text = await bodies.read(request, self._limits, seat)
        wanted = decoded(text, Revocation) if text else Revocation()
        force = wanted.force or request.query.get("force", "") in ("1", "true")
        try:
            key = await self._administration.revoke_key(request.match_info["id"], force=force)
        except LastKey as error:
            raise Refusal(409, "last_key", f"{error}: {LAST_KEY}") from None
        if key is None:
            raise not_found("there is no API key of that id")
        return answer(200, key_of(key))

    async def _body(self, request: web.Request) -> bytes:
        content_type_of(request, (JSON,))
        with self._room.seat() as seat:
            return await bodies.read(request, self._limits, seat)

    def _note(self, organization: str) -> dict[str, str]:
        """What a caller may not have meant: an organisation that nobody has set up. Taken all the same."""
        if not organization or self._directory.organization(organization) is not None:
            return {}
        return {"note": f"organisation {organization} has no settings yet"}

    def _organization(self, organization: Organization, *, history: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": organization.id,
            "created_at": time_of(organization.created_ms),
            **latest(organization, self._clock()),
        }
        if history:
            found["history"] = [_change_of(change) for change in organization.history]
        return found


def decoded(text: bytes, kind: type[T]) -> T:
    """A small body, as typed; 422 names the field."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        raise invalid(place.strip("`"), in_plain_words(message)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("", f"not JSON in UTF-8: {error}") from None


def _with_decimals(text: bytes) -> bytes:
    """The same object with its JSON numbers of money as text."""
    decimals = decoded(text, Decimals)
    fields = decoded(text, dict[str, msgspec.Raw])
    for name in ("markup", "monthly_limit"):
        raw = bytes(getattr(decimals, name))
        if raw[:1].isdigit() or raw[:1] == b"-":
            fields[name] = msgspec.Raw(b'"' + raw + b'"')
    return msgspec.json.encode(fields)


def _change_of(change: Change) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(change)
    del found["effective_ns"], found["logged_ms"]
    effective = times.text_of(change.effective_ns) if change.effective_ns else "always"
    return {"effective": effective, "logged_at": time_of(change.logged_ms), **found}


def user_of(user: User) -> dict[str, Any]:
    """A user's mapping as JSON."""
    history = [
        {"effective": m.effective_day, "logged_at": time_of(m.logged_ms), "user_id": m.user_id}
        for m in user.history
    ]
    return {"organization": user.organization, "user": user.user, "history": history}


def key_of(key: Key) -> dict[str, Any]:
    """An API key as JSON: never its hash."""
    return {
        "id": key.id,
        "organization": key.organization,
        "rights": key.rights,
        "created_at": time_of(key.created_ms),
        "revoked_at": None if key.revoked_ms is None else time_of(key.revoked_ms),
    }


def time_of(time_ms: int) -> str:
    """Milliseconds as RFC 3339 text, always with three digits of them: times under each other line up."""
    second = times.text_of(time_ms // 1000 * times.SECOND_NS)
    return f"{second[:-1]}.{time_ms % 1000:03d}Z"
