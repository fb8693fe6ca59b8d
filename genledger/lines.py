"""A file of lines to publish, read from where an earlier run came to.

    with open_source("usage.ndjson.gz", ledger="5f0c...") as source:
        for line in source:                # Line(number, text), text None when it is too long
            ...
            source.remember(tally)         # the log has everything read so far
        source.forget()                    # done: the next run begins at the start

`FILE.genledger-progress` holds how far it came, the identity of the ledger that has the lines, and a digest
of the file's head, so that neither another ledger nor another file of the same name is taken for this one.
If it is lost, the lines are sent again: their ids count once.
"""

import gzip
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from genledger.options import WrongUse
from genledger.output import say
from streams.errors import GenledgerError
from streams.generation import EVENT_BYTES_MAX

LINE_BYTES_MAX = 4 * EVENT_BYTES_MAX  # longer than any event with unknown fields may reasonably be
HEAD_BYTES = 65_536
PROGRESS_SUFFIX = ".genledger-progress"
GZIP_MAGIC = b"\x1f\x8b"


class Line(msgspec.Struct, frozen=True):
    """A line by its number, from 1. `text` is None when it is longer than can be an event."""

    number: int
    text: bytes | None


class Tally(msgspec.Struct, frozen=True):
    """What became of the lines so far."""

    lines: int = 0
    accepted: int = 0
    rejected: int = 0
    blank: int = 0
    ignored_lines: int = 0  # accepted, less fields that are not ours
    ignored_fields: tuple[str, ...] = ()


class Position(msgspec.Struct, frozen=True):
    """How far a file has been read: bytes of its text, and bytes of the file itself."""

    offset: int
    line: int
    read_bytes: int


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the state file holds. Without a ledger's identity nothing goes on from it."""

    head: str
    head_bytes: int
    offset: int
    line: int
    tally: Tally
    ledger: str = ""


class Source:
    """Lines of a file or of standard input, from where an earlier run came to."""

    def __init__(self, file: BinaryIO, raw: BinaryIO, path: Path | None, ledger: str) -> None:
        self._ledger = ledger
        self._file = file
        self._raw = raw
        self._state = None if path is None else path.with_name(path.name + PROGRESS_SUFFIX)
        self._head_bytes, self._head = _head_of(path, HEAD_BYTES) if path else (0, "")
        self.size_bytes = path.stat().st_size if path else None
        self.tally = Tally()
        self._offset = self._line = 0
        progress = self._recall(path) if path else None
        if progress is not None:
            file.seek(progress.offset)
            self._offset, self._line = progress.offset, progress.line
            self.tally = progress.tally

    def _recall(self, path: Path) -> Progress | None:
        if self._state is None or not self._state.exists():
            return None
        try:
            found = msgspec.json.decode(self._state.read_bytes(), type=Progress)
        except (OSError, msgspec.DecodeError):
            say(f"{self._state} can't be read: beginning at the start")
            return None
        if _head_of(path, found.head_bytes) != (found.head_bytes, found.head):
            say(f"{path} is not the file that {self._state} tells of: beginning at the start")
            return None
        if not self._ledger or not found.ledger:
            say("the service does not tell this key which ledger it has: beginning at the start")
            return None
        if found.ledger != self._ledger:
            say(f"{self._state} tells of another ledger than this one: beginning at the start")
            return None
        say(f"going on after line {found.line}: {self._state} tells how far an earlier run came")
        return found

    def __iter__(self) -> Iterator[Line]:
        try:
            while text := self._file.readline(LINE_BYTES_MAX + 1):
                self._line += 1
                self._offset += len(text)
                if len(text) <= LINE_BYTES_MAX:
                    yield Line(self._line, text)
                    continue
                while not text.endswith(b"\n") and (text := self._file.readline(LINE_BYTES_MAX)):
                    self._offset += len(text)
                yield Line(self._line, None)
        except (EOFError, gzip.BadGzipFile) as error:
            raise GenledgerError(f"the gzip file is damaged after line {self._line}: {error}") from None

    @property
    def position(self) -> Position:
        """How far it has been read."""
        # Of a packed file the bar shows how much of the file itself is read; a pipe can't tell.
        packed = self._raw is not self._file and self.size_bytes is not None
        read_bytes = self._raw.tell() if packed else self._offset
        return Position(self._offset, self._line, read_bytes)

    def remember(self, position: Position, tally: Tally) -> None:
        """The log has every line up to here: an interrupted run goes on after it."""
        if self._state is None:
            return
        progress = Progress(self._head, self._head_bytes, position.offset, position.line, tally, self._ledger)
        fresh = self._state.with_name(self._state.name + ".new")
        try:
            fresh.write_bytes(msgspec.json.encode(progress))
            fresh.replace(self._state)
        except OSError as error:
            # Without it an interrupted run only takes longer.
            say(f"{self._state} can't be written, so this run can't be resumed: {error.strerror}")
            self._state = None

    def forget(self) -> None:
        """All is done: the next run begins at the start."""
        if self._state is not None:
            self._state.unlink(missing_ok=True)


def _head_of(path: Path, most: int) -> tuple[int, str]:
    with path.open("rb") as file:
        head = file.read(min(most, HEAD_BYTES))
    return len(head), blake2b(head, digest_size=16).hexdigest()


@contextmanager
def open_source(name: str, ledger: str) -> Iterator[Source]:
    """A file's lines for a ledger, unpacked if it is gzip; `-` is standard input."""
    if name == "-":
        yield _standard_input(ledger)
        return
    path = Path(name)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise WrongUse(f"{name} can't be read: {error.strerror}") from None
    with raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0, os.SEEK_SET)
        if not packed:
            yield Source(raw, raw, path, ledger)
            return
        with gzip.open(raw) as unpacked:
            yield Source(cast(BinaryIO, unpacked), raw, path, ledger)


def _standard_input(ledger: str) -> Source:
    file = cast(io.BufferedReader, sys.stdin.buffer)
    if file.peek(2)[:2] == GZIP_MAGIC:
        return Source(cast(BinaryIO, gzip.open(file)), file, None, ledger)
    return Source(file, file, None, ledger)
