"""What every write of the door has in common: onto the log within a time, or the refusal that fits.

await Intake(log, timeout_s=10.0).append(messages)
"""

import asyncio
from collections.abc import Sequence

from streams.errors import LogError, LogFull
from streams.gateway.answers import Refusal
from streams.log.interface import Log, Message

SLOW_RETRY_S = 5.0


class Intake:
    """The log as the door sees it."""

    def __init__(self, log: Log, timeout_s: float) -> None:
        self._log = log
        self._timeout_s = timeout_s

    async def append(self, messages: Sequence[Message]) -> Sequence[int]:
        """Returns when the log has them. After a timeout it may have them later: the retry is a duplicate."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._log.append(messages)
        except LogFull as error:
            status, code = (507, "disk_full") if error.disk else (503, "log_full")
            message = "the log can't take more now: send the same again"
            raise Refusal(status, code, message, retry_after_s=error.retry_after_s) from None
        except TimeoutError:
            message = "the log did not answer in time: send the same again"
            raise Refusal(503, "log_slow", message, retry_after_s=SLOW_RETRY_S) from None
        except LogError:
            raise unavailable() from None


def unavailable() -> Refusal:
    """The log, or the role that knows, does not answer now."""
    message = "the log is not available: send the same again"
    return Refusal(503, "log_unavailable", message, retry_after_s=SLOW_RETRY_S)
