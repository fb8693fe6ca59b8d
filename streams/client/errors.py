"""Every error of the client, as a tree. An event that is wrong is a `streams.errors.BadEvent` at the call.

GenledgerError
└── ClientError
    ├── QueueFull           the gateway is away, or slower than the program, and the room is used up
    │   └── SpoolFull       the same of a spool, or its disk is full
    ├── SpoolBusy           another process, or another client of this one, has the spool open
    ├── SpoolUnusable       the spool's file can't be read or written, or is no spool
    ├── ClientClosed        record() after close()
    └── Forked              the client was made by a parent process
"""

from streams.errors import GenledgerError


class ClientError(GenledgerError):
    """The client can't take an event. Nothing of the event was kept."""


class QueueFull(ClientError):
    """Too much waits to be sent."""


class SpoolFull(QueueFull):
    """Too much waits in the spool, or its disk is full."""


class SpoolBusy(ClientError):
    """A spool has one owner at a time."""


class SpoolUnusable(ClientError):
    """The spool's file can't be read or written, or is no spool."""


class ClientClosed(ClientError):
    """The client was closed."""


class Forked(ClientError):
    """A client does not live on in a child process: make one there."""
