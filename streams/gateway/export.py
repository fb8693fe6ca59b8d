"""An organisation's facts over HTTP: for an auditor who has nothing but a reader's key.

    GET /api/v1/export/facts?month=2026-11          NDJSON; its last line says that it is whole

The same lines as `genledger export facts --org O --month M` writes. A scan of all of `usage` in batches,
with a turn for others between them: two at a time, one of them an organisation's, and each with an end. What
can't be brought to its end is broken off, so that nobody takes it for whole.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from hashlib import sha256

from aiohttp import web

from streams import export
from streams.clock import monotonic_s
from streams.errors import LogError
from streams.export import Scope
from streams.gateway.access import Caller
from streams.gateway.answers import Refusal, not_found
from streams.gateway.items import NDJSON
from streams.log.interface import Log
from streams.settings import Settings
from streams.snapshots import facts_from_ms

EXPORTS_MAX = 2
READ_RECORDS = 1000
EXPORT_S_MAX = 3600.0
RETRY_AFTER_S = 10.0

_UP = re.compile(r"(?:^|[/\\])\.\.(?:$|[/\\])")


class Exports:
    """The handler, and who is being answered."""

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log = log
        self._write_timeout_s = settings.request_timeout_s
        self._under_way: list[str] = []

    async def facts(self, request: web.Request) -> web.StreamResponse:
        """GET /api/v1/export/facts"""
        scope = scope_of(request["caller"], request.query.get("org"), request.query.get("month", ""))
        with self._turn(request["caller"].organization):
            ranges = await export.ranges_of(self._log)
            from_ms = await facts_from_ms(self._log, [one.partition for one in ranges])
            header = export.header_of(scope, self._log.identity, ranges, from_ms)
            response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
            name = f"facts-{scope.month}.ndjson"  # of nothing but what was checked
            response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
            await response.prepare(request)
            deadline_s = monotonic_s() + EXPORT_S_MAX
            try:
                async for lines in _lines(export.batches(self._log, ranges, scope, READ_RECORDS), header):
                    if monotonic_s() > deadline_s or not request["still_allowed"]():
                        raise TimeoutError
                    async with asyncio.timeout(self._write_timeout_s):
                        await response.write(lines)
                    await asyncio.sleep(0)
                await response.write_eof()
            except (LogError, TimeoutError) as error:
                if request.transport is not None:
                    request.transport.abort()  # what waits for a reader who takes nothing goes, too
                raise ConnectionResetError("an export was broken off") from error
        return response

    @contextmanager
    def _turn(self, organization: str) -> Iterator[None]:
        """A place among those who are answered; 503 when there is none."""
        if len(self._under_way) >= EXPORTS_MAX or organization in self._under_way:
            message = f"at most {EXPORTS_MAX} exports at once, and one of an organisation's"
            raise Refusal(503, "busy", message, retry_after_s=RETRY_AFTER_S)
        self._under_way.append(organization)
        try:
            yield
        finally:
            self._under_way.remove(organization)


async def _lines(batches: AsyncIterator[export.Batch], header: export.Row) -> AsyncIterator[bytes]:
    """The export's bytes, from its first line to its last; nothing for a batch without a row of it."""
    digest, count = sha256(), 0
    lines = export.line_of(header)
    digest.update(lines)
    yield lines
    async for batch in batches:
        lines = b"".join(map(export.line_of, batch.rows))
        digest.update(lines)
        count += len(batch.rows)
        yield lines
    yield export.line_of(export.trailer_of(count, {"sha256": digest.hexdigest()}))


def scope_of(caller: Caller, asked: str | None, month: str) -> Scope:
    """What a caller may have of what he asks for. Pure."""
    if asked == "":
        raise _bad("org", "must not be empty: leave it out for all that the key may read")
    if asked is not None and _UP.search(asked):
        raise _bad("org", "must not have .. in it")
    try:
        export.month_text(month)
    except ValueError as error:
        raise _bad("month", str(error)) from None
    if caller.organization and asked not in (None, caller.organization):
        raise not_found("there is nothing here")
    return Scope(organization=asked or caller.organization, month=month)


def _bad(field: str, message: str) -> Refusal:
    return Refusal(400, "bad_request", message, field)
