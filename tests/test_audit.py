"""examples/audit.py: it recomputes statements to the nano-dollar, and finds what is wrong in an export."""

import ast
import asyncio
import gzip
import itertools
import json
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from projections import report
from projections.queries import By, Queries
from tests.exported import (
    SCRIPT,
    Row,
    audited,
    command,
    decided,
    entry,
    export,
    facts_in,
    in_thread,
    lines_of,
    process,
    script,
    sealed,
    void,
    write_facts,
)
from tests.model.traffic import Traffic
from tests.road.harness import Service, running, set_up
from tests.road.run import feed, settle, sizes

OCTOBER, NOVEMBER = "2025-10", "2026-11"
STATEMENTS = 100
SEED = 5
WHOLE = 14  # organisations whose export of all months is audited, too
LINES_MAX = 100
MONEY = ("raw_cost", "markup_cost")


class Road(NamedTuple):
    """B's traffic, taken by a service; its statements and exports are made when they are asked for."""

    data: Path
    folder: Path
    service: Service
    traffic: Traffic

    def exported(self, *options: str) -> Path:
        """An export by the command, beside the running service."""
        name = "-".join(("export", *options)).replace("--", "")
        file = self.folder / f"{name}.ndjson.gz"
        if not file.exists():
            assert command(str(file), "--data", str(self.data), *options) == 0
        return file

    def lines(self, *options: str) -> list[Row]:
        """The same, as rows."""
        return lines_of(gzip.decompress(self.exported(*options).read_bytes()))

    def statement(self, organization: str, month: str, by: By) -> Path:
        """What `genledger report --json` prints."""

        async def made() -> bytes:
            queries = await Queries.open(self.data / "genledger.db")
            try:
                return report.as_json(await report.made(queries, organization, month, by))
            finally:
                await queries.close()

        file = self.folder / "statement.json"
        file.write_bytes(in_thread(lambda: asyncio.run(made())))
        return file

    def months(self) -> list[tuple[str, str]]:
        """Each organisation with a month in which it has something: the undated one has it now."""
        with closing(sqlite3.connect(self.data / "genledger.db")) as views:
            days = views.execute("SELECT client_org_id, usage_date FROM client_daily_usage")
            return sorted({(organization, day[:7]) for organization, day in days})


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory, traffic: Traffic) -> Iterator[Road]:
    folder = tmp_path_factory.mktemp("audit")
    with running(folder / "data") as service:
        set_up(service, traffic)
        feed(service, traffic.deliveries, sizes(1, 500, 1000))
        settle(service)
        yield Road(folder / "data", folder, service, traffic)


def test_the_script_agrees_with_100_random_statements(road: Road) -> None:
    """C: of any organisation and month, by user, model or day, from an export of the month or of more."""
    months = road.months()
    exports = [(*pair, ("--org", pair[0], "--month", pair[1])) for pair in months]
    exports += [(*pair, ("--org", pair[0])) for pair in months[:WHOLE]]
    every = [(*each, by) for each, by in itertools.product(exports, get_args(By))]
    requests = 0
    for organization, month, options, by in random.Random(SEED).sample(every, STATEMENTS):
        told = road.statement(organization, month, by)
        words = [str(road.exported(*options)), month, organization, "--by", by, "--statement", str(told)]
        assert script(*words)[::2] == (0, ""), (organization, month, by)
        requests += json.loads(told.read_bytes())["total"]["requests"]
    assert requests > 0


def test_an_export_of_all_serves_everyone_and_the_script_needs_nothing_but_python(road: Road) -> None:
    """Run as an auditor runs it, on the export of every organisation, and it has each fact's predecessor."""
    for organization, by in (("org-00", "user"), ("org-13", "model")):
        told = road.statement(organization, OCTOBER, by)
        words = [str(road.exported()), OCTOBER, organization, "--by", by, "--statement", str(told)]
        done = process(*words)
        assert (done.returncode, done.stderr) == (0, ""), done
        total = done.stdout.splitlines()[-1].split(",")
        figures = json.loads(told.read_bytes())["total"]
        assert total[0] == "total" and int(total[1]) == figures["requests"] > 0
        assert total[-1].rstrip("0") == figures["markup_cost"].ljust(len(total[-1].rstrip("0")), "0")


