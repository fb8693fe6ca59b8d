"""Where the points stand, kept in the bucket that has them: a position lives with its data.

bookmarks = Bookmarks(server, writer, prefix, log.identity)
found = await bookmarks.read()
await bookmarks.write({0: (position, a_minute_ago)})
"""

from collections.abc import Mapping

from projections.stores.influxdb.positions import Kept, position_line, read_positions
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.writer import Line, Writer
from projections.view import Position
from streams import clock
from streams.errors import ViewError


class Bookmarks:
    """Of one installation: several may share a bucket, each with its topics' prefix."""

    def __init__(self, server: Server, writer: Writer, prefix: str, log: str) -> None:
        self._server = server
        self._writer = writer
        self._prefix = prefix
        self._log = log

    async def read(self) -> Mapping[int, Kept]:
        """The newest of each partition, as the server has it now."""
        return await read_positions(self._server, self._prefix)

    async def write(self, moved: Mapping[int, tuple[Position, Position]]) -> None:
        """Where each stands, and where it stood a minute ago. Returns when the server has them."""
        now_ms = clock.now_ms()
        lines = [
            Line(position_line(partition, self._prefix, Kept(at, minute_ago, self._log), now_ms), None)
            for partition, (at, minute_ago) in moved.items()
        ]
        refused = await self._writer.write(lines)
        if refused:
            raise ViewError(f"InfluxDB refuses the points' position: {refused[0].message}")
