"""The benchmarks run, are exact, and leave nothing behind. No speed is asserted: that is the machine's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from benchmarks import BenchmarkFailed, report, views
from benchmarks.service import COMMAND
from benchmarks.traffic import IDS, Totals, make
from projections import schema
from streams.generation import decode

ROOT = Path(__file__).parents[1]
TINY = ["--quick", "--seconds", "0.5", "--generations", "2000"]
LATENCY = {
    "requests",
    "errors",
    "reached_per_s",
    "client_late_p99_ms",
    "ack_p50_ms",
    "ack_p90_ms",
    "ack_p99_ms",
    "ack_max_ms",
    "summary_p50_ms",
    "summary_p99_ms",
    "summary_max_ms",
}
THROUGHPUT = {"generations", "accepted_per_s", "road_per_s", "busy_answers", "cpu_s_per_1000", "memory_mib"}


def _command(*options):
    return [sys.executable, "-m", "benchmarks", *options]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """One run of everything, as small as it gets, and its page."""
    base = tmp_path_factory.mktemp("bench")
    command = _command(*TINY, "--json", "--dir", str(base), "--page", str(base / "page.md"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return base, msgspec.json.decode(done.stdout, type=report.Results)


def test_every_case_is_measured(sample):
    """Each case has its figures: as many requests as its rate and time say, all of them answered."""
    _, results = sample
    for name, count in (("latency-1", 1), ("latency-100", 50), ("latency-1000", 500)):
        [run] = results.cases[name]
        assert set(run) == LATENCY
        assert (run["requests"], run["errors"]) == (count, 0)
        assert 0 < run["ack_p50_ms"] <= run["ack_p90_ms"] <= run["ack_p99_ms"] <= run["ack_max_ms"]
        assert 0 < run["summary_p50_ms"] <= run["summary_p99_ms"] <= run["summary_max_ms"]
    for kind in IDS:
        [run] = results.cases[f"throughput-{kind}"]
        assert set(run) == THROUGHPUT
        assert run["generations"] == 2000
        assert 0 < run["road_per_s"] <= run["accepted_per_s"]
        assert results.cases[f"by-hand-{kind}"][0]["per_s"] > 0
    assert results.cases["decode"][0]["per_s"] > 0


def test_the_page_says_how_and_where_and_names_no_machine(sample):
    """The page has the targets with yes or no, each run, the ratios and the versions, and no path."""
    base, results = sample
    text = (base / "page.md").read_text()
    assert text == report.page(results)
    assert sum(line.endswith(("| yes |", "| no |")) for line in text.splitlines()) == 4
    assert "| latency-1000 | median |" in text
    assert "| throughput-uuid | 1 |" in text
    assert "whole road / by-hand-openrouter" in text
    assert "- SQLite: 3." in text
    assert str(base) not in text
    assert os.uname().nodename not in text


def test_nothing_is_left_behind(sample):
    """After a run its directories are gone."""
    base, _ = sample
    assert [path.name for path in base.iterdir()] == ["page.md"]


def test_an_interrupted_run_ends_what_it_started(tmp_path):
    """Ctrl-C ends the service too, and removes its files."""
    command = _command("--only", "latency-1", "--quick", "--seconds", "30", "--dir", str(tmp_path))
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as bench:
        _wait_started(tmp_path)
        bench.send_signal(signal.SIGINT)
        assert bench.wait(40) == 130
        assert "interrupted" in bench.stderr.read()
    assert _services(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_dies_fails_the_run(tmp_path):
    """A service that is killed under a benchmark ends it with exit code 1, and is named as the reason."""
    command = _command("--only", "latency-1", "--quick", "--seconds", "30", "--dir", str(tmp_path))
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as bench:
        _wait_started(tmp_path)
        os.kill(_services(tmp_path)[0], signal.SIGKILL)
        assert bench.wait(40) == 1
        assert "the service" in bench.stderr.read()


def _wait_started(base):
    deadline = time.monotonic() + 30
    while not _services(base) or not list(base.rglob("genledger.db-shm")):
        assert time.monotonic() < deadline, "the service was not started"
        time.sleep(0.05)


def _services(base):
    """Processes that were given this directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "serve" in words and any(word.startswith(str(base)) for word in words):
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("kind", list(IDS))
def test_the_totals_are_what_the_events_say(kind):
    """What the generator says its events are worth is what the project's decoder reads in them."""
    traffic = make(500, kind, seed=7)
    events = [decode(line) for line in traffic.lines]
    assert [event.id for event in events] == list(traffic.ids)
    assert len(set(traffic.ids)) == 500
    assert len({event.created_ns // 86_400_000_000_000 for event in events}) == 3
    assert traffic.totals() == Totals(
        500, sum(event.total_tokens for event in events), sum(event.cost_nano for event in events)
    )


def test_figures_that_are_not_exact_fail_the_run(tmp_path):
    """One nano-dollar that is not in a table ends it."""
    path = tmp_path / "genledger.db"
    schema.upgrade(path)
    views.check(path, Totals())
    with pytest.raises(BenchmarkFailed, match="client_daily_usage adds up to"):
        views.check(path, Totals(0, 0, 1))


def test_a_percentile_is_a_value_that_was_measured():
    """The nearest rank: of 100 values the 99th is p99, of one value all are it."""
    values = [float(n) for n in range(1, 101)]
    assert [report.percentile(values, share) for share in (0.5, 0.9, 0.99)] == [50, 90, 99]
    assert report.percentile([7.0], 0.5) == report.percentile([7.0], 0.99) == 7


def test_the_command_runs_the_benchmarks():
    """`genledger bench` hands its arguments on, and a wrong one is an error that names the cases."""
    command = [str(COMMAND), "bench", "--", "--only", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "throughput-openrouter" in done.stderr
