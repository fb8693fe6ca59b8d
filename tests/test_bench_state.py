"""The benchmarks of state and of peers are exact. No speed is asserted: that is the machine's."""

import asyncio
from pathlib import Path

import pytest

from benchmarks import BenchmarkFailed
from benchmarks.bench import Bench
from benchmarks.peers import stock_faust, sums, venv
from benchmarks.state import known_ids, queries, recovery
from benchmarks.state.entries import KINDS, maker
from benchmarks.traffic import Totals, Traffic, make
from projections.queries import Queries
from streams import known
from streams.generation import decode

IDS = 2_000


@pytest.mark.parametrize("kind", KINDS)
def test_entries_are_what_the_table_keeps(kind):
    """An entry's value is a whole known generation of its key's id, and no id comes twice."""
    entry_of = maker(kind)
    entries = [entry_of(number) for number in range(IDS)]
    assert all(known.decode(value).winner.id.encode() == key for key, value in entries)
    assert len(dict(entries)) == IDS
    assert entry_of(7) == maker(kind)(7)
    keys = [key for key, _ in entries]
    rises = [key.split(b"-")[1] for key in keys] == sorted(key.split(b"-")[1] for key in keys)
    assert rises == (kind == "openrouter")


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
def test_known_ids_are_looked_up_in_a_process_of_their_own(store, tmp_path):
    """Memory, rate and time a key come out, of a process that found every id it knows and no other."""
    figures = known_ids.store(store, IDS, "uuid", tmp_path)
    assert figures["known_ids"] == IDS
    assert 250 < figures["entry_bytes"] < 400
    assert 0 < figures["before_mib"] < figures["memory_mib"] <= figures["memory_max_mib"]
    for name in ("written_per_s", "known_ms_per_key", "known_cold_ms_per_key", "unknown_ms_per_key"):
        assert figures[name] > 0, name
    assert (figures["disk_mib"] > 0) == (store == "rocksdb")


@pytest.mark.soak  # three starts of a service: the case itself asserts what it measures
def test_a_service_that_knows_ids_is_measured(tmp_path):
    """A service reads back ids that it never decided, goes on, and its tables add up to what it was sent."""
    figures = known_ids.served(IDS, "openrouter", tmp_path)
    assert figures["known_ids"] == IDS
    assert 0 < figures["ready_mib"] <= figures["memory_max_mib"]
    assert figures["posted_per_s"] > 0
    assert "recovery_s" in figures


def test_a_table_is_read_back_from_kafka(kafka, topic_prefix, tmp_path):
    """Recovery is measured on a table that has every key of its changelog afterwards."""
    bench = Bench(tmp_path, kafka.bootstrap, Traffic([], [], []), topic_prefix)
    figures = recovery.ours(bench, keys=IDS)
    assert figures["keys"] == IDS
    assert figures["keys_per_s"] > 0


def test_a_recovery_that_misses_a_key_fails():
    """A table without one of its keys ends the benchmark."""
    plan = recovery.Plan("", "", "", IDS, stock=False)
    with pytest.raises(BenchmarkFailed, match="2000 keys were written, 1999 recovered"):
        recovery.figures_of(plan, IDS - 1, 1.0)


def test_a_year_is_asked_and_adds_up(tmp_path):
    """Each question has its two figures; statements that don't add up to what went in end the benchmark."""
    figures = queries.year(Bench(tmp_path, "", Traffic([], [], []), ""), days=40, runs=3)
    for name in queries.QUESTIONS:
        assert 0 < figures[f"{name}_p50_ms"] <= figures[f"{name}_p99_ms"]

    async def check() -> None:
        reader = await Queries.open(tmp_path / "year.db")
        try:
            await queries.check(reader, {"2025-01": 31}, {"org-00": Totals(1, 2, 3)})
        finally:
            await reader.close()

    with pytest.raises(BenchmarkFailed, match="statement_by_user of org-00 adds up to"):
        asyncio.run(check())


def test_stock_faust_is_stock(tmp_path, monkeypatch):
    """What is measured as stock Faust has Faust's own transport; an app with ours is refused."""
    app = stock_faust.make_app("stock", "127.0.0.1:1", tmp_path)
    assert type(app.transport).__module__ == "faust.transport.drivers.aiokafka"
    monkeypatch.setattr(stock_faust, "SCHEME", "kafka")
    with pytest.raises(BenchmarkFailed, match="not stock Faust"):
        stock_faust.make_app("ours", "127.0.0.1:1", tmp_path)


def test_the_steps_that_faust_is_given_are_exact(tmp_path):
    """Its first step keeps a new id and makes a fact of each record, its second adds up to what was sent."""
    traffic = make(IDS, "openrouter", seed=3)
    totals = sums.Sums(tmp_path / "sums.db")
    seen: dict[bytes, bytes] = {}
    for offset, line in enumerate([*traffic.lines, *traffic.lines[:100]]):
        key, value = stock_faust.decide(_Record(decode(line).id.encode(), line, offset), seen)
        assert key in seen
        stock_faust.fold(totals, value)
        if totals.waiting >= 500:
            totals.write()
    totals.write()
    totals.close()
    sums.check(tmp_path / "sums.db", traffic.totals())
    with pytest.raises(BenchmarkFailed, match=r"^days of .* adds up to"):
        sums.check(tmp_path / "sums.db", traffic.totals() + Totals(0, 0, 1))


def test_money_is_exact_in_what_the_peers_add_up():
    """Decimal text becomes integer nano-dollars."""
    assert [sums.nano_of(text) for text in ("0.0123", "0", "7", "0.000000001", "12.5")] == [
        12_300_000,
        0,
        7_000_000_000,
        1,
        12_500_000_000,
    ]


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    """Where a peer is missing, the reason is what the table shows."""
    monkeypatch.setenv("GENLEDGER_BENCH_PYTHON", str(Path("nowhere") / "python"))
    venv.python_with.cache_clear()
    with pytest.raises(venv.NotInstalled, match="bytewax is not installed"):
        venv.python_with("bytewax")


class _Record:
    """An event of a stream, as Faust hands it to an agent."""

    def __init__(self, key: bytes, value: bytes, offset: int) -> None:
        self.key, self.value, self.message = key, value, self
        self.partition, self.offset, self.timestamp = 0, offset, 1_795_000_000.0
