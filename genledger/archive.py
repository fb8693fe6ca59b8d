"""The file that `genledger backup` writes: a tar whose first member says what must be in the others.

    archive.write(Path("b.tar.gz.part"), manifest, folder, moved, packed=True)
    manifest = archive.read_manifest(Path("b.tar.gz"))
    archive.unpack(Path("b.tar.gz"), manifest, folder, {"genledger.db"}, moved)

| member        | is                                                                       |
| ------------- | ------------------------------------------------------------------------ |
| manifest.json | format, when, which log, where everything stood, and every other member  |
| genledger.db  | the views                                                                |
| log/NAME.db   | a file of the embedded log; none of a log on a cluster                   |

Nothing but these names is taken out of an archive, and only plain files that are as the manifest says.
"""

import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

import msgspec

from streams.errors import GenledgerError

FORMAT = 1
MANIFEST = "manifest.json"
VIEWS = "genledger.db"
PACKED = (".tar.gz", ".tgz")
SUFFIXES = (".tar", *PACKED)
MANIFEST_BYTES_MAX = 1 << 20
BLOCK_BYTES = 1 << 20
PACK_LEVEL = 6

_LOG_MEMBER = re.compile(r"log/([a-z]{1,32})\.db")
_GZIP = b"\x1f\x8b"

Moved = Callable[[int], None]


class BadArchive(GenledgerError):
    """A file that is no archive of ours, or not as it was written."""


class Member(msgspec.Struct, frozen=True):
    """A file in the archive."""

    name: str
    size_bytes: int
    sha256: str


class LogPart(msgspec.Struct, frozen=True):
    """Which log, and how far it went: the next offset by `topic/partition`."""

    identity: str
    ends: dict[str, int]


class ViewsPart(msgspec.Struct, frozen=True):
    """The tables' revision, and the last record that each view has taken, by `view/partition`."""

    revision: str
    positions: dict[str, int]


class Manifest(msgspec.Struct, frozen=True):
    """What an archive holds."""

    format: int
    genledger: str
    time: str
    log: LogPart | None
    views: ViewsPart | None
    members: list[Member]

    def names(self) -> Sequence[str]:
        """The members' names, in their order."""
        return [member.name for member in self.members]


def log_member(store: str) -> str:
    """The name of a log's file in an archive."""
    return f"log/{store}.db"


def is_log(name: str) -> bool:
    """Is a member a file of the log?

    >>> is_log("log/ledger.db"), is_log("log/../genledger.db")
    (True, False)
    """
    return _LOG_MEMBER.fullmatch(name) is not None


def member_of(folder: Path, name: str) -> Member:
    """A file as a member."""
    path = folder / name
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Member(name, path.stat().st_size, digest)


def write(path: Path, manifest: Manifest, folder: Path, moved: Moved, *, packed: bool) -> None:
    """Write an archive of files in a folder, readable by its owner only, and sync it."""
    # Whatever the mode of the folder it will be moved to: it holds all that the ledger holds.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        with _writer(file, packed=packed) as tar:
            raw = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
            tar.addfile(_info(MANIFEST, len(raw)), BytesIO(raw))
            for member in manifest.members:
                with (folder / member.name).open("rb") as source:
                    tar.addfile(_info(member.name, member.size_bytes), _Told(source, moved))
        file.flush()
        os.fsync(file.fileno())


def _writer(file: IO[bytes], *, packed: bool) -> tarfile.TarFile:
    if packed:
        return tarfile.open(fileobj=file, mode="w:gz", format=tarfile.GNU_FORMAT, compresslevel=PACK_LEVEL)
    return tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)


def _info(name: str, size_bytes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = 0o600
    return info


class _Told:
    """A file that tells how much of it was read."""

    def __init__(self, source: IO[bytes], moved: Moved) -> None:
        self._source = source
        self._moved = moved

    def read(self, size: int = BLOCK_BYTES, /) -> bytes:
        found = self._source.read(size)
        self._moved(len(found))
        return found


def read_manifest(path: Path) -> Manifest:
    """What an archive says that it holds; `BadArchive` when that can't be."""
    with _reader(path) as tar:
        first = tar.next()
        if first is None:
            raise BadArchive(f"{path} is empty")
        return _manifest(path, tar, first)


def unpack(path: Path, manifest: Manifest, folder: Path, wanted: Collection[str], moved: Moved) -> None:
    """Take members out into a folder, each checked against the manifest; `BadArchive` when one is not so."""
    left = list(manifest.members)
    with _reader(path) as tar:
        tar.next()
        while (info := tar.next()) is not None:
            if not left or info.name != left[0].name or not info.isreg() or info.size != left[0].size_bytes:
                raise BadArchive(f"{path}: {info.name!r} is not what its manifest says; nothing was restored")
            member = left.pop(0)
            if member.name in wanted:
                source = tar.extractfile(info)
                assert source is not None
                _unpack_one(path, source, member, folder / member.name, moved)
    if left:
        raise BadArchive(f"{path} ends before {left[0].name}: it is not whole; nothing was restored")


def _unpack_one(path: Path, source: IO[bytes], member: Member, target: Path, moved: Moved) -> None:
    target.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as file:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
            file.write(block)
            moved(len(block))
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != member.sha256:
        raise BadArchive(
            f"{path}: {member.name} is damaged: it does not have its checksum; nothing was restored"
        )


def _manifest(path: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Manifest:
    if info.name != MANIFEST or not info.isreg() or info.size > MANIFEST_BYTES_MAX:
        raise BadArchive(f"{path} is not a backup of genledger: it does not begin with {MANIFEST}")
    source = tar.extractfile(info)
    assert source is not None
    raw = source.read()
    try:
        format = msgspec.json.decode(raw)["format"]
        if format != FORMAT:
            raise BadArchive(
                f"{path} has format {format}, and this genledger knows {FORMAT}: use a newer one"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise BadArchive(f"{path}: its manifest can't be read: {error}") from None
    names = manifest.names()
    strange = [name for name in names if name != VIEWS and not is_log(name)]
    if strange or len(set(names)) != len(names):
        raise BadArchive(f"{path}: its manifest names {strange or names!r}; no backup holds that")
    return manifest


@contextmanager
def _reader(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive from front to back; whatever is wrong with it is said in our words."""
    try:
        with path.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r|gz" if packed else "r|") as tar:
                yield tar
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadArchive(f"{path} is damaged, or not a backup of genledger: {error}") from None
