"""Where an export goes: NDJSON or Parquet, on stdout or into a file that is there whole or not at all.

    with opened("acme.ndjson.gz", force=False) as out, ndjson(out, header, gzipped=True) as sink:
        sink.write(rows)

Both are written as the rows come, so memory is bounded whatever the size of the log. What ends the export
(how many facts, the checksum) is written when the `with` ends well, and only then.
"""

import gzip
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast, get_args

import msgspec

from genledger.options import WrongUse
from genledger.output import visible
from streams import export
from streams.export import LEFT_OUT, SIDES, Row
from streams.fact import Entry, Fact

# Rows of a Parquet file that are held, and written, together.
GROUP_ROWS = 16_384
GZIP_LEVEL = 3
METADATA_KEY = "genledger"


class Sink(Protocol):
    """Takes rows, and knows how many."""

    facts: int

    def write(self, rows: Sequence[Row]) -> None: ...


@contextmanager
def opened(name: str, *, force: bool) -> Iterator[BinaryIO]:
    """A file to write: under its own name when the `with` ends well, else gone. `-` is stdout."""
    if name == "-":
        yield sys.stdout.buffer
        return
    path, part = Path(name), Path(f"{name}.part")
    if path.exists() and not (force and path.is_file()):
        raise WrongUse(f"{visible(name)} exists: name another file, or replace it with --force")
    try:
        out = part.open("wb")
    except OSError as error:
        raise WrongUse(f"{visible(part)} can't be written: {error.strerror}") from None
    try:
        with out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def ndjson(out: BinaryIO, header: Mapping[str, Any], *, gzipped: bool) -> Iterator["Ndjson"]:
    """Lines of JSON: the header, the facts, the trailer."""
    if not gzipped:
        sink = Ndjson(out, header)
        yield sink
        sink.end()
        return
    # Without a name and a time in it: the same facts are the same file.
    with gzip.GzipFile("", "wb", GZIP_LEVEL, out, mtime=0) as packed:
        sink = Ndjson(cast("BinaryIO", packed), header)
        yield sink
        sink.end()


class Ndjson:
    """One line a row; the trailer has the checksum of all the lines before it."""

    def __init__(self, out: BinaryIO, header: Mapping[str, Any]) -> None:
        self.facts = 0
        self._out = out
        self._digest = sha256()
        self._put(export.line_of(header))

    def write(self, rows: Sequence[Row]) -> None:
        """Some more lines."""
        self._put(b"".join(map(export.line_of, rows)))
        self.facts += len(rows)

    def end(self) -> None:
        """The trailer."""
        self._put(export.line_of(export.trailer_of(self.facts, {"sha256": self._digest.hexdigest()})))
        self._out.flush()

    def _put(self, lines: bytes) -> None:
        self._digest.update(lines)
        self._out.write(lines)


@contextmanager
def parquet(out: BinaryIO, header: Mapping[str, Any]) -> Iterator["Parquet"]:
    """A flat table: a column for each field, those of the two sides as plus_... and minus_..."""
    sink = Parquet(out, header)
    try:
        yield sink
        sink.end()
    finally:
        sink.close()


class Parquet:
    """Groups of rows; header and trailer are in the file's metadata."""

    def __init__(self, out: BinaryIO, header: Mapping[str, Any]) -> None:
        try:
            import pyarrow as pa
            from pyarrow.parquet import ParquetWriter
        except ImportError:
            raise WrongUse(
                "Parquet needs pyarrow: install it with pip install 'genledger[parquet]'"
            ) from None
        self.facts = 0
        self._arrow = pa
        self._schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in columns().items()])
        self._header = header
        self._rows: list[Row] = []
        self._writer = ParquetWriter(out, self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        """Some more rows; a group goes out when there are enough."""
        self._rows += map(flat, rows)
        self.facts += len(rows)
        if len(self._rows) >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        arrays = [
            self._arrow.array([row.get(field.name) for row in self._rows], field.type)
            for field in self._schema
        ]
        self._writer.write_batch(self._arrow.record_batch(arrays, schema=self._schema))
        self._rows = []

    def end(self) -> None:
        """The last group, and how many facts there were."""
        if self._rows:
            self._write_group()
        whole = {**self._header, **export.trailer_of(self.facts, {})}
        self._writer.add_key_value_metadata({METADATA_KEY: msgspec.json.encode(whole)})

    def close(self) -> None:
        """The file's own end."""
        self._writer.close()


def columns() -> Mapping[str, str]:
    """The columns of the flat table, each with the name of its type."""
    places = {"partition": "int64", "usage_offset": "int64"}
    own = {field.name: _kind(field.type) for field in msgspec.structs.fields(Fact) if field.name not in SIDES}
    sides = {
        f"{side}_{field.name}": _kind(field.type)
        for side in SIDES
        for field in msgspec.structs.fields(Entry)
        if field.name not in LEFT_OUT
    }
    return places | own | sides


def _kind(annotation: Any) -> str:
    kinds = get_args(annotation) or (annotation,)
    if bool in kinds:
        return "bool_"
    return "int64" if int in kinds else "string"


def flat(row: Row) -> Row:
    """A row whose sides are no objects of their own."""
    found = {name: value for name, value in row.items() if name not in SIDES}
    for side in SIDES:
        found |= {f"{side}_{name}": value for name, value in (row[side] or {}).items()}
    return found
