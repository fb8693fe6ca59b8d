r"""Questions in Flux, for 1.8, 2 and Cloud: one text for all of them, and nothing newer than Flux 0.65.

>>> literal('") |> yield()')
'"\\x22\\x29\\x20\\x7c\\x3e\\x20yield\\x28\\x29"'

Names come from strangers: whatever is not a letter or a digit goes as its bytes, so that no name can end its
own literal, and `${` is no interpolation.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from projections.stores.influxdb.server import Server
from streams import times

Rows = Callable[[str, int, int, Mapping[str, str]], AsyncIterator[Mapping[str, Any]]]

_PLAIN = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")


def rows_of(server: Server) -> Rows:
    """The rows of a measurement in the server's bucket."""

    def rows(
        measurement: str, first_ns: int, last_ns: int, tags: Mapping[str, str]
    ) -> AsyncIterator[Mapping[str, Any]]:
        text = question(server.target.bucket, measurement, first_ns, last_ns, tags)
        return server.query_flux(text)

    return rows


def question(bucket: str, measurement: str, first_ns: int, last_ns: int, tags: Mapping[str, str]) -> str:
    """Each point as one row, with a column for each of its tags and fields. Pure."""
    wanted = [("_measurement", measurement), *tags.items()]
    where = " and ".join(f"r[{literal(name)}] == {literal(value)}" for name, value in wanted)
    return (
        f"from(bucket: {literal(bucket)})\n"
        f"  |> range(start: {times.text_of(first_ns)}, stop: {times.text_of(last_ns)})\n"
        f"  |> filter(fn: (r) => {where})\n"
        f'  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")\n'
        f'  |> drop(columns: ["_start", "_stop", "_measurement"])'
    )


def literal(text: str) -> str:
    """A text as Flux has it between quotation marks."""
    data = text.encode()
    return '"' + "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in data) + '"'
