"""The secrets that webhooks are signed with, and their rotation.

    # source       organisation  secret
    openrouter     acme          env:OPENROUTER_WEBHOOK_SECRET
    standard       acme          whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD
    standard       acme          file:/run/secrets/acme-new
    litellm        *             file:/run/secrets/litellm

Two lines of one source and organisation are a rotation: both are good until the old one is taken away.
When the lines came from a file, it is looked at again when it has changed, and so are the files that its
lines name, so a rotation needs no restart. A new file that can't be used leaves the old lines in force,
and is an alarm. No error says what a secret is.
"""

import base64
import binascii
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams import metrics, references
from streams.clock import monotonic_s
from streams.errors import SettingError
from streams.settings import FILE_ORIGIN, Settings

Stamps = Mapping[str, tuple[int, ...]]

SOURCES = ("openrouter", "litellm", "standard", "opentelemetry", "cloudevents")
ANY = "*"
LINES_PER_SOURCE_MAX = 64
FILE_BYTES_MAX = 1 << 20
LOOK_S = 1.0
ORGANIZATION_BYTES_MAX = 128
STANDARD_PREFIX = "whsec_"
LITERAL_LENGTH_MIN = 16
SETTING = "GENLEDGER_WEBHOOK_SECRETS"

_COMMENT = re.compile(r"(?:^|(?<=[\s;]))#.*$")
_log = logging.getLogger("genledger.gateway")


@dataclass(frozen=True, slots=True)
class Line:
    """What one line says. The secret, or where it is, does not show. `place` is where it stands."""

    place: str
    source: str
    organization: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of a source: its text, which is shown or signs as it is, and Standard Webhooks' key."""

    source: str
    organization: str  # "" for all
    text: bytes = field(repr=False)
    standard_key: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Whose it is, for the access log and the rate: never the secret."""
        return f"secret:{self.source}:{self.organization or ANY}"


def lines_of(text: str, path: str = "") -> list[Line]:
    """The lines of the setting, or of the file at `path`; `SettingError` names the one to mend. Pure."""
    found: list[Line] = []
    for number, line in enumerate(text.splitlines(), 1):
        at = f"{path}, line {number}:" if path else f"{SETTING}: line {number}"
        for entry in _COMMENT.sub("", line).split(";"):
            parts = entry.split()
            if not parts:
                continue
            if len(parts) != 3:
                raise _wrong(at, f"has {len(parts)} words: it takes source, organisation and secret")
            source, organization, secret = parts
            if source not in SOURCES:
                raise _wrong(at, f"begins with no source: the sources are {', '.join(SOURCES)}")
            if len(organization.encode()) > ORGANIZATION_BYTES_MAX:
                raise _wrong(at, "has an organisation of more than 128 bytes")
            found.append(Line(at, source, organization, secret))
    for source in SOURCES:
        if sum(line.source == source for line in found) > LINES_PER_SOURCE_MAX:
            raise _wrong(f"{path or SETTING}:", f"{source} has more than {LINES_PER_SOURCE_MAX} lines")
    return found


def _wrong(place: str, why: str) -> SettingError:
    return SettingError(f"{place} {why}")


def secrets_of(
    lines: Sequence[Line], resolve: Callable[[str], str] = references.resolve
) -> Mapping[str, tuple[Secret, ...]]:
    """The secrets of each source that has any."""
    found: dict[str, list[Secret]] = {}
    for line in lines:
        secret = _secret_of(line, resolve)
        others = found.setdefault(line.source, [])
        twins = [one for one in others if _is_twin(one, secret)]
        if any(twin.organization != secret.organization for twin in twins):
            # Nobody could say whose a request is.
            raise _wrong(line.place, "has the secret of another organisation of the same source")
        if not any(twin.text == secret.text for twin in twins):
            others.append(secret)
    return {source: tuple(secrets) for source, secrets in found.items()}


def _is_twin(one: Secret, other: Secret) -> bool:
    """Whether a request could be of both: the prefix of Standard Webhooks makes no other key."""
    return one.text == other.text or one.standard_key == other.standard_key


def _secret_of(line: Line, resolve: Callable[[str], str]) -> Secret:
    text = line.secret
    if references.is_reference(text):
        try:
            text = resolve(text)
        except SettingError as error:
            raise _wrong(line.place, f"has no secret: {error}") from None
    elif len(text) < LITERAL_LENGTH_MIN:
        raise _wrong(
            line.place,
            f"has a secret of fewer than {LITERAL_LENGTH_MIN} characters: give a longer one, or env:NAME or"
            " file:PATH",
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _wrong(line.place, "has a secret that is not plain ASCII in one word")
    key = _standard_key(text)
    if key is None:
        raise _wrong(line.place, f"has a secret that is not base64 after {STANDARD_PREFIX}")
    organization = "" if line.organization == ANY else line.organization
    return Secret(line.source, organization, text.encode(), key)


def _standard_key(text: str) -> bytes | None:
    """As Standard Webhooks has it: base64, with or without its prefix; else the text's own bytes."""
    plain = text.removeprefix(STANDARD_PREFIX)
    try:
        key = base64.b64decode(plain, validate=True)
    except binascii.Error:
        key = b""
    if key:
        return key
    return None if plain != text else text.encode()


