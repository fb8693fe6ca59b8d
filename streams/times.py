"""Times and days: RFC 3339 text to integer nanoseconds, and the day of an instant in a timezone.

>>> nanoseconds_of("2026-11-20T23:30:00Z")
1795217400000000000
>>> day_of(1795217400000000000, "Europe/Warsaw")
'2026-11-21'

Years 2000 to 2199 are taken; a time without a zone is refused, for nobody could say which day it is on.
A leap second (:60) is the last nanosecond of its minute: the same day. Digits below a nanosecond fall off.
"""

import re
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
MS_NS = 1_000_000

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_TIME = re.compile(
    r"(2[01][0-9]{2})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]{1,18}))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_NS = {f":{second:02d}Z": second * SECOND_NS for second in range(60)}
_FIRST_DAY = (datetime(2000, 1, 1, tzinfo=UTC) - _EPOCH).days
_LAST_DAY = (datetime(2200, 1, 1, tzinfo=UTC) - _EPOCH).days
_DATE = re.compile(r"2[01][0-9]{2}-[0-9]{2}-[0-9]{2}")
_WANTED = "must be a time such as 2026-11-20T10:00:00Z: with a zone, from the years 2000 to 2199"


def nanoseconds_of(text: str) -> int:
    """RFC 3339 text as nanoseconds since 1970; `ValueError` says what is wrong with it."""
    # Nearly every event: its minute was seen before, and its second has no digits behind it, or three.
    second_ns = _SECONDS_NS.get(text[16:])
    if second_ns is not None:
        return _minute_ns(text[:16]) + second_ns
    digits = text[20:23]
    if len(text) == 24 and text[19] == "." and digits.isdigit() and digits.isascii():
        second_ns = _SECONDS_NS.get(f"{text[16:19]}{text[23]}")
        if second_ns is not None:
            return _minute_ns(text[:16]) + second_ns + int(digits) * MS_NS
    return _nanoseconds_of(text)


@lru_cache(maxsize=16_384)
def _minute_ns(text: str) -> int:
    """The instant at which a minute of UTC such as 2026-11-20T10:00 begins."""
    return _nanoseconds_of(f"{text}:00Z")


def _nanoseconds_of(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(_WANTED)
    year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        raise ValueError(_WANTED) from None
    h, m, s = int(hour), int(minute), int(second)
    if h > 23 or m > 59 or s > 60:
        raise ValueError(_WANTED)
    below = int(fraction[:9].ljust(9, "0")) if fraction else 0
    if s == 60:
        s, below = 59, SECOND_NS - 1
    offset_s = 0
    if sign:
        if int(zone_hour) > 23 or int(zone_minute) > 59:
            raise ValueError(_WANTED)
        offset_s = (int(zone_hour) * 3600 + int(zone_minute) * 60) * (-1 if sign == "-" else 1)
    seconds = days * 86_400 + h * 3600 + m * 60 + s - offset_s
    # The instant itself, too: what is taken must be taken again when it is written in UTC.
    if not _FIRST_DAY * 86_400 <= seconds < _LAST_DAY * 86_400:
        raise ValueError(_WANTED)
    return seconds * SECOND_NS + below


def text_of(time_ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 text in UTC, with as many digits as there are."""
    seconds, below = divmod(time_ns, SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{below:09d}".rstrip("0") if below else ""
    return f"{text}{fraction}Z"


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """A timezone by its IANA name; `ValueError` when there is none.

    From the package tzdata, never from the machine: a day is the same day on every machine.
    """
    if name not in _zone_names():
        raise ValueError("must be a timezone's name such as Europe/Warsaw or UTC")
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text().split())


# Since 1972 every zone's offset is a whole number of minutes, so no day begins inside one.
@lru_cache(maxsize=65_536)
def _day_of_minute(minute: int, zone: str) -> str:
    return datetime.fromtimestamp(minute * 60, zone_of(zone)).date().isoformat()


def day_of(time_ns: int, zone: str) -> str:
    """The calendar day of an instant in a timezone, as YYYY-MM-DD."""
    return _day_of_minute(time_ns // MINUTE_NS, zone)


def utc_day(now_ms: int, days_ago: int) -> str:
    """The UTC day of so many days ago: 0 is today's."""
    return day_of(now_ms * MS_NS - days_ago * DAY_NS, "UTC")


def date_text(text: str) -> str:
    """A calendar date as it was given, checked; `ValueError` says what is wrong with it."""
    if _DATE.fullmatch(text) is None:
        raise ValueError("must be a date such as 2026-11-20")
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("must be a date such as 2026-11-20") from None


def midnight_ns(day: str, zone: str) -> int:
    """The instant at which a day begins in a timezone."""
    start = datetime.fromisoformat(date_text(day)).replace(tzinfo=zone_of(zone))
    return int(start.timestamp()) * SECOND_NS
