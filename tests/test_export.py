"""`genledger export facts`: what is in it, what must not be, and what becomes of its file."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest

from genledger.export import columns
from streams import export as exports
from streams import fact
from streams.export import Scope, row_of, seen_by
from streams.fact import Entry, Fact
from streams.log.interface import Record
from tests.exported import (
    NOW_MS,
    command,
    decided,
    entry,
    export,
    facts_in,
    lines_of,
    script,
    void,
    write_facts,
)
from tests.road.harness import COMMAND, clean_environ

DONE, FAILED, WRONG_USE = 0, 1, 2
OCTOBER, RIVAL = "2026-10-31", 'rival "co"'

TAKEN = decided(
    "conflict",
    "gen-3",
    entry("acme"),
    entry(RIVAL, model="secret-model"),
    reason="conflict",
    detail=f"read back with its own provider key, taken over from {RIVAL}",
)
FACTS = (
    decided("counted", "gen-1", entry(day=OCTOBER)),
    decided("amended", "gen-1", entry(cost_nano=7), entry(day=OCTOBER)),
    decided("counted", "gen-2", entry(RIVAL)),
    decided("counted", "gen-3", entry(RIVAL, model="secret-model")),
    TAKEN,
    decided("duplicate", "gen-1"),
    decided("conflict", "gen-2", reason="conflict", detail=f"the id belongs to organisation {RIVAL}"),
    decided("voided", "gen-1", void(), entry(cost_nano=7), time_ms=NOW_MS + 60_000),
    decided("quarantined", "gen-9", reason="key", detail="acme"),
    decided("opening", "balance-1", entry(margin="day", requests=9, unpriced_requests=2)),
    decided("counted", "gen-4", entry(day=OCTOBER)),
    decided("forgotten", "gen-4", minus=entry(day=OCTOBER), run="run-1", cutoff_ns=5),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_facts(folder, *FACTS)
    return folder


def ids(lines: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(line["fate"], line["id"]) for line in facts_in(lines)]


def test_everything_is_exported_with_every_field(data: Path) -> None:
    """Without an organisation each fact is a line, whole, in the log's order, and the first says how many."""
    lines = export(data)
    assert ids(lines) == [(each.fate, each.id) for each in FACTS]
    assert lines[0]["partitions"][0] == {"partition": 0, "start": 0, "end": len(FACTS)}
    assert {lines[0][name] for name in ("organization", "month", "from", "to")} == {None}
    line = lines[1]
    assert set(line) == {*Fact.__struct_fields__, "usage_offset"}
    assert set(line["plus"]) == set(Entry.__struct_fields__) - {"today", "today_zone"}
    assert (line["plus"]["cost_nano"], line["plus"]["markup_nano"]) == (1_000_000, 1_300_000)
    assert [each["usage_offset"] for each in facts_in(lines)] == list(range(len(FACTS)))


def test_an_organisations_export_has_its_own_sides_and_nothing_of_anothers(data: Path) -> None:
    """Of a takeover each has its side; another's names, models and the texts about it are in no byte."""
    lines = export(data, "--org", "acme")
    assert "rival" not in json.dumps(lines) and "secret" not in json.dumps(lines)
    assert ids(lines) == [
        *(("counted", "gen-1"), ("amended", "gen-1"), ("conflict", "gen-3"), ("voided", "gen-1")),
        *(("opening", "balance-1"), ("counted", "gen-4"), ("forgotten", "gen-4")),
    ]
    other = export(data, "--org", RIVAL)
    assert "acme" not in json.dumps(other)
    assert ids(other) == [("counted", "gen-2"), ("counted", "gen-3"), ("conflict", "gen-3")]
    taken = other[-2]
    assert taken["plus"] is None and taken["minus"]["model"] == "secret-model"


