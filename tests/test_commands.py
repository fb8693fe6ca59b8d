"""The command line: its help, its exit codes, and what each verb asks of the service.

`FakeGateway` answers over real HTTP as the gateway does; the real one is tested with the road itself.
"""

import asyncio
import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from genledger import publisher
from genledger.main import app, run
from genledger.options import Service
from genledger.reference import commands
from streams import generation, topics
from streams.errors import BadEvent
from streams.log.partition import partition_of
from streams.log.sqlite.log import open_log

EVERY_COMMAND = list(commands(app))


class FakeGateway(ThreadingHTTPServer):
    """Takes events as the gateway does, and answers what it was told to answer."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies = []  # the lines of each body that was taken, in order
        self.asked = []  # (method, path, query, body, authorization)
        self.answers = {}  # (method, path): JSON to answer with
        self.refuse_with = 404  # what has no answer
        self.next_statuses = []  # statuses to answer publishing with, before taking anything
        self.answers["GET", "/api/v1/status"] = {"log": "ledger-1", "roles": {}, "lag": {}}
        self.refuse_body_with = b"\x00"  # a body with these bytes is refused as a whole
        self.delay_s = 0.0
        self.stop_after = None  # so many bodies, then no more
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def ids(self):
        return Counter(json.loads(line)["id"] for body in self.bodies for line in body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._handle(b"")

    def do_POST(self):
        self._handle(self.rfile.read(int(self.headers["Content-Length"])))

    def _handle(self, body):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.asked.append((self.command, parts.path, query, body, self.headers["Authorization"]))
        if (self.command, parts.path) == ("POST", "/api/v1/generations"):
            return self._take(body, strict=query.get("strict") == "1")
        answer = self.server.answers.get((self.command, parts.path))
        if answer is None:
            status = self.server.refuse_with
            return self._answer(
                status, {"error": {"code": "not_found", "message": "there is none", "field": ""}}
            )
        return self._answer(200, answer)

    def _take(self, body, *, strict):
        time.sleep(self.server.delay_s)
        if self.server.stop_after is not None and len(self.server.bodies) >= self.server.stop_after:
            return self._answer(403, {"error": {"code": "forbidden", "message": "no", "field": ""}})
        if self.server.next_statuses:
            status = self.server.next_statuses.pop(0)
            error = {"error": {"code": "log_full", "message": "too much is waiting", "field": ""}}
            return self._answer(status, error, {"Retry-After": "0"})
        if self.server.refuse_body_with in body:
            return self._answer(400, {"error": {"code": "bad", "message": "not allowed here", "field": ""}})
        rejected, taken, ignored = [], [], {}
        for index, line in enumerate(body.splitlines()):
            try:
                known, names = generation.without_unknown_fields(line)
                generation.decode(line if strict else known)
                ignored |= dict.fromkeys(names)
                taken.append(line)
            except BadEvent as error:
                rejected.append({"index": index, "field": error.field, "error": error.error})
        self.server.bodies.append(taken)
        answer = {"accepted": len(taken), "rejected": rejected, "ignored_fields": [*ignored]}
        return self._answer(202 if taken else 422, answer)

    def _answer(self, status, value, headers=None):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def gateway(monkeypatch):
    server = FakeGateway()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("GENLEDGER_URL", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("GENLEDGER_"):
            monkeypatch.delenv(name)


def events(count, start=1):
    """So many lines, one event each."""
    return [
        json.dumps({"id": f"gen-{n}", "organization": "acme", "model": "m", "cost": "0.01"}).encode()
        for n in range(start, start + count)
    ]


def write(path, lines):
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


# Help and exit codes


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_help_opens_with_an_example(words, capsys):
    """Each command explains itself, examples of itself first, and exits with 0."""
    assert run([*words, "--help"]) == 0
    first, example, *_ = capsys.readouterr().out.splitlines()
    assert first == "Examples:"
    assert f"genledger {' '.join(words)}" in example


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["orgs", "nope"],
        ["books", "--nope"],
        ["explain"],
        ["report", "--org", "acme"],
        ["report", "--org", "acme", "--month", "2026-13"],
        ["report", "--org", "acme", "--month", "2026-11", "--by", "moon"],
        ["publish", "no-such-file"],
        ["rejected", "show", "seventeen"],
        ["rejected", "redrive"],
        ["rejected", "redrive", "1/2", "--all"],
        ["orgs", "set", "acme"],
        ["keys", "create", "--rights", "god"],
        ["serve", "--port", "many"],
        ["books", "--url", "not-a-url"],
    ],
    ids=" ".join,
)
def test_wrong_use_exits_with_2(arguments, capsys):
    """What can't be understood exits with 2, says so on stderr, and prints nothing on stdout."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err != ""


