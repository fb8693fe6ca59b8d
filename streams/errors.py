"""Every error a caller may catch, as a tree.

GenledgerError
├── SettingError            a setting is missing, unknown or contradicts another
├── BadEvent                an event that does not decode; names the field
├── LogError
│   ├── UnknownTopic
│   ├── LogUnavailable      the cluster did not answer in time: whether it has what was sent is unknown
│   ├── LogFull             too much is waiting, or the disk is full: come back later
│   ├── LogDamaged          bytes on disk are not what was written: says where
│   ├── LogBusy             another process has the log open
│   ├── LogMismatch         the log is not the one it should be (partitions, format, identity)
│   └── Fenced              another writer has taken the partition over
├── ViewError
│   ├── ViewFull            the disk is full: nothing was written, try again
│   ├── ViewBusy            another process writes the view
│   ├── SchemaMismatch      the tables are not those of this version: `genledger db upgrade`
│   ├── PositionMoved       another writer changed the view under us
│   ├── LogBehindView       the view knows records that the log does not have
│   └── Hole                a fact is missing between two others
└── ServiceUnreachable      a command that needs the running service did not find it
"""


class GenledgerError(Exception):
    """Anything genledger raises on purpose. Its text says what to do."""


class SettingError(GenledgerError):
    """A setting is missing, unknown, or contradicts another."""


class BadEvent(GenledgerError):
    """An event that does not decode. `field` is its name, or '' for the whole."""

    def __init__(self, field: str, error: str, reason: str = "undecodable") -> None:
        super().__init__(f"{field}: {error}" if field else error)
        self.field = field
        self.error = error
        self.reason = reason


class LogError(GenledgerError):
    """The log can't do what was asked."""


class UnknownTopic(LogError):
    """There is no topic of that name."""


class LogFull(LogError):
    """Too much is waiting to be written, or the disk is full. Nothing was written.

    `disk` tells which of the two; `retry_after_s` when to come back.
    """

    def __init__(self, error: str, *, disk: bool = False, retry_after_s: int = 1) -> None:
        super().__init__(error)
        self.disk = disk
        self.retry_after_s = retry_after_s


class LogUnavailable(LogError):
    """The cluster did not answer in time. What was sent may be on the log, or not: send it again."""


class LogDamaged(LogError):
    """Bytes on disk are not what was written."""


class LogBusy(LogError):
    """Another process has the log open for writing."""


class LogMismatch(LogError):
    """The log is not the one it should be: partitions, format or identity differ."""


class Fenced(LogError):
    """Another writer has taken the partition over; nothing was written."""


class ViewError(GenledgerError):
    """A view can't be brought forward."""


class ViewFull(ViewError):
    """The disk has no room. Nothing was written, the position stands: try again when there is room."""


class ViewBusy(ViewError):
    """Another process has the view open for writing."""


class SchemaMismatch(ViewError):
    """The tables are not those of this version."""


class PositionMoved(ViewError):
    """Another writer changed the view since it was read."""


class LogBehindView(ViewError):
    """The view knows records that the log does not have: it was cut back, recreated or restored."""


class Hole(ViewError):
    """A fact names a predecessor that the view has not seen."""


class ServiceUnreachable(GenledgerError):
    """A command needs the running service and did not find it."""
