"""The watchdog: each part's lag and movement, and whether the process is well.

    watch.parts["ledger"] = Part(places, failure)
    reason = watch.look(now_s)       # '' while all is well, else what is wrong and what to do

A part that has records waiting and has not moved for the stall time is stuck: the process ends, for a
restart is the mend, and nothing is lost by it.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from projections.api import takes
from streams import metrics
from streams.gateway.probes import Health
from streams.log.interface import Failed

_logger = logging.getLogger("genledger")

Places = Callable[[], Mapping[tuple[str, int], tuple[int, int]]]


class Part(msgspec.Struct):
    """A part that follows the log: where it stands and where the log ends, and why it failed, if it did."""

    places: Places
    failure: Callable[[], BaseException | None] | None  # None: left out by a test
    full: Callable[[], bool] = lambda: False
    trouble: Callable[[], str] = lambda: ""  # what keeps it from its work and will pass, or ''
    held: Callable[[], str] = lambda: ""  # who outside keeps it waiting: it is not stuck, however long
    aside: bool = False  # nobody waits for it: what troubles it is no reason not to be ready


# What an operator should look at though all goes on; '' while there is nothing.
Alarm = Callable[[], str]


class Status(msgspec.Struct):
    """What /api/v1/status answers. A worker that is not asked for its lag has none."""

    roles: dict[str, str]
    lag: dict[str, int | None]
    alarms: dict[str, str]
    proof: dict[str, Any] | None
    reconciliation: dict[str, Any] | None
    log: str
    sync: dict[str, Any] | None
    cleanup: dict[str, Any] | None
    sizes: dict[str, Any] | None


class Watch:
    """All parts, and what was last seen of them."""

    def __init__(self, stall_timeout_s: float) -> None:
        self.parts: dict[str, Part] = {}
        self.log_identity = ""
        self.futures: dict[str, Failed] = {}
        self.alarms: dict[str, Alarm] = {}
        #: What the last comparison of the views with the log has found; None: there was none.
        self.proof: Callable[[], Mapping[str, Any] | None] = lambda: None
        #: The same of their comparison with InfluxDB.
        self.reconciliation: Callable[[], Mapping[str, Any] | None] = lambda: None
        #: The last run of the sync of each organisation; None: none runs here.
        self.sync: Callable[[], Mapping[str, Any] | None] = lambda: None
        #: The retention job: its newest run, and its next; None: none leads here.
        self.cleanup: Callable[[], Mapping[str, Any] | None] = lambda: None
        #: How large topics, files, state and tables are; None: not measured yet.
        self.sizes: Callable[[], Mapping[str, Any] | None] = lambda: None
        self._ringing: dict[str, str] = {}
        self._stall_timeout_s = stall_timeout_s
        self._moved: dict[tuple[str, str, int], tuple[int, float]] = {}

    def look(self, now_s: float) -> str:
        """What is wrong, or ''. Called a few times a second."""
        for name, future in self.futures.items():
            if future.done():
                return f"{name} failed: {_told(future)}"
        for name, part in self.parts.items():
            if part.failure is None:
                continue
            error = part.failure()
            if error is not None:
                return f"{name} failed: {type(error).__name__}: {error}"
            stuck = ""
            if part.full() or part.held():
                # The time that it waited for others is not its own: it begins anew when they are back.
                self._moved = {place: seen for place, seen in self._moved.items() if place[0] != name}
            else:
                stuck = self._stuck(name, part, now_s)
            metrics.LAG_RECORDS.labels(name).set(_lag(part))
            if stuck:
                return stuck
        self._ring()
        return ""

    def _ring(self) -> None:
        """Log an alarm when it begins, not as long as it lasts."""
        ringing = {name: text for name, alarm in self.alarms.items() if (text := alarm())}
        for name in ringing.keys() - self._ringing.keys():
            _logger.warning("%s: %s", name, ringing[name])
        self._ringing = ringing

    def _stuck(self, name: str, part: Part, now_s: float) -> str:
        for (topic, partition), (position, end) in part.places().items():
            place = (name, topic, partition)
            before = self._moved.get(place)
            if before is None or before[0] != position or position >= end:
                self._moved[place] = (position, now_s)
            elif now_s - before[1] > self._stall_timeout_s:
                return (
                    f"{name} stands still at {topic}/{partition}@{position} with {end - position} records"
                    f" waiting, for more than {self._stall_timeout_s:g} s. Start it again; if it stops there"
                    " once more, look at that record with `genledger explain` and report it"
                )
        return ""

    def health(self) -> Health:
        """For the probes: ready when every part runs and none has a full disk."""
        states = {name: _state(part) for name, part in self.parts.items()}
        reasons = tuple(
            f"{name}: {state}"
            for name, state in states.items()
            if state not in ("ok", "off") and not self.parts[name].aside
        )
        return Health(ready=not reasons, reasons=reasons, components=self.detail())

    def detail(self) -> dict[str, Any]:
        """Roles and their lag, as `genledger status` shows them."""
        return {
            "roles": {name: _state(part) for name, part in self.parts.items()},
            "lag": {name: _lag(part) for name, part in self.parts.items()},
            "alarms": self._ringing,
            "proof": self.proof(),
            "reconciliation": self.reconciliation(),
            "cleanup": self.cleanup(),
            "sizes": self.sizes(),
            "log": self.log_identity,
        }

    @takes(returns=Status)
    async def status(self, request: web.Request) -> web.Response:
        """Each role, its state and lag; what an operator should look at; the last proof, sync and clean-up"""
        return web.json_response(self.detail() | {"sync": seen_by(self.sync(), request["organization"])})


def seen_by(sync: Mapping[str, Any] | None, organization: str) -> Mapping[str, Any] | None:
    """The sync's last runs, as far as a caller of one organisation may know of them. Pure."""
    if sync is None or not organization:
        return sync
    return {name: report for name, report in sync.items() if name == organization}


def _told(future: Failed) -> str:
    """What a future that should not have ended says."""
    try:
        return str(future.result())
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is the reason
        return f"{type(error).__name__}: {error}"


def _lag(part: Part) -> int:
    return sum(max(0, end - position) for position, end in part.places().values())


def _state(part: Part) -> str:
    if part.failure is None:
        return "off"
    if part.failure() is not None:
        return "failed"
    if part.full():
        return "disk full"
    return part.held() or part.trouble() or "ok"
