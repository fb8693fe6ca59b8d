"""Two organisations claim one id: both are told, neither of the other, and a read-back moves the money."""

import json
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing

import pytest
import pytest_asyncio

from genledger.main import run
from genledger.roles.conflicts import alarm_of
from projections import schema
from projections.conflicts import Conflicts, fold
from projections.queries import Queries, conflicts_query
from streams.export import seen_by
from tests.projections.samples import NOON_MS, apply, entry, fact, reading
from tests.road.harness import running, wait_until

DAY_MS = 86_400_000


def claim(offset, id="gen-1", holder="acme", claimant="beta", **fields):
    return fact(offset, "conflict", id=id, holder=holder, claimant=claimant, **fields)


def taken(offset, id="gen-1", holder="acme", claimant="beta"):
    return claim(offset, id, holder, claimant, plus=entry(claimant), minus=entry(holder))


FACTS = [
    fact(0, id="gen-1", plus=entry()),
    claim(1),
    claim(2, "gen-2", claimant="globex"),
    claim(3),
    taken(4),
    claim(5, holder="beta", claimant="acme"),
    claim(6, "gen-3", "globex", "beta", time_ms=NOON_MS + 3 * DAY_MS),
]


def rows_of(path):
    with reading(path) as connection:
        return [tuple(row) for row in connection.execute("SELECT * FROM generation_conflicts ORDER BY id")]


@pytest_asyncio.fixture
async def queries(database, path):
    await apply(database, Conflicts(), FACTS)
    queries = await Queries.open(path)
    yield queries
    await queries.close()


@pytest.mark.parametrize("cut", range(1, len(FACTS)))
async def test_any_batching_adds_up_to_the_same_rows(database, path, made_tables, tmp_path, cut):
    """Each pair of an id has one row, however the facts were read."""
    after = await apply(database, Conflicts(), FACTS[:cut])
    await apply(database, Conflicts(), FACTS[cut:], after)
    first_s = NOON_MS // 1000
    found = {row[1:4]: row[4:] for row in rows_of(path)}
    assert found == {
        ("gen-1", "acme", "beta"): (3, 1, first_s + 1, first_s + 4),
        ("gen-1", "beta", "acme"): (1, 0, first_s + 5, first_s + 5),
        ("gen-2", "acme", "globex"): (1, 0, first_s + 2, first_s + 2),
        ("gen-3", "globex", "beta"): (1, 0, first_s + 3 * 86_400, first_s + 3 * 86_400),
    }


@pytest.mark.parametrize("cut", [None, 2, 3])
async def test_a_forgotten_id_loses_its_rows(database, path, cut):
    """What the log may have forgotten is no conflict any more; a later claim is a new one."""
    facts = [claim(0), claim(1, "gen-2"), fact(2, "forgotten", id="gen-1"), claim(3, claimant="globex")]
    after = await apply(database, Conflicts(), facts[:cut])
    if cut:
        await apply(database, Conflicts(), facts[cut:], after)
    assert {row[1:4] for row in rows_of(path)} == {("gen-2", "acme", "beta"), ("gen-1", "acme", "globex")}


def test_a_fact_of_an_older_version_tells_what_it_knows():
    """Before the parties were in the fact, only a take-over named them."""
    old = [
        fact(0, "conflict", id="gen-1", detail="the id belongs to organisation acme"),
        fact(1, "conflict", id="gen-1", plus=entry("beta"), minus=entry("acme")),
    ]
    assert [*fold(old).rows["gen-1"]] == [("acme", "beta")]


def test_a_take_over_stays_one_whatever_is_claimed_later():
    """In one batch as in several."""
    [claims] = fold([taken(0), claim(1)]).rows["gen-1"].values()
    assert (claims.times, claims.taken_over) == (2, 1)


def test_the_parties_are_no_names_in_the_other_s_export():
    """An organisation gets the facts of its sides, without the other one's name anywhere in them."""
    told = seen_by(taken(0), "beta")
    assert (told.holder, told.claimant, told.minus) == ("", "beta", None)
    assert seen_by(taken(0), "acme").claimant == ""
    assert seen_by(taken(0), "").holder == "acme"


