"""How a generation is rated, and which source is believed, by the settings as they stood.

Settings count from their effective time, as far as they were logged when the record was: so a decision
taken again, from the same records, is the same decision.
"""

from typing import Protocol

from streams import times, truth
from streams.known import Terms
from streams.organizations import Organization, User, known_since_ms, user_id_at, value_at
from streams.settings import Settings


class Directory(Protocol):
    """Who there is: `streams.directory` knows it."""

    #: Whether any organisation ever named a source of truth: without one nobody need look.
    truths: bool

    def organization(self, id: str) -> Organization | None: ...

    def user(self, organization: str, user: str) -> User | None: ...


class Rules:
    """Look-ups over the directory, with the installation's defaults behind it."""

    def __init__(self, directory: Directory, markup: str, zone: str, unknown: str = "create") -> None:
        self._directory = directory
        self._markup = markup
        self._zone = zone
        self._unknown = unknown

    @classmethod
    def of(cls, directory: Directory, settings: Settings) -> "Rules":
        """With the installation's own defaults."""
        return cls(
            directory,
            settings.default_markup,
            settings.default_timezone,
            settings.unknown_organizations,
        )

    def accepts(self, organization: str, known_ms: int) -> bool:
        """Whether events of this organisation are taken at all, by what was logged before."""
        if self._unknown == "create":
            return True
        settings = self._directory.organization(organization)
        return settings is not None and known_since_ms(settings) < known_ms

    def believed(self, organization: str, model: str, date_ns: int, known_ms: int) -> tuple[str, ...]:
        """The sources whose word makes a call of this model count; () for all of them."""
        if not self._directory.truths:
            return ()
        settings = self._directory.organization(organization)
        text = settings and value_at(settings, "truth", date_ns, known_ms)
        return truth.believed(truth.kept_rules(str(text)), model) if text else ()

    def zone(self, organization: str, time_ns: int, known_ms: int) -> str:
        """The organisation's timezone at a time."""
        settings = self._directory.organization(organization)
        if settings is None:
            return self._zone
        return str(value_at(settings, "timezone", time_ns, known_ms) or self._zone)

    def terms(self, organization: str, user: str, date_ns: int, known_ms: int) -> Terms:
        """How a generation of that date is rated."""
        settings = self._directory.organization(organization)
        if settings is None:
            rate, zone = self._markup, self._zone
        else:
            rate = str(value_at(settings, "markup", date_ns, known_ms) or self._markup)
            zone = str(value_at(settings, "timezone", date_ns, known_ms) or self._zone)
        day = times.day_of(date_ns, zone)
        return Terms(rate, zone, day, self.user_id(organization, user, day, known_ms))

    def user_id(self, organization: str, user: str, day: str, known_ms: int) -> str:
        """Whom the application knows a provider's user as on a day; '' when it has no other name."""
        mapping = self._directory.user(organization, user) if user else None
        return user_id_at(mapping, day, known_ms) if mapping else ""

    def today(self, organization: str, time_ms: int) -> tuple[str, str]:
        """The organisation's local day at a log time, and the timezone it is reckoned in."""
        time_ns = time_ms * times.MS_NS
        zone = self.zone(organization, time_ns, time_ms)
        return times.day_of(time_ns, zone), zone