def test_a_months_export_has_what_was_added_or_taken_away_in_it(data: Path) -> None:
    """A fact belongs to a month by the days of its sides, whenever it was logged."""
    october = export(data, "--org", "acme", "--month", "2026-10")
    assert ids(october) == [
        *(("counted", "gen-1"), ("amended", "gen-1"), ("counted", "gen-4"), ("forgotten", "gen-4"))
    ]
    november = export(data, "--month", "2026-11")
    assert ("counted", "gen-4") not in ids(november) and ("amended", "gen-1") in ids(november)
    assert ids(export(data, "--month", "2026-12")) == []


def test_a_range_of_log_times_has_its_first_instant_and_not_its_last(data: Path) -> None:
    """--from is within, --to is not."""
    later = "2026-11-20T12:01:00Z"
    assert ids(export(data, "--from", later)) == [("voided", "gen-1")]
    assert len(ids(export(data, "--to", later))) == len(FACTS) - 1


def test_looking_at_the_bytes_first_changes_nothing() -> None:
    """What is told apart without decoding it is what decoding would have left out, however ids are quoted."""
    names = ['a"b', "a\\b", "é", "\U0001f600", "acme", "acme2", 'x","organization":"acme']
    facts = [
        decided("counted", "gen", entry(name, day=day)) for name in names for day in (OCTOBER, "2026-11-01")
    ]
    for scope in [Scope(organization=name, month=month) for name in names for month in ("", "2026-10")]:
        needles = exports._needles(scope)
        for each in facts:
            record = Record("usage", 0, 4, 1, b"k", fact.encode(each), fact.SCHEMA_HEADERS)
            assert exports._row(record, scope, needles) == row_of(each, 4, scope)


def test_a_fact_seen_by_its_owner_is_whole() -> None:
    """Only what is another's is taken out."""
    assert seen_by(TAKEN, "") is TAKEN
    own = decided("counted", "gen-1", entry())
    assert seen_by(own, "acme") is own
    assert seen_by(TAKEN, "nobody").plus is None