def test_without_a_conflict_there_is_nothing_to_write():
    """All other fates leave the rows alone."""
    changes = fold(
        [fact(n, fate, plus=entry()) for n, fate in enumerate(("counted", "amended", "duplicate"))]
    )
    assert (changes.rows, changes.forgotten) == ({}, set())


async def test_days_and_organisations_narrow_what_is_told(queries):
    """The latest first; a row spans the days from its first claim to its last."""

    async def told(*asked):
        return [(r["id"], r["holder"], r["claimant"]) for r in (await queries.conflicts(*asked)).rows]

    assert await told() == [
        ("gen-3", "globex", "beta"),
        ("gen-1", "beta", "acme"),
        ("gen-1", "acme", "beta"),
        ("gen-2", "acme", "globex"),
    ]
    assert await told("globex") == [("gen-3", "globex", "beta"), ("gen-2", "acme", "globex")]
    assert await told("", "2026-11-21") == [("gen-3", "globex", "beta")]
    assert await told("globex", "", "2026-11-20") == [("gen-2", "acme", "globex")]
    assert await told("", "2026-11-21", "2026-11-22") == []
    page = await queries.conflicts(limit=1)
    assert (len(page.rows), page.truncated) == (1, True)


async def test_the_alarm_counts_the_ids_of_the_last_day(queries):
    """How many there are, how many were taken over, and where to look; nothing when there were none."""
    since_s = NOON_MS // 1000
    assert await queries.conflicts_since(since_s) == (4, 1)
    assert await queries.conflicts_since(since_s + 2 * 86_400) == (1, 0)
    assert alarm_of(0, 0) == ""
    assert alarm_of(1, 0).startswith("1 generation id was claimed by another organisation in the last 24 h")
    assert alarm_of(4, 1).endswith("hours, 1 of them taken over by a read-back: see `genledger conflicts`")


async def test_both_sides_are_found_by_an_index(queries, path):
    """However many there are, an organisation's own are not looked for among all."""
    with closing(sqlite3.connect(path)) as connection:
        for organization in ("", "acme"):
            query, values = conflicts_query(organization, "", "", 10)
            plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values))
            assert "SCAN generation_conflicts" not in plan, plan


EVENT = {"model": "m", "prompt_tokens": 7, "cost": "1", "created_at": "2026-11-20T10:00:00Z"}
# Squatted by beta and read back by acme; acme's own, claimed twice by beta; of others.
DELIVERIES = (
    {"id": "gen-squatted", "organization": "beta"},
    {"id": "gen-own", "organization": "acme"},
    {"id": "gen-own", "organization": "beta", "cost": "777"},
    {"id": "gen-own", "organization": "beta", "cost": "778"},
    {"id": "gen-others", "organization": "globex"},
    {"id": "gen-others", "organization": "initech"},
    {"id": "gen-squatted", "organization": "acme", "authority": "reconciled", "cost": "5"},
)


