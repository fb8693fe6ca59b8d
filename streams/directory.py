"""Who there is: organisations, users and keys, followed from their topics and kept in memory.

Every role has one of its own. `refresh` reads what has been added; the rest are look-ups.

    directory = Directory(log)
    await directory.refresh()
    directory.organization("acme")
"""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from streams import topics
from streams.clock import monotonic_s
from streams.errors import LogMismatch
from streams.log.interface import Log, Message, Record
from streams.organizations import Change, Key, Mapping, Organization, User, hash_of, user_key

READ_LIMIT = 1000

_organization = msgspec.json.Decoder(Organization)
_user = msgspec.json.Decoder(User)
_key = msgspec.json.Decoder(Key)
_encoder = msgspec.json.Encoder()


Logged = TypeVar("Logged", Change, Mapping)


def _logged(history: tuple[Logged, ...], before: tuple[Logged, ...], time_ms: int) -> tuple[Logged, ...]:
    """What a record adds to a history takes the record's own log time, behind all that was there.

    Whoever wrote it took the time just before the log did, by a clock that may have gone back: an event
    that the log took in between was decided without it, and must be again in every rebuild.
    """
    floor_ms = max((change.logged_ms for change in before), default=-1) + 1
    newest_ms = max((change.logged_ms for change in history), default=0)
    added = [change for change in history if change not in before] if before else history
    return tuple(
        replace(change, logged_ms=max(change.logged_ms, time_ms, floor_ms))
        if change in added and (before or change.logged_ms == newest_ms)
        else change
        for change in history
    )


class Directory:
    """What the settings topics say, up to where they were read."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._read_s = float("-inf")
        self._reading = asyncio.Lock()  # a record that two readers took would be dated twice
        self._positions = dict.fromkeys(topics.SETTINGS_TOPICS, 0)
        self._organizations: dict[str, Organization] = {}
        self._users: dict[bytes, User] = {}
        self._keys: dict[str, Key] = {}
        self._by_hash: dict[str, str] = {}
        #: Whether any organisation ever named a source of truth.
        self.truths = False

    async def refresh(self, *, at_most_every_s: float = 0.0) -> None:
        """Read the settings topics to their end as it was when this was called, or later."""
        asked_s = monotonic_s()
        async with self._reading:
            if self._read_s > asked_s:
                return  # somebody who waited before us has done it meanwhile
            if at_most_every_s:
                await asyncio.sleep(self._read_s + at_most_every_s - asked_s)
            self._read_s = monotonic_s()
            await self._log.refresh(topics.SETTINGS_TOPICS)
            await self._read_on()

    async def _read_on(self) -> None:
        for topic in topics.SETTINGS_TOPICS:
            while self._positions[topic] < self._log.end_offset(topic, 0):
                records = await self._log.read(topic, 0, self._positions[topic], READ_LIMIT)
                if not records:
                    break
                for record in records:
                    self.apply(record)
                self._positions[topic] = records[-1].offset + 1

    def apply(self, record: Record) -> None:
        """Take one record of a settings topic."""
        if record.value is None:
            return
        try:
            if record.topic == topics.ORGANIZATIONS:
                organization = _organization.decode(record.value)
                before = self._organizations.get(organization.id)
                history = _logged(organization.history, before.history if before else (), record.time_ms)
                history = tuple(sorted(history, key=lambda change: (change.effective_ns, change.logged_ms)))
                self._organizations[organization.id] = replace(organization, history=history)
                self.truths = self.truths or any(change.truth for change in history)
            elif record.topic == topics.USERS:
                user = _user.decode(record.value)
                key_of_user = user_key(user.organization, user.user)
                known = self._users.get(key_of_user)
                mappings = _logged(user.history, known.history if known else (), record.time_ms)
                mappings = tuple(sorted(mappings, key=lambda one: (one.effective_day, one.logged_ms)))
                self._users[key_of_user] = replace(user, history=mappings)
            else:
                key = _key.decode(record.value)
                self._keys[key.id] = key
                self._by_hash[key.hash] = key.id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            place = f"{record.topic}/{record.partition}@{record.offset}"
            raise LogMismatch(f"settings record {place} does not decode: {error}") from None

    def organization(self, id: str) -> Organization | None:
        """An organisation's settings; None when it has none."""
        return self._organizations.get(id)

    def organizations(self) -> Sequence[Organization]:
        """All organisations that have settings, by id."""
        return [self._organizations[id] for id in sorted(self._organizations)]

    def user(self, organization: str, user: str) -> User | None:
        """A user's mapping; None when there is none."""
        return self._users.get(user_key(organization, user)) if self._users else None

    def users(self, organization: str) -> Sequence[User]:
        """An organisation's mapped users."""
        found = [user for user in self._users.values() if user.organization == organization]
        return sorted(found, key=lambda user: user.user)

    def key(self, id: str) -> Key | None:
        """An API key by its id."""
        return self._keys.get(id)

    def key_of_secret(self, secret: str) -> Key | None:
        """The API key that a caller shows, unless it is unknown or revoked."""
        id = self._by_hash.get(hash_of(secret))
        key = self._keys[id] if id else None
        return None if key is None or key.revoked_ms is not None else key

    def keys(self) -> Sequence[Key]:
        """All API keys, revoked ones too, in the order of their making."""
        return sorted(self._keys.values(), key=lambda key: (key.created_ms, key.id))


def message_of(thing: Organization | User | Key) -> Message:
    """The record that puts an organisation, user or key onto its topic."""
    if isinstance(thing, Organization):
        topic, key = topics.ORGANIZATIONS, thing.id.encode()
    elif isinstance(thing, User):
        topic, key = topics.USERS, user_key(thing.organization, thing.user)
    else:
        topic, key = topics.KEYS, thing.id.encode()
    return Message(topic, 0, key, _encoder.encode(thing))