def test_no_organisations_export_names_another(road: Road) -> None:
    """Whatever was taken over, refused or voided: an export holds its own organisation's facts only."""
    organizations = sorted({str(each["id"]) for each in road.traffic.organizations})
    fates: dict[str, int] = {}
    for organization, month in road.months():
        lines = road.lines("--org", organization, "--month", month)
        text = json.dumps(lines)
        assert [other for other in organizations if other != organization and other in text] == []
        for row in facts_in(lines):
            fates[row["fate"]] = fates.get(row["fate"], 0) + 1
            assert row["plus"] or row["minus"]
    assert {"counted", "amended", "voided", "conflict"} == set(fates)
    taken_over = [row for row in facts_in(road.lines()) if row["fate"] == "conflict" and row["plus"]]
    assert fates["conflict"] == 2 * len(taken_over)


def test_a_readers_key_gets_the_same_export_over_http(road: Road) -> None:
    """An auditor with an organisation's key needs no more. (The last test of the road: a key closes it.)"""
    key = road.service.post("/api/v1/keys", {"organization": "org-00", "rights": "reader"})["secret"]
    connection = HTTPConnection("127.0.0.1", road.service.port, timeout=60)
    headers = {"Authorization": f"Bearer {key}"}
    connection.request("GET", f"/api/v1/export/facts?month={OCTOBER}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    assert lines_of(answer.read()) == road.lines("--org", "org-00", "--month", OCTOBER)
    connection.request("GET", f"/api/v1/export/facts?month={OCTOBER}&org=org-01", headers=headers)
    assert connection.getresponse().status == 404
    connection.close()


# What is planted in an export.

FACTS = (
    decided("counted", "gen-1", entry(cost_nano=1_000_001, rate="1.5")),
    decided("counted", "gen-2", entry(cost_nano=None)),
    decided("amended", "gen-1", entry(cost_nano=5, rate="0.5"), entry(cost_nano=1_000_001, rate="1.5")),
    decided("counted", "gen-3", entry(user='=HYPERLINK("x")')),
    decided("amended", "gen-2", entry(cost_nano=9), entry(cost_nano=None)),
    decided("counted", "gen-4", entry(user="\x1b[31mred\u202e")),
    decided("voided", "gen-4", void(), entry(user="\x1b[31mred\u202e")),
    decided("counted", "gen-5", entry(user="")),
    decided("counted", "gen-6", entry(user="total")),
    decided("forgotten", "gen-6", minus=entry(user="total")),
    decided("opening", "gen-7", entry(user="migrated")),
    decided("opening", "balance-u", entry(user="migrated", margin="user", requests=1)),
    decided("amended", "gen-7", entry(user="migrated", cost_nano=8), entry(user="migrated")),
    decided("opening", "gen-8", entry(user="back")),  # a migration that was rolled back
    decided("opening", "gen-8"),
    decided("counted", "gen-8", entry(user="back")),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_facts(folder, *FACTS)
    return folder


def row_with(lines: Sequence[Row], fate: str, id: str) -> Row:
    return next(row for row in lines if (row.get("fate"), row.get("id")) == (fate, id))


def cost(lines: list[Row]) -> None:
    row_with(lines, "counted", "gen-3")["plus"]["cost_nano"] += 10


def markup(lines: list[Row]) -> None:
    row_with(lines, "counted", "gen-1")["plus"]["markup_nano"] += 1  # half-even is 1500002, half-up as well


def unpriced_markup(lines: list[Row]) -> None:
    row_with(lines, "counted", "gen-2")["plus"]["markup_nano"] = 0


def removed(lines: list[Row]) -> None:
    lines.remove(row_with(lines, "counted", "gen-1"))


def last_removed(lines: list[Row]) -> None:
    del lines[-2]


def repeated(lines: list[Row]) -> None:
    lines.insert(2, lines[1])


def counted_again(lines: list[Row]) -> None:
    """The same generation as a fact of its own, with a place of its own."""
    again = {**row_with(lines, "counted", "gen-3"), "usage_offset": len(FACTS), "offset": len(FACTS)}
    lines[0]["partitions"][0]["end"] += 1
    lines.insert(-1, {**again, "prev": len(FACTS) - 1})


def counted_after_forgotten(lines: list[Row]) -> None:
    again = {**row_with(lines, "counted", "gen-6"), "usage_offset": len(FACTS), "offset": len(FACTS)}
    lines[0]["partitions"][0]["end"] += 1
    lines.insert(-1, {**again, "prev": len(FACTS) - 1})


def minus_of_another_worth(lines: list[Row]) -> None:
    minus = row_with(lines, "amended", "gen-1")["minus"]
    minus["total_tokens"] += 1


def beyond(lines: list[Row]) -> None:
    lines[0]["partitions"][0]["end"] -= 1


def other_month(lines: list[Row]) -> None:
    lines[0]["month"] = "2026-10"


def range_of_times(lines: list[Row]) -> None:
    lines[0]["from"] = "2026-11-01T00:00:00Z"


PLANTED: list[tuple[Callable[[list[Row]], None], str]] = [
    (cost, "its markup is"),
    (markup, "its markup is"),
    (unpriced_markup, "its markup is 0"),
    (removed, "does not take away what was counted"),
    (last_removed, "in the statement"),
    (repeated, "out of place"),
    (counted_again, "does not take away what was counted"),
    (counted_after_forgotten, "does not take away what was counted"),
    (minus_of_another_worth, "does not take away what was counted"),
    (beyond, "out of place"),
    (other_month, "not all of 'acme' in 2026-11"),
    (range_of_times, "not all of 'acme' in 2026-11"),
]


def statement_of(folder: Path, lines: Sequence[Row]) -> str:
    """A statement as ours would be, made from what the script says of an untouched export."""
    file, csv = folder / "statement.json", folder / "mine.csv"
    code, _ = audited(folder, sealed(lines), NOVEMBER, "acme", "--csv", str(csv))
    assert code == 0
    names, *rows = [line.split(",") for line in csv.read_text().splitlines()]
    texts = ("day", *MONEY)
    figures: list[dict[str, Any]] = [
        {name: value if name in texts else int(value) for name, value in zip(names, row, strict=True)}
        for row in rows
    ]
    told = {"organization": "acme", "month": NOVEMBER, "by": "day", "lines": figures[:-1]}
    file.write_text(json.dumps({**told, "total": figures[-1]}))
    return str(file)


@pytest.mark.parametrize(("change", "message"), PLANTED, ids=[change.__name__ for change, _ in PLANTED])
def test_what_is_wrong_with_an_export_is_found(
    data: Path, tmp_path: Path, change: Callable[[list[Row]], None], message: str
) -> None:
    """Exit 3, and what it is, also when the last line was made to vouch for it."""
    lines = export(data, "--org", "acme")
    told = statement_of(tmp_path, lines)
    assert audited(tmp_path, sealed(lines), NOVEMBER, "acme", "--statement", told) == (0, "")
    change(lines)
    code, found = audited(tmp_path, sealed(lines), NOVEMBER, "acme", "--statement", told)
    assert code == 3
    assert message in found, found


def test_a_missing_fact_is_seen_in_an_export_of_everything(data: Path, tmp_path: Path) -> None:
    """There each fact names the record before it, so one that touches nobody's figures is missed, too."""
    lines = export(data)
    lines.remove(row_with(lines, "counted", "gen-5"))
    code, found = audited(tmp_path, sealed(lines), "2025-01", "nobody")
    assert code == 3
    assert "the fact before it is missing" in found


@pytest.mark.parametrize("cut", ["half", "no last line", "a byte", "a line more", "nothing", "packed"])
def test_an_export_that_is_not_whole_is_found(data: Path, tmp_path: Path, cut: str) -> None:
    """A copy that broke off, or a byte that changed on its way."""
    whole = sealed(export(data, "--org", "acme"))
    changed = {
        "half": whole[: len(whole) // 2],
        "no last line": b"".join(whole.splitlines(keepends=True)[:-1]),
        "a byte": whole.replace(b'"session":""', b'"session":"x"', 1),
        "a line more": whole + whole.splitlines(keepends=True)[1],
        "nothing": b"",
        "packed": whole,
    }[cut]
    if cut == "packed":
        file = tmp_path / "half.ndjson.gz"
        file.write_bytes(gzip.compress(whole)[:-400])
        assert script(str(file), NOVEMBER, "acme")[0] == 3
    else:
        assert audited(tmp_path, changed, NOVEMBER, "acme")[0] == 3


def test_a_statement_that_says_something_else_is_found(data: Path, tmp_path: Path) -> None:
    """By one nano-dollar, by one token, by a line too many or too few."""
    lines = export(data, "--org", "acme")
    file = Path(statement_of(tmp_path, lines))
    true = json.loads(file.read_text())
    for change in (
        {"lines": [{**true["lines"][0], "raw_cost": true["lines"][0]["raw_cost"][:-1] + "9"}]},
        {"lines": [{**true["lines"][0], "total_tokens": 0}]},
        {"lines": []},
        {"lines": [*true["lines"], {**true["lines"][0], "day": "2026-11-30"}]},
        {"total": {**true["total"], "requests": 99}},
    ):
        file.write_text(json.dumps({**true, **change}))
        code, found = audited(tmp_path, sealed(lines), NOVEMBER, "acme", "--statement", str(file))
        assert (code, "in the statement" in found) == (3, True), change


def test_names_from_strangers_do_nothing(data: Path, tmp_path: Path) -> None:
    """No terminal obeys what is printed, and no spreadsheet runs it."""
    file, csv = tmp_path / "acme.ndjson", tmp_path / "mine.csv"
    lines = export(data, "--org", "acme")
    markup(lines)
    row_with(lines, "counted", "gen-1")["id"] = "\x1b[2Jgen"
    file.write_bytes(sealed(lines))
    code, printed, found = script(str(file), NOVEMBER, "acme", "--by", "user")
    assert code == 3
    assert "\x1b" not in printed + found and "\u202e" not in printed + found
    assert "\n\"'=HYPERLINK(" in printed
    assert "\\x1b[31mred\\u202e,0,0" in printed
    assert script(str(file), NOVEMBER, "acme", "--by", "user", "--csv", str(csv))[1] == ""
    assert csv.read_bytes().decode() == printed


def test_migrated_balances_and_voids_add_up(data: Path, tmp_path: Path) -> None:
    """An opening entry's money is in its balance; a void is nothing; what is forgotten stays counted."""
    file = tmp_path / "acme.ndjson"
    file.write_bytes(sealed(export(data, "--org", "acme")))
    code, printed, found = script(str(file), NOVEMBER, "acme", "--by", "user")
    assert (code, found) == (0, "")
    assert "\r\nmigrated,1,0,0,0,3,0.000000008,0.000000010\r\n" in printed  # 1.3 * 8 is 10.4
    assert "\r\ntotal,1,0,0,0,3,0.001000000,0.001300000\r\n" in printed  # the user of that name


def test_the_script_is_short_and_imports_nothing_of_ours() -> None:
    """At most 100 lines of plain Python, which an auditor can read before he trusts it."""
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= LINES_MAX
    nodes = list(ast.walk(ast.parse(text)))
    imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names