def get(service, path, key):
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}{path}", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each caller is told over HTTP by a running service, which is ended; and its data folder."""
    data = tmp_path_factory.mktemp("conflicts") / "data"
    answers = {}
    with running(data) as service:
        for event in DELIVERIES:
            assert service.send([json.dumps({**EVENT, **event}).encode()]) == []
        wait_until(lambda: len(service.get("/api/v1/conflicts")["rows"]) == 3, 20, "folded", service)
        answers["usage"] = service.get("/api/v1/usage/daily")["rows"]
        made = service.post("/api/v1/keys", {"rights": "admin"})
        keys = {"": made["secret"]}
        for name in ("acme", "beta", "globex", "umbrella", "producer"):
            rights, org = ("producer", "acme") if name == "producer" else ("reader", name)
            request = urllib.request.Request(
                f"http://127.0.0.1:{service.port}/api/v1/keys",
                json.dumps({"organization": org, "rights": rights}).encode(),
                {"Authorization": f"Bearer {keys['']}", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                keys[name] = json.loads(answer.read())["secret"]
        for name, key in keys.items():
            for query in ("", "?org=acme", "?org=beta", "?org=", "?from=2026-13-01", "?to=2000-01-01"):
                answers[name, query] = get(service, f"/api/v1/conflicts{query}", key)
        answers["administrator"] = keys[""]
        answers["nobody"] = get(service, "/api/v1/conflicts", "glk_wrong")[0]
        assert service.stop() == 0, service.tail()
    return data, answers


def rows(answer):
    assert answer[0] == 200, answer
    found = json.loads(answer[1])["rows"]
    return {(r["id"], r["holder"], r["claimant"], r["times"], r["taken_over"]) for r in found}


def test_the_installation_s_administrator_sees_both_sides(told):
    """Whose it was, who claimed it, how often, and whether it was taken over; of one organisation or all."""
    _, answers = told
    acme = {("gen-squatted", "beta", "acme", 1, True), ("gen-own", "acme", "beta", 2, False)}
    assert rows(answers["", "?org=acme"]) == rows(answers["", "?org=beta"]) == acme
    assert rows(answers["", ""]) == acme | {("gen-others", "globex", "initech", 1, False)}
    assert rows(answers["", "?to=2000-01-01"]) == set()
    assert answers["", "?org="][0] == answers["", "?from=2026-13-01"][0] == 400


def test_each_side_is_told_and_nothing_of_the_other(told):
    """Both know of the conflict; the other one has no name, no figures, and no rows of its own."""
    _, answers = told
    assert rows(answers["acme", ""]) == {
        ("gen-squatted", None, "acme", 1, True),
        ("gen-own", "acme", None, 2, False),
    }
    assert rows(answers["beta", ""]) == {
        ("gen-squatted", "beta", None, 1, True),
        ("gen-own", None, "beta", 2, False),
    }
    assert rows(answers["globex", ""]) == {("gen-others", "globex", None, 1, False)}
    assert rows(answers["umbrella", ""]) == set()
    for name, others in (("acme", "beta globex initech 777"), ("beta", "acme globex initech")):
        assert not any(other in answers[name, ""][1] for other in others.split())
    assert rows(answers["acme", "?org=acme"]) == rows(answers["acme", ""])


def test_another_s_conflicts_can_not_be_asked_for(told):
    """Asking for another organisation is answered as if it were not there; without a key nothing is."""
    _, answers = told
    assert answers["acme", "?org=beta"][0] == answers["umbrella", "?org=acme"][0] == 404
    assert answers["producer", ""][0] == 403
    assert answers["nobody"] == 401


def test_a_read_back_moves_the_money(told):
    """The squatted id counts where it belongs, with what the provider says it costs."""
    _, answers = told
    counted = {r["client_org_id"]: (r["total_requests"], r["raw_cost"]) for r in answers["usage"]}
    assert counted == {"acme": (2, "6"), "beta": (0, "0"), "globex": (1, "1")}


def test_replay_and_prove_cover_them(told):
    """Rebuilt they are the same; a changed row is found, explained by its id, and mended."""
    data, _ = told
    database = data / "genledger.db"
    before = rows_of(database)
    assert run(["prove", "--data", str(data)]) == 0
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE generation_conflicts SET times = 9 WHERE generation_id = 'gen-own'")
        connection.commit()
    assert run(["prove", "--data", str(data), "--projection", "conflicts"]) == 3
    assert run(["replay", "--data", str(data), "--projection", "conflicts"]) == 0
    assert rows_of(database) == before


def test_the_command_and_the_status_tell_of_them(told, capsys, monkeypatch):
    """From the log's beginning, where views are of before: a line for each, and an alarm that counts them."""
    data, answers = told
    schema.downgrade(data / "genledger.db", "20261121_004")
    with running(data) as service:
        listed = "/api/v1/conflicts", answers["administrator"]
        wait_until(lambda: len(json.loads(get(service, *listed)[1])["rows"]) == 3, 20, "folded", service)
        monkeypatch.setenv("GENLEDGER_URL", f"http://127.0.0.1:{service.port}")
        monkeypatch.setenv("GENLEDGER_KEY", answers["administrator"])
        assert run(["conflicts", "--org", "acme"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sorted(line.split()[:4] for line in lines[-2:]) == [
            ["gen-own", "acme", "beta", "2"],
            ["gen-squatted", "beta", "acme", "1"],
        ]
        assert run(["conflicts", "--to", "2000-01-01", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []

        def alarms():
            return json.loads(get(service, "/api/v1/status", answers["administrator"])[1])["alarms"]

        wait_until(alarms, 20, "alarmed", service)
        assert alarms() == {"conflicts": alarm_of(3, 1)}