def test_an_unknown_setting_is_wrong_use(monkeypatch, capsys):
    """A slip in a setting's name stops the command and names it."""
    monkeypatch.setenv("GENLEDGER_PROT", "9000")
    assert run(["config", "show"]) == 2
    assert "GENLEDGER_PROT" in capsys.readouterr().err


def test_config_show_tells_where_each_value_came_from(monkeypatch, tmp_path, capsys):
    """Each setting is shown with its origin, and a secret's value never is."""
    (tmp_path / "genledger.toml").write_text('GENLEDGER_DATA = "elsewhere"\n')
    (tmp_path / "secret").write_text("glk_hidden\n")
    monkeypatch.setenv("GENLEDGER_PORT", "9000")
    monkeypatch.setenv("GENLEDGER_KEY_FILE", str(tmp_path / "secret"))
    assert run(["config", "show", "--origin", "--json"]) == 0
    out = capsys.readouterr().out
    rows = {row["setting"]: row for row in json.loads(out)}
    assert (rows["GENLEDGER_PORT"]["value"], rows["GENLEDGER_PORT"]["origin"]) == (9000, "environment")
    assert rows["GENLEDGER_DATA"]["origin"] == "genledger.toml"
    assert rows["GENLEDGER_HOST"]["origin"] == "default"
    assert rows["GENLEDGER_KEY"]["value"] == "(set)"
    assert "glk_hidden" not in out


def test_a_command_without_a_service_says_how_to_start_it(monkeypatch, capsys):
    """Where nothing answers, the command fails and says what to do."""
    monkeypatch.setenv("GENLEDGER_PORT", "1")
    assert run(["books"]) == 1
    assert "genledger serve" in capsys.readouterr().err


def test_a_command_names_the_process_that_holds_the_log(monkeypatch, tmp_path, capsys):
    """Where nothing answers but the log is open, the command names who has it."""
    from streams.log.sqlite.lock import Lock

    monkeypatch.setenv("GENLEDGER_PORT", "1")
    (tmp_path / "data" / "log").mkdir(parents=True)
    lock = Lock(tmp_path / "data" / "log")
    try:
        assert run(["books"]) == 1
    finally:
        lock.release()
    assert f"Process {os.getpid()} has the log" in capsys.readouterr().err


def test_the_installed_command_keeps_data_and_messages_apart(gateway):
    """The real process prints data on stdout, errors on stderr, and exits as documented."""
    gateway.answers["GET", "/api/v1/organizations"] = {"organizations": []}
    done = _genledger("orgs", "list", "--json")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [], b"")
    failed = _genledger("orgs", "show", "nobody")
    assert (failed.returncode, failed.stdout) == (1, b"")
    assert b"there is none (404 not_found)" in failed.stderr