class Secrets:
    """The secrets in force."""

    def __init__(self, text: str, path: str = "", clock_s: Callable[[], float] = monotonic_s) -> None:
        """Lines as they are, or as the file at `path` has them; `SettingError` when they are not right."""
        self._text = text
        self._path = path
        self._clock_s = clock_s
        self._by_source: Mapping[str, tuple[Secret, ...]] = {}
        self._ever: set[str] = set()
        self._stamps: Stamps = {path: _stamp(path)} if path else {}
        self._looked_s = clock_s()
        self._trouble = ""
        self._read()

    def of_source(self, source: str) -> Sequence[Secret]:
        """The secrets of a source now; files are looked at again, at most once a second."""
        self._look()
        return self._by_source.get(source, ())

    def is_closed(self, source: str) -> bool:
        """Whether a source has, or ever had, a secret: a file cut short must not open it."""
        return source in self._ever

    def _look(self) -> None:
        now_s = self._clock_s()
        if not self._stamps or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        # A file that could not be used may be whole by now, within the same tick of its clock.
        if not self._trouble and all(_stamp(path) == stamp for path, stamp in self._stamps.items()):
            return
        try:
            self._read()
        except SettingError as error:
            self._troubled(str(error))
        else:
            _log.info("webhook secrets %s", "are good again" if self._trouble else "were read again")
            self._troubled("")

    def _read(self) -> None:
        """Take the lines as they are now. The stamps are older than what is read, never newer."""
        stamps = {self._path: _stamp(self._path)} if self._path else {}
        lines = lines_of(_text_of(self._path) if self._path else self._text, self._path)
        named = (line.secret.removeprefix("file:") for line in lines if line.secret.startswith("file:"))
        stamps |= {path: _stamp(path) for path in named}
        self._by_source = secrets_of(lines)
        self._ever |= set(self._by_source)
        self._stamps = stamps

    def _troubled(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.error("the new webhook secrets can't be used, the old ones stay in force: %s", trouble)
        self._trouble = trouble
        metrics.WEBHOOK_SECRETS_STALE.set(1 if trouble else 0)


def in_force(settings: Settings) -> Secrets:
    """The secrets that the settings have."""
    origin = settings.origin.get("webhook_secrets", "")
    path = origin.removeprefix(FILE_ORIGIN) if origin.startswith(FILE_ORIGIN) else ""
    return Secrets(settings.webhook_secrets, path)


def _stamp(path: str) -> tuple[int, ...]:
    """What changes when a file does."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _text_of(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            found = file.read(FILE_BYTES_MAX + 1)
        if len(found) <= FILE_BYTES_MAX:
            return found.decode()
    except OSError as error:
        raise SettingError(f"{path} can't be read: {error.strerror}") from None
    except ValueError:
        raise SettingError(f"{path} is not text in UTF-8") from None
    raise SettingError(f"{path} has more than {FILE_BYTES_MAX} bytes")
