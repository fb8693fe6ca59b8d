"""What the tests of exports share: facts made by hand, a log of them, an export's lines, examples/audit.py.

write_facts(data, counted("gen-1", 0, cost_nano=5))
lines = export(data, "--org", "acme")          # by the command; the first and the last line with them
code, found = audited(tmp_path, sealed(lines), "2026-11", "acme")
"""

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import msgspec

from genledger.main import run
from streams import fact, money, times, topics
from streams.fact import Entry, Fact
from streams.log.interface import Message
from streams.log.sqlite.log import open_log

SCRIPT = Path(__file__).parents[1] / "examples" / "audit.py"
NOW_MS = 1_795_176_000_000  # 2026-11-20T12:00:00Z
Row = dict[str, Any]


def entry(organization: str = "acme", **fields: Any) -> Entry:
    """What a generation is worth, with its markup as it must be."""
    day = fields.pop("day", "2026-11-20")
    cost_nano = fields.pop("cost_nano", 1_000_000)
    rate = fields.pop("rate", "1.3")
    markup_nano = None if cost_nano is None else money.marked_up(cost_nano, rate)
    known = {"day": day, "today": "2026-11-20", "model": "m", "user": "u", "total_tokens": 3}
    known |= {"cost_nano": cost_nano, "markup_nano": markup_nano, "rate": rate}
    known |= {"created_ns": times.midnight_ns(day, "UTC") + times.HOUR_NS, **fields}
    return Entry(organization=organization, **known)


def void(organization: str = "acme") -> Entry:
    """What a voided generation is remembered by."""
    return entry(organization, requests=0, cost_nano=None, total_tokens=0)


def decided(fate: Any, id: str, plus: Entry | None = None, minus: Entry | None = None, **more: Any) -> Fact:
    """A fact; its place is given when it is written."""
    more.setdefault("time_ms", NOW_MS)
    return Fact(fate=fate, id=id, partition=0, offset=0, prev=-1, plus=plus, minus=minus, **more)


def write_facts(data: Path, *facts: Fact) -> None:
    """Facts onto the first partition of a log's `usage`, in order, after those that are there."""

    async def write() -> None:
        log = await open_log(f"sqlite:///{data}/log", topics.topic_table())
        at = log.end_offset(topics.USAGE, 0)
        placed = [
            msgspec.structs.replace(each, offset=at + n, prev=at + n - 1, number=at + n + 1)
            for n, each in enumerate(facts)
        ]
        await log.append(
            [
                Message(topics.USAGE, 0, each.id.encode(), fact.encode(each), fact.SCHEMA_HEADERS)
                for each in placed
            ]
        )
        await log.close()

    in_thread(lambda: asyncio.run(write()))


def in_thread(work: Callable[[], Any]) -> Any:
    """The command has a loop of its own, so it runs beside the test's."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def command(*arguments: str) -> int:
    """A command's exit code."""

    def work() -> int:
        try:
            return run(["export", "facts", *arguments])
        except SystemExit as ended:
            return int(str(ended.code))

    code: int = in_thread(work)
    return code


def export(data: Path, *options: str) -> list[Row]:
    """The lines that the command writes."""
    file = data.with_name("export.ndjson")
    assert command(str(file), "--data", str(data), "--force", *options) == 0
    return lines_of(file.read_bytes())


def lines_of(text: bytes) -> list[Row]:
    """NDJSON as rows."""
    return [json.loads(line) for line in text.splitlines()]


def sealed(lines: Sequence[Row]) -> bytes:
    """An export of these lines whose last one vouches for them, whatever was done to them."""
    kept = [msgspec.json.encode(line) + b"\n" for line in lines[:-1]]
    whole = b"".join(kept)
    end = {**lines[-1], "facts": len(kept) - 1, "sha256": hashlib.sha256(whole).hexdigest()}
    return whole + msgspec.json.encode(end) + b"\n"


def _module() -> Any:
    spec = spec_from_file_location("audit", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


audit = _module()


def audited(folder: Path, export: bytes, month: str, organization: str, *options: str) -> tuple[int, str]:
    """The script's exit code and what it found."""
    file = folder / "audited.ndjson.gz"
    file.write_bytes(gzip.compress(export, 1))
    code, _, found = script(str(file), month, organization, *options)
    return code, found


def script(*arguments: str) -> tuple[int, str, str]:
    """The script in this process: exit code, stdout, stderr."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = audit.main(list(arguments))
    return code, out.getvalue(), error.getvalue()


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script as an auditor runs it: without our packages, or any other."""
    return subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def facts_in(lines: Sequence[Row]) -> Iterator[Row]:
    """The lines between the first and the last."""
    assert lines[0]["export"] == lines[-1]["end"] == "genledger facts"
    assert lines[-1]["facts"] == len(lines) - 2
    return iter(lines[1:-1])