def test_a_file_is_there_whole_or_not_at_all(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What interrupts an export leaves the file that was there, and no part of another."""
    file = tmp_path / "out.ndjson"
    file.write_text("earlier")

    async def interrupted(*_: object):
        yield exports.Batch([], 1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(exports, "batches", interrupted)
        for name in ("out.ndjson", "out.ndjson.gz", "out.parquet"):
            assert command(str(tmp_path / name), "--data", str(data), "--force") == 130
    assert file.read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out.ndjson"]
    assert command(str(file), "--data", str(data)) == WRONG_USE
    assert file.read_text() == "earlier"
    assert command(str(file), "--data", str(data), "--force") == DONE
    assert len(lines_of(file.read_bytes())) == len(FACTS) + 2


def test_an_export_that_is_killed_leaves_no_file(data: Path, tmp_path: Path) -> None:
    """After kill -9 there is no FILE, only its part; the next export takes its place."""
    file, part = tmp_path / "out.ndjson", tmp_path / "out.ndjson.part"
    write_facts(data, *(decided("counted", f"gen-k{n}", entry()) for n in range(20_000)))
    words = [str(COMMAND), "export", "facts", str(file), "--data", str(data)]
    with subprocess.Popen(words, env=clean_environ(), stderr=subprocess.DEVNULL) as process:
        while not part.exists():
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
    assert (process.returncode, file.exists(), part.exists()) == (-signal.SIGKILL, False, True)
    assert command(str(file), "--data", str(data)) == DONE
    assert (file.exists(), part.exists()) == (True, False)


def test_the_same_facts_are_the_same_bytes(data: Path, tmp_path: Path) -> None:
    """Two exports of a log that has not moved are equal, packed ones too."""
    for name in ("a.ndjson.gz", "b.ndjson.gz"):
        assert command(str(tmp_path / name), "--data", str(data)) == DONE
    packed = (tmp_path / "a.ndjson.gz").read_bytes()
    assert packed == (tmp_path / "b.ndjson.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # gzip's time of writing


def test_parquet_has_the_same_facts(data: Path, tmp_path: Path) -> None:
    """A flat table whose columns are the fields, and whose metadata has the first and the last line."""
    file = tmp_path / "facts.parquet"
    assert command(str(file), "--data", str(data), "--org", "acme") == DONE
    lines = export(data, "--org", "acme")
    written = pyarrow.parquet.ParquetFile(file)
    table = written.read()
    assert table.column_names == list(columns())
    names = list(lines[1]["plus"])
    for row, line in zip(table.to_pylist(), facts_in(lines), strict=True):
        flat = {name: value for name, value in line.items() if name not in ("minus", "plus")}
        for side in ("minus", "plus"):
            flat |= {f"{side}_{name}": (line[side] or {}).get(name) for name in names}
        assert row == flat
    whole = json.loads(written.metadata.metadata[b"genledger"])
    assert whole == {**lines[0], "end": lines[-1]["end"], "facts": len(lines) - 2}


def test_parquet_is_written_group_by_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many facts there are, only a group of them is held."""
    monkeypatch.setattr("genledger.export.GROUP_ROWS", 3)
    data = tmp_path / "data"
    write_facts(data, *(decided("counted", f"gen-{n}", entry()) for n in range(8)))
    assert command(str(tmp_path / "f.parquet"), "--data", str(data)) == DONE
    assert pyarrow.parquet.ParquetFile(tmp_path / "f.parquet").metadata.num_rows == 8


def test_without_pyarrow_the_error_says_what_to_install(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parquet is an extra; NDJSON needs nothing."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert command(str(tmp_path / "f.parquet"), "--data", str(data)) == WRONG_USE
    assert "genledger[parquet]" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    "options",
    [
        ["--month", "2026-13"],
        ["--month", "../2026"],
        ["--month", "2026-11", "--from", "2026-11-01T00:00:00Z"],
        ["--from", "2026-11-01"],
        ["--from", "2026-11-02T00:00:00Z", "--to", "2026-11-01T00:00:00Z"],
        ["--org", ""],
        ["--format", "parquet"],
        ["x.gz", "--format", "parquet"],
        ["no/such/folder.ndjson"],
    ],
)
def test_what_cant_be_meant_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """A slip in an option is told before the log is read, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    assert command(*options, "--data", str(data)) == WRONG_USE
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_without_a_ledger_is_refused(tmp_path: Path) -> None:
    """An export never makes a log, nor an empty file as if there were nothing to tell."""
    assert command(str(tmp_path / "out.ndjson"), "--data", str(tmp_path / "nothing")) == FAILED
    assert list(tmp_path.iterdir()) == []


def test_standard_output_is_the_export(data: Path) -> None:
    """Data to stdout, everything else to stderr."""
    words = [str(COMMAND), "export", "facts", "--data", str(data), "--org", "acme"]
    done = subprocess.run(words, env=clean_environ(), capture_output=True, check=True)
    assert lines_of(done.stdout) == export(data, "--org", "acme")
    assert b"7 facts" in done.stderr


def test_the_auditor_reads_what_is_written(data: Path, tmp_path: Path) -> None:
    """Amended, taken over, voided, forgotten and opening facts add up by the rules of docs/auditing.md."""
    file = tmp_path / "all.ndjson"
    assert command(str(file), "--data", str(data)) == DONE
    code, table, found = script(str(file), "2026-11", "acme")
    assert (code, found) == (0, "")
    assert table.splitlines()[1:] == [
        f"{name},10,2,0,0,6,0.002000000,0.002600000" for name in ("2026-11-20", "total")
    ]
    code, table, found = script(str(file), "2026-10", "acme")
    assert (code, found) == (0, "")
    assert table.splitlines()[1:] == [
        f"{name},1,0,0,0,3,0.001000000,0.001300000" for name in (OCTOBER, "total")
    ]
