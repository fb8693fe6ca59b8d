"""Organisations and users as they were set up: which markup, timezone and user name counts when.

>>> settings = Settings()
>>> settings.set_organization("acme", date(2025, 1, 1), timezone="Asia/Tokyo", markup="1.2")
>>> settings.set_organization("acme", date(2025, 10, 26), markup="1.3")
>>> settings.markup("acme", 1761400800 * 10**9), settings.markup("acme", 1761404400 * 10**9)
('1.2', '1.3')
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

DEFAULT_MARKUP = "1.0"
DEFAULT_ZONE = "UTC"


@dataclass
class Organization:
    """An organisation's values, each list in order of (effective instant, value)."""

    values: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def at(self, name: str, time_ns: int) -> str | None:
        """The value that counts at a time."""
        found = None
        for effective_ns, value in sorted(self.values.get(name, []), key=lambda pair: pair[0]):
            if effective_ns <= time_ns:
                found = value
        return found


@dataclass
class Settings:
    """All that was set, before the traffic began."""

    organizations: dict[str, Organization] = field(default_factory=dict)
    users: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)

    def set_organization(self, id: str, effective: date, **values: str) -> None:
        """Values count from midnight of a date, in the timezone that the organisation has then."""
        organization = self.organizations.setdefault(id, Organization())
        zone = values.get("timezone") or organization.at("timezone", 2**62) or DEFAULT_ZONE
        midnight = datetime.combine(effective, time(), tzinfo=ZoneInfo(zone))
        effective_ns = int(midnight.timestamp()) * 10**9
        for name, value in values.items():
            organization.values.setdefault(name, []).append((effective_ns, value))

    def map_user(self, organization: str, user: str, effective: date, user_id: str) -> None:
        """From a day on the application knows the provider's user by another name."""
        self.users.setdefault((organization, user), []).append((effective.isoformat(), user_id))

    def value(self, organization: str, name: str, time_ns: int) -> str | None:
        """A value as it counts at a time; None when it was never set."""
        found = self.organizations.get(organization)
        return found.at(name, time_ns) if found else None

    def markup(self, organization: str, time_ns: int) -> str:
        """The markup's decimal text."""
        return self.value(organization, "markup", time_ns) or DEFAULT_MARKUP

    def believes(self, organization: str, model: str, source: str, time_ns: int) -> bool:
        """Whether a call counts because this source tells of it: the longest prefix of the model decides."""
        rules = [rule.split("=") for rule in (self.value(organization, "truth", time_ns) or "").split()]
        prefixes = {"" if prefix == "*" else prefix: sources for prefix, sources in rules}
        fitting = [prefix for prefix in prefixes if model.startswith(prefix)]
        return not fitting or source in prefixes[max(fitting, key=len)].split("|")

    def day(self, organization: str, time_ns: int) -> str:
        """The calendar day of an instant where the organisation is."""
        zone = self.value(organization, "timezone", time_ns) or DEFAULT_ZONE
        return _local(zone)(time_ns // 10**9).date().isoformat()

    def user_id(self, organization: str, user: str, day: str) -> str:
        """The application's user; the provider's own name where there is no mapping."""
        found = user
        for effective_day, user_id in sorted(self.users.get((organization, user), [])):
            if effective_day <= day:
                found = user_id
        return found


@lru_cache(maxsize=256)
def _local(zone: str) -> Callable[[int], datetime]:
    info = ZoneInfo(zone)
    return lambda second: datetime.fromtimestamp(second, info)