def _genledger(*arguments, **options):
    command = [sys.executable, "-c", "from genledger.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, timeout=30, check=False, **options)


# Publish


def test_publish_reports_each_rejected_line_by_its_number(gateway, tmp_path, capsys):
    """Good lines are taken, each bad one is named by its line, and the exit code is 1."""
    lines = [*events(3), b"", b'{"id":"x"}', b"\xff", *events(2, start=4), b"not json", b"[" * 300_000]
    file = write(tmp_path / "usage.ndjson", lines)
    assert run(["publish", file, "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "lines": 10,
        "accepted": 5,
        "rejected": 4,
        "blank": 1,
        "ignored_lines": 0,
        "ignored_fields": [],
        "earlier_lines": 0,
    }
    told = [line.partition(":")[0] for line in captured.err.splitlines() if line.startswith("line ")]
    assert told == ["line 5", "line 6", "line 9", "line 10"]
    assert gateway.ids == Counter({f"gen-{n}": 1 for n in range(1, 6)})


def test_publish_names_the_fields_that_were_left_out(gateway, tmp_path, capsys):
    """Unknown fields are named, with the number of lines that had them; --strict refuses those lines."""
    odd = b'{"id":"odd","organization":"o","model":"m","kost":1,"colour":"red"}'
    file = write(tmp_path / "usage.ndjson", [*events(3), odd, b'{"kost":1}'])
    assert run(["publish", file, "--json"]) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["ignored_lines"], sorted(found["ignored_fields"])) == (1, ["colour", "kost"])
    assert "left out of 1 line: " in captured.err
    assert run(["publish", file, "--strict", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["accepted"], found["rejected"], found["ignored_lines"]) == (3, 2, 0)


def test_publish_keeps_refused_lines_as_they_came(gateway, tmp_path):
    """--rejects has each refused line to the letter, whatever is wrong with it, and never the file itself."""
    refused = [b'{"id":"x", "cost" : 1e0}', b"\xff", b"not json"]
    file = write(tmp_path / "usage.ndjson", [*events(2), *refused, *events(1, start=3)])
    assert run(["publish", file, "--rejects", "refused.ndjson", "--source", "backfill"]) == 1
    assert (tmp_path / "refused.ndjson").read_bytes().splitlines() == refused
    assert run(["publish", file, "--rejects", file]) == 2
    assert len(gateway.ids) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [({"log": "ledger-1"}, {"log": "ledger-2"}), ({"log": "ledger-1"}, {}), ({}, {})],
    ids=["another", "untold", "never told"],
)
def test_publish_begins_again_for_another_ledger(gateway, tmp_path, monkeypatch, capsys, one, other):
    """A file half published to one ledger is published whole to another, or to one that does not tell."""
    monkeypatch.setattr(publisher, "BATCH_LINES_MAX", 10)
    gateway.answers["GET", "/api/v1/status"] = one
    file = write(tmp_path / "usage.ndjson", events(25))
    gateway.stop_after = 1
    assert run(["publish", file]) == 1
    assert len(gateway.ids) == 10
    gateway.stop_after = None
    gateway.answers["GET", "/api/v1/status"] = other
    gateway.bodies.clear()
    assert run(["publish", file]) == 0
    captured = capsys.readouterr().err
    assert "beginning at the start" in captured
    assert "25 in this run, 0 earlier" in captured
    assert len(gateway.ids) == 25


def test_publish_tells_this_run_from_earlier_ones(gateway, tmp_path, monkeypatch, capsys):
    """Going on in the same ledger, the last line says how many lines are of this run and how many not."""
    monkeypatch.setattr(publisher, "BATCH_LINES_MAX", 10)
    file = write(tmp_path / "usage.ndjson", [b"one", *events(20), b"two"])
    arguments = ["publish", file, "--rejects", "refused.ndjson"]
    gateway.stop_after = 1
    assert run(arguments) == 1
    gateway.stop_after = None
    assert run(arguments) == 1
    said = capsys.readouterr().err
    assert "20 accepted, 2 rejected, 0 blank, of 22 lines: 12 in this run, 10 earlier" in said
    assert (tmp_path / "refused.ndjson").read_bytes() == b"one\ntwo\n"


def test_publish_sends_batches_of_a_thousand(gateway, tmp_path):
    """A file goes out in batches of 1,000 lines, all of them, in order."""
    assert run(["publish", write(tmp_path / "usage.ndjson", events(2500))]) == 0
    assert [len(body) for body in gateway.bodies] == [1000, 1000, 500]
    assert [line for body in gateway.bodies for line in body] == events(2500)


@pytest.mark.parametrize("status", [503, 507, 429, 408])
def test_publish_comes_back_when_told_later(gateway, tmp_path, status, capsys):
    """A service that can't take a batch now gets the same batch again, once."""
    gateway.next_statuses = [status]
    assert run(["publish", write(tmp_path / "usage.ndjson", events(10))]) == 0
    assert gateway.ids == Counter({f"gen-{n}": 1 for n in range(1, 11)})
    assert str(status) in capsys.readouterr().err


def test_publish_gives_up_after_a_bounded_number_of_tries(gateway, tmp_path, monkeypatch, capsys):
    """A service that never can ends the command with 1, and a later run goes on after what was taken."""
    monkeypatch.setattr(publisher, "ATTEMPTS_MAX", 3)
    monkeypatch.setattr(publisher, "BATCH_LINES_MAX", 10)
    file = write(tmp_path / "usage.ndjson", events(25))
    gateway.next_statuses = [503, 503]
    monkeypatch.setattr(publisher.Publisher, "_wait", _close_after_two_batches(gateway))
    assert run(["publish", file]) == 1
    assert "run the command again" in capsys.readouterr().err
    gateway.next_statuses = []
    monkeypatch.setattr(publisher.Publisher, "_wait", lambda *args: None)
    assert run(["publish", file]) == 0
    assert gateway.ids == Counter({f"gen-{n}": 1 for n in range(1, 26)})


def _close_after_two_batches(gateway):
    def wait(self, why, attempt, asked_s):
        if attempt == 2 and len(gateway.bodies) == 0:
            # The third try of the first batch succeeds; from then on the log is full for good.
            def full_from_now_on():
                while not gateway.bodies:
                    time.sleep(0.001)
                gateway.next_statuses = [503] * 100

            threading.Thread(target=full_from_now_on).start()
            gateway.delay_s = 0.05

    return wait


def test_publish_finds_the_line_that_spoils_its_body(gateway, tmp_path, capsys):
    """When a body is refused as a whole, the one line to blame is found and the others are taken."""
    gateway.refuse_body_with = b"gen-700"
    assert run(["publish", write(tmp_path / "usage.ndjson", events(1500))]) == 1
    assert "line 700: not allowed here" in capsys.readouterr().err
    assert len(gateway.ids) == 1499
    assert set(gateway.ids.values()) == {1}


def test_publish_names_the_source_of_events_without_one(gateway, tmp_path):
    """--source stands for events that name no source, and the cost stays as it was written."""
    lines = [
        b'{"id":"a","organization":"o","model":"m","cost":0.10}',
        b'{"id":"b","organization":"o","model":"m","source":"sdk"}',
    ]
    packed = tmp_path / "usage.ndjson.gz"
    packed.write_bytes(gzip.compress(b"\n".join(lines)))
    assert run(["publish", str(packed), "--source", "backfill"]) == 0
    first, second = gateway.bodies[0]
    assert json.loads(first)["source"] == "backfill"
    assert b"0.10" in first
    assert json.loads(second)["source"] == "sdk"


def test_publish_reads_standard_input(gateway):
    """`-` publishes what is piped in, packed or not."""
    for number, piped in enumerate([events(1)[0], gzip.compress(events(1, start=2)[0])], start=1):
        assert _genledger("publish", "-", input=piped).returncode == 0
        assert len(gateway.ids) == number


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_publish_killed_goes_on_where_it_was(gateway, tmp_path, packed, capsys):
    """Killed with -9 amid a file, a second run sends only what the first had no answer for."""
    text = b"".join(line + b"\n" for line in events(6000))
    file = tmp_path / "usage.ndjson"
    file.write_bytes(gzip.compress(text) if packed else text)
    gateway.delay_s = 0.15
    command = [sys.executable, "-c", "from genledger.main import main; main()", "publish", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _until(lambda: len(gateway.bodies) >= 2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.3)  # the batch on its way
    taken = len(gateway.bodies)
    assert 2 <= taken < 6, "the kill came too late to prove anything"
    gateway.delay_s = 0
    assert run(["publish", str(file)]) == 0
    assert "going on after line" in capsys.readouterr().err
    assert len(gateway.ids) == 6000
    # At most the batch without an answer is sent twice.
    assert sum(gateway.ids.values()) <= 7000
    assert not list(tmp_path.glob("*.genledger-progress*"))


def test_publish_does_not_take_another_file_for_the_one_it_was_at(gateway, tmp_path, capsys):
    """A progress file that tells of another file's contents is left aside."""
    file = tmp_path / "usage.ndjson"
    write(file, events(10))
    progress = {"head": "0" * 32, "head_bytes": 100, "offset": 300, "line": 5, "tally": {"lines": 5}}
    (tmp_path / "usage.ndjson.genledger-progress").write_text(json.dumps(progress))
    assert run(["publish", str(file)]) == 0
    assert "beginning at the start" in capsys.readouterr().err
    assert len(gateway.ids) == 10


def test_publish_stops_when_the_key_is_refused(gateway, tmp_path, monkeypatch, capsys):
    """A refused key is no line's fault: the command stops, and the key was shown as the setting says."""
    monkeypatch.setenv("GENLEDGER_KEY", "glk_x")
    gateway.next_statuses = [401]
    assert run(["publish", write(tmp_path / "usage.ndjson", events(3))]) == 1
    assert "set GENLEDGER_KEY, or give --key" in capsys.readouterr().err
    assert gateway.asked[0][4] == "Bearer glk_x"


def test_publish_refuses_a_damaged_gzip_file(gateway, tmp_path, capsys):
    """A gzip file that breaks off is an error that says after which line."""
    packed = gzip.compress(b"\n".join(events(3000)), compresslevel=1)
    file = tmp_path / "usage.ndjson.gz"
    file.write_bytes(packed[: len(packed) // 2])
    assert run(["publish", str(file)]) == 1
    assert "damaged after line" in capsys.readouterr().err


def _until(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.005)


# The other verbs


def test_books_that_do_not_balance_exit_with_3(gateway, capsys):
    """`books` prints each partition's fates, and exits with 3 when a record has none."""
    row = {"partition": 0, "records": 4, "read": 3, "in_flight": 1, "residue": 1, "fates": {"counted": 2}}
    books = {"balanced": False, "partitions": [row]}
    gateway.answers["GET", "/api/v1/books"] = books
    assert run(["books"]) == 3
    captured = capsys.readouterr()
    assert captured.out.split() == ["partition", "records", "counted", "in_flight", "residue", *"04211"]
    assert "do not balance" in captured.err
    books["balanced"] = True
    assert run(["books", "--json"]) == 0


def test_explain_asks_for_any_id_to_the_letter(gateway, capsys):
    """An id with slashes and spaces is asked for as it is; an unknown one exits with 1."""
    gateway.answers["GET", "/api/v1/generations/a%2Fb%20c"] = {
        "id": "a/b c",
        "history": [{"fate": "counted"}],
    }
    assert run(["explain", "a/b c"]) == 0
    assert "counted" in capsys.readouterr().out
    assert run(["explain", "gen-\x1b[31m"]) == 1
    assert "\\x1b[31m" in capsys.readouterr().err


def test_report_says_how_current_it_is(gateway, monkeypatch, capsys):
    """On stderr a statement says what waits, that nothing does, or that no service answers."""
    assert run(["db", "upgrade"]) == 0
    arguments = ["report", "--org", "acme", "--month", "2028-02", "--json"]
    for lag, said in [({"ledger": 0}, "Up to date"), ({"ledger": 4, "summaries": 0}, "4 for ledger")]:
        gateway.answers["GET", "/api/v1/status"] = {"lag": lag}
        assert run(arguments) == 0
        assert said in capsys.readouterr().err
    monkeypatch.setenv("GENLEDGER_URL", "http://127.0.0.1:1")
    capsys.readouterr()
    assert run(arguments) == 0
    captured = capsys.readouterr()
    assert "no service answers" in captured.err
    assert json.loads(captured.out)["lines"] == []


def test_report_sums_exactly(tmp_path, monkeypatch, capsys):
    """A statement's total is the exact sum of its lines, far beyond what a float could hold."""
    monkeypatch.setenv("GENLEDGER_PORT", "1")
    assert run(["db", "upgrade"]) == 0
    with closing(sqlite3.connect(tmp_path / "data" / "genledger.db")) as database, database:
        for number, (model, nano) in enumerate([("=cmd", 9 * 10**16 + 1), ("b\x1b", 1)]):
            database.execute(
                """INSERT INTO client_model_daily_usage
                (id, client_org_id, model_name, usage_date, total_tokens, total_requests,
                 raw_cost_nano, markup_cost_nano, prompt_tokens, completion_tokens, unpriced_requests,
                 created_at, updated_at)
                VALUES (?, 'acme', ?, '2028-02-29', 5, 1, ?, ?, 2, 3, 0, 0, 0)""",
                (str(number), model, nano, nano),
            )
    capsys.readouterr()
    arguments = ["report", "--org", "acme", "--month", "2028-02", "--by", "model"]
    assert run([*arguments, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["raw_cost"] == "90000000.000000002"
    assert found["total"]["requests"] == 2
    assert run([*arguments, "--format", "csv"]) == 0
    assert "\n'=cmd,1,0," in capsys.readouterr().out
    assert run(arguments) == 0
    assert "b\\x1b" in capsys.readouterr().out


def test_rejected_lists_page_by_page_and_redrives_what_is_named(gateway, capsys):
    """All pages are listed; redrive publishes what is named, and with --dry-run nothing."""
    item = {"partition": 2, "offset": 17, "reason": "undecodable", "error": "not JSON"}
    gateway.answers["GET", "/api/v1/rejected"] = {"rejected": [item], "next": None}
    gateway.answers["GET", "/api/v1/rejected/2/17"] = {**item, "value": "/w==", "encoding": "base64"}
    gateway.answers["POST", "/api/v1/rejected/2/17/redrive"] = {"accepted": 1}
    assert run(["rejected", "list"]) == 0
    assert "2/17" in capsys.readouterr().out
    assert run(["rejected", "show", "2/17"]) == 0
    assert capsys.readouterr().out.endswith("\n\\xff\n")
    assert run(["rejected", "redrive", "--all", "--dry-run"]) == 0
    assert not [asked for asked in gateway.asked if asked[0] == "POST"]
    assert run(["rejected", "redrive", "2/17", "--force"]) == 0
    assert [json.loads(asked[3]) for asked in gateway.asked if asked[0] == "POST"] == [{"force": True}]
    assert run(["rejected", "redrive", "3/1"]) == 1


def test_a_new_key_is_all_that_stdout_has(gateway, capsys):
    """`keys create` prints the key alone, so that a script can keep it."""
    gateway.answers["POST", "/api/v1/keys"] = {"id": "k1", "secret": "glk_secret", "rights": "reader"}
    assert run(["keys", "create", "--org", "acme", "--rights", "reader"]) == 0
    assert capsys.readouterr().out == "glk_secret\n"
    assert json.loads(gateway.asked[0][3]) == {"organization": "acme", "rights": "reader"}


def test_the_administrators_key_that_comes_with_the_first_is_on_stdout_too(gateway, capsys):
    """A first key that is not an administrator's brings one that is: `> file` keeps both."""
    made = {"id": "k1", "secret": "glk_one", "administrator": {"id": "k2", "secret": "glk_two"}}
    gateway.answers["POST", "/api/v1/keys"] = made
    assert run(["keys", "create", "--org", "acme", "--key", "glk_mine"]) == 0
    assert capsys.readouterr().out == "glk_one\nadministrator: glk_two\n"
    assert gateway.asked[0][4] == "Bearer glk_mine"


def test_orgs_tell_what_was_set_and_from_when(gateway, capsys):
    """`set` prints the newest change; `show` prints defaults as such, and a lifted limit by that name."""
    history = [
        {"effective": "always", "logged_at": "2026-11-20T10:00:00Z", "name": "Acme", "active": False},
        {"effective": "2026-11-20T11:00:00Z", "logged_at": "2026-11-20T10:00:01Z", "monthly_limit": ""},
        {"effective": "2026-11-30T23:00:00Z", "logged_at": "2026-11-20T10:00:00.5Z", "markup": "1.3"},
    ]
    acme = {"id": "acme", "name": "Acme", "markup": None, "monthly_limit": "", "active": False}
    gateway.answers["POST", "/api/v1/organizations"] = acme | {"history": [history[0], history[2]]}
    assert run(["orgs", "set", "acme", "--markup", "1.3", "--effective", "2026-12-01"]) == 0
    assert capsys.readouterr().out == "acme from 2026-11-30T23:00:00Z: markup 1.3\n"
    gateway.answers["GET", "/api/v1/organizations/acme"] = acme | {"history": history}
    assert run(["orgs", "show", "acme"]) == 0
    _, values, _, *changes = capsys.readouterr().out.splitlines()
    assert values.split() == ["acme", "Acme", "default", "default", "none", "no"]
    assert changes == [
        "always: name Acme, active no",
        "from 2026-11-20T11:00:00Z: monthly_limit lifted",
        "from 2026-11-30T23:00:00Z: markup 1.3",
    ]


def test_a_value_that_the_service_refuses_is_wrong_use(gateway, capsys):
    """What the service answers with 422 exits with 2; another refusal with 1."""
    gateway.refuse_with = 422
    assert run(["orgs", "set", "acme", "--markup", "much"]) == 2
    assert run(["users", "list", "--org", "acme"]) == 2
    gateway.refuse_with = 403
    assert run(["keys", "revoke", "key_1"]) == 1


def test_a_stranger_is_not_taken_for_the_service(gateway, capsys):
    """Where another program answers, the command says so."""
    gateway.answers["GET", "/api/v1/books"] = gateway.answers["GET", "/api/v1/status"] = b"<html>"
    assert run(["books"]) == 1
    assert f"what answers at {gateway.url} is not genledger" in capsys.readouterr().err


def test_an_organisation_is_made_once_and_changed_afterwards(gateway, capsys):
    """`orgs create` refuses one that is there; `orgs set` sends only what is given."""
    gateway.answers["GET", "/api/v1/organizations/acme"] = {"id": "acme"}
    gateway.answers["POST", "/api/v1/organizations"] = {"id": "acme"}
    assert run(["orgs", "create", "acme"]) == 2
    assert run(["orgs", "create", "bravo", "--name", "Bravo"]) == 0
    assert json.loads(gateway.asked[-1][3]) == {"id": "bravo", "name": "Bravo"}
    assert run(["orgs", "set", "acme", "--markup", "1.30", "--no-active", "--effective", "2026-12-01"]) == 0
    sent = json.loads(gateway.asked[-1][3])
    assert sent == {"id": "acme", "markup": "1.30", "active": False, "effective": "2026-12-01"}


def test_db_goes_up_and_down_and_says_where_it_is(tmp_path, capsys):
    """The tables are made, checked, taken down again, and a difference exits with 3."""
    assert run(["db", "check"]) == 3
    assert run(["db", "upgrade", "--dry-run"]) == 0
    assert not (tmp_path / "data" / "genledger.db").exists()
    assert run(["db", "upgrade"]) == 0
    capsys.readouterr()
    assert run(["db", "check"]) == 0
    assert capsys.readouterr().out == "all well\n"
    assert run(["db", "downgrade", "20250725_001", "--dry-run"]) == 0
    assert "20250725_002" in capsys.readouterr().err
    assert run(["db", "downgrade", "20250725_001"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert run(["db", "downgrade", "20250725_001", "--yes"]) == 0
    assert run(["db", "current"]) == 0
    assert capsys.readouterr().out.split() == ["20250725_001"] * 2
    assert run(["db", "history", "--json"]) == 0
    assert "20250725_001" in [row["revision"] for row in json.loads(capsys.readouterr().out)]


def test_status_that_is_not_well_exits_with_1(gateway, capsys):
    """`status` shows each role with its lag, and fails when one is not well."""
    gateway.answers["GET", "/api/v1/status"] = {"roles": {"ledger": "ok"}, "lag": {"ledger": 4}}
    assert run(["status"]) == 0
    assert capsys.readouterr().out.split()[-3:] == ["ledger", "ok", "4"]
    gateway.answers["GET", "/api/v1/status"] = {"roles": {"ledger": "stalled"}, "lag": {}}
    assert run(["status"]) == 1


def make_ledger():
    """A log in ./data, as a service that ran once leaves it; its identity."""

    async def made():
        log = await open_log("sqlite:///data/log", topics.topic_table())
        await log.close()
        return log.identity

    return asyncio.run(made())


def test_the_files_tell_which_ledger_they_are(monkeypatch):
    """Without a service, publish knows the log on the files by its identity."""
    monkeypatch.setenv("GENLEDGER_PORT", "1")
    identity = make_ledger()
    with Service().client(offline=True) as client:
        assert publisher.ledger_of(client) == identity


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", "usage.ndjson"],
        ["orgs", "create", "acme"],
        ["keys", "list"],
        ["rejected", "list"],
        ["report", "--org", "acme", "--month", "2026-11"],
        ["books"],
    ],
    ids=" ".join,
)
def test_no_command_makes_a_ledger(monkeypatch, tmp_path, arguments, capsys):
    """Where neither a service nor a ledger is, a command fails, says what to do, and makes nothing."""
    monkeypatch.setenv("GENLEDGER_PORT", "1")
    write(tmp_path / "usage.ndjson", events(1))
    assert run([*arguments, "--data", "elsewhere"]) == 1
    said = capsys.readouterr().err
    assert "elsewhere" in said or "genledger serve" in said
    assert [path.name for path in tmp_path.iterdir()] == ["usage.ndjson"]


def test_settings_are_changed_on_the_files_when_no_service_runs(monkeypatch, tmp_path, capsys):
    """Organisations, keys and users are made without a service, and the next command sees them."""
    monkeypatch.setenv("GENLEDGER_PORT", "1")
    make_ledger()
    assert run(["orgs", "create", "acme", "--markup", "1.3"]) == 0
    assert run(["keys", "create", "--org", "acme"]) == 0
    assert run(["users", "map", "--org", "acme", "--user", "or-1", "--to", "alice"]) == 0
    captured = capsys.readouterr()
    assert "no service runs" in captured.err
    assert "glk_" in captured.out
    # Keys are there now: the owner of the files still needs none.
    assert run(["orgs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["markup"] == "1.3"
    assert run(["keys", "list", "--json"]) == 0
    assert {key["rights"] for key in json.loads(capsys.readouterr().out)} == {"producer", "admin"}
    assert run(["users", "list", "--org", "acme"]) == 0
    assert "alice" in capsys.readouterr().out


def test_whom_an_organisation_believes_is_set_shown_and_lifted(monkeypatch, capsys):
    """One --truth for each prefix, all of them together; a wrong one is named, an empty one lifts them."""
    monkeypatch.setenv("GENLEDGER_PORT", "1")
    make_ledger()
    assert run(["orgs", "create", "acme", "--management-key", "env:ACME_ACTIVITY"]) == 0
    capsys.readouterr()
    rules = ["--truth", "anthropic/=litellm", "--truth", "openai/=opentelemetry|sync"]
    assert run(["orgs", "set", "acme", *rules]) == 0
    assert capsys.readouterr().out.endswith(": truth anthropic/=litellm openai/=opentelemetry|sync\n")
    assert run(["orgs", "show", "acme"]) == 0
    shown = capsys.readouterr().out
    assert "env:ACME_ACTIVITY" in shown
    assert shown.count("anthropic/=litellm openai/=opentelemetry|sync") == 2
    assert run(["orgs", "set", "acme", "--truth", "openai"]) == 2
    assert "truth: 'openai' must be PREFIX=SOURCE" in capsys.readouterr().err
    assert run(["orgs", "set", "acme", "--management-key", "sk-or-v1-abc"]) == 2
    assert "management_key: looks like a secret" in capsys.readouterr().err
    assert run(["orgs", "set", "acme", "--truth", "", "--management-key", ""]) == 0
    assert capsys.readouterr().out.endswith(": management_key removed, truth lifted\n")
    assert run(["orgs", "list", "--json"]) == 0
    [acme] = json.loads(capsys.readouterr().out)
    assert (acme["truth"], acme["management_key"]) == ("", "")


@pytest.mark.parametrize("verb", ["create", "set"])
def test_a_believed_source_that_is_none_of_ours_is_noted(verb, gateway, capsys):
    """A misspelt --truth source is set, and a note on stderr says that only its own events will count."""
    gateway.answers["POST", "/api/v1/organizations"] = {"id": "acme"}
    rules = ["--truth", "anthropic/=litelm|sync", "--truth", "*=litelm|broadcast"]
    assert run(["orgs", verb, "acme", *rules, "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"id": "acme"}
    [note] = told.err.splitlines()
    assert note.startswith("note: litelm is none of our own sources (")
    assert note.endswith('): only events whose source is "litelm" will count')
    named = note.partition("(")[2].partition(")")[0].split(", ")
    ours = ["broadcast", "cloudevents", "litellm", "openrouter", "opentelemetry", "sync", "usage"]
    assert sorted(named) == ours  # native events say what their producer wrote


@pytest.mark.parametrize("rule", ["anthropic/=litellm", "openai/=opentelemetry|sync", "a=b=usage", ""])
def test_a_believed_source_of_ours_needs_no_note(rule, gateway, capsys):
    """A source that is ours, or a --truth that is lifted, is set without a word."""
    gateway.answers["POST", "/api/v1/organizations"] = {"id": "acme"}
    assert run(["orgs", "set", "acme", "--truth", rule]) == 0
    assert capsys.readouterr().err == ""


def test_a_truth_that_is_refused_gets_no_note(gateway, capsys):
    """What was not set is told of as refused, and not as set."""
    gateway.refuse_with = 422
    assert run(["orgs", "set", "acme", "--truth", "anthropic/=litelm"]) == 2
    assert "note:" not in capsys.readouterr().err


def test_a_file_is_published_onto_the_log_when_no_service_runs(monkeypatch, tmp_path, capsys):
    """Without a service, a file goes onto the log itself, each good line once, in its partition."""
    monkeypatch.setenv("GENLEDGER_PORT", "1")
    make_ledger()
    assert run(["publish", write(tmp_path / "usage.ndjson", [*events(1200), b"{}"])]) == 1
    assert "1200 accepted, 1 rejected" in capsys.readouterr().err

    async def logged():
        log = await open_log("sqlite:///data/log", topics.topic_table())
        try:
            return [await log.read(topics.GENERATIONS, n, 0, 2000) for n in range(4)]
        finally:
            await log.close()

    found = asyncio.run(logged())
    assert sum(map(len, found)) == 1200
    assert all(partition_of(record.key, 4) == n for n, records in enumerate(found) for record in records)


def test_files_that_another_process_has_are_left_alone(monkeypatch, tmp_path, capsys):
    """A command never opens a log that somebody else has open."""
    from streams.log.sqlite.lock import Lock

    monkeypatch.setenv("GENLEDGER_PORT", "1")
    (tmp_path / "data" / "log").mkdir(parents=True)
    lock = Lock(tmp_path / "data" / "log")
    try:
        assert run(["orgs", "create", "acme"]) == 1
    finally:
        lock.release()
    assert "has the log" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "data" / "log").iterdir()] == ["lock"]
