"""The servers of these tests: one is real, and the one that fails on demand reads and keeps as it does."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from tests.influxdb.fake import (
    NOT_FOUND,
    RESET,
    RESET_AFTER,
    STALL,
    TOO_LARGE,
    UNAVAILABLE,
    Fake,
    throttled,
)
from tests.influxdb.real import LOGIN, Influx, InfluxdbFailed

LINES = (
    rb"m,a=x\ y,b=p\,q,c=k\=v n=5i,f=1.5,s="
    b'"a \\"q\\", \\\\ = z",t=true 1700000000123456789\n'
    + 'm,a=ü,b=") |> yield() i=-9223372036854775808i,s="" -5\n'.encode().replace(b") |> ", rb")\ |>\ ")
    + b'm,a=\\x,b=\\\\y n=9223372036854775807i,s="two\nlines" 7\n'
)


def _post(url, body, path="/api/v2/write?bucket=points&org=o&precision=ns", timeout=5.0, **headers):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw else None, dict(answer.getheaders())
    finally:
        connection.close()


def _sorted(rows):
    return sorted(rows, key=lambda row: row["time_ns"])


def test_the_fake_reads_and_merges_as_the_real_one_does(influxdb, bucket):
    """What is written to both is the same in both, a second write of a point included."""
    with Fake() as fake:
        for body in (LINES, rb"m,a=x\ y,b=p\,q,c=k\=v n=6i,more=1i 1700000000123456789", LINES):
            influxdb.write(bucket, body)
            assert _post(fake.url, body)[0] == 204
        assert len(fake.rows("m")) == 3
        assert _sorted(fake.rows("m")) == _sorted(influxdb.rows(bucket, "m"))
        # Its Flux gives what it has, too.
        assert _sorted(Influx(fake.url).rows("points", "m")) == _sorted(fake.rows("m"))


def test_a_line_that_cant_be_read_is_400_and_nothing_is_stored():
    """2.x takes all or nothing of a body with a line that is none."""
    with Fake() as fake:
        status, said, _ = _post(fake.url, b"m n=1i 1\nm n= 2\nm n=3i 3")
        assert (status, said["code"]) == (400, "invalid")
        assert said["message"] == "unable to parse 'm n= 2': invalid field format"
        assert fake.rows("m") == []


def test_a_point_of_another_type_is_422_and_the_others_are_stored():
    """2.x stores the points that it can."""
    with Fake() as fake:
        status, said, _ = _post(fake.url, b'm n=1i 1\nm n="x" 2\nm n=3i 3')
        assert (status, said["code"]) == (422, "unprocessable entity")
        assert said["message"] == (
            'failure writing points to database: partial write: field type conflict: input field "n" on'
            ' measurement "m" is type string, already exists as type integer dropped=1'
        )
        assert [row["n"] for row in fake.rows("m")] == [1, 3]


def test_3_core_says_400_and_stores_the_others():
    """3 Core names the lines that it did not take."""
    with Fake(version="3") as fake:
        fake.is_bad = lambda point: "no" if point.tags["a"] == "x" else ""
        status, said, _ = _post(fake.url, b"m,a=y n=1i 1\nm,a=x n=2i 2\nm n= 3")
        assert (status, said["error"]) == (400, "partial write of line protocol occurred")
        assert [item["line_number"] for item in said["data"]] == [2, 3]
        assert [row["n"] for row in fake.rows("m")] == [1]
        asked = json.dumps({"db": "points", "q": "SELECT * FROM m", "format": "json"}).encode()
        assert _post(fake.url, asked, "/api/v3/query_sql")[1][0]["n"] == 1


def test_faults_come_once_each_or_always():
    """What is told to fail fails, what was applied is there, and everything that was asked is kept."""
    with Fake(token="secret") as fake:
        allowed = {"Authorization": "Token secret"}
        assert _post(fake.url, b"m n=1i 1")[:2] == (
            401,
            {"code": "unauthorized", "message": "unauthorized access"},
        )
        fake.next(UNAVAILABLE, throttled(2), TOO_LARGE, NOT_FOUND)
        found = [_post(fake.url, b"m n=1i 1", **allowed) for _ in range(4)]
        assert [status for status, _, _ in found] == [503, 429, 413, 404]
        assert found[1][2]["Retry-After"] == "2"
        assert fake.rows("m") == []
        fake.next(RESET, RESET_AFTER)
        for stored in (0, 1):
            with pytest.raises(ConnectionResetError):
                _post(fake.url, b"m n=1i 1", **allowed)
            assert len(fake.rows("m")) == stored
        fake.next(STALL)
        with pytest.raises(TimeoutError):
            _post(fake.url, b"m n=2i 2", timeout=0.2, **allowed)
        fake.always = UNAVAILABLE
        assert {_post(fake.url, b"m n=2i 2", **allowed)[0] for _ in range(3)} == {503}
        fake.always, fake.body_bytes_max = None, 5
        assert _post(fake.url, b"m n=2i 2", **allowed)[0] == 413
        assert len(fake.rows("m")) == 1
        assert [one.status for one in fake.writes[:7]] == [401, 503, 429, 413, 404, 0, 0]


def test_points_are_deleted_by_their_tags_and_time():
    """2.x deletes by a range of time and a predicate of tags."""
    with Fake() as fake:
        _post(fake.url, b'm,a=x n=1i 1\nm,a=y n=2i 1\nm,a=x n=3i 2\nm,a=q" n=4i 3')
        for time_ns, tag in ((1, "x"), (3, r"q\"")):
            moment = f"1970-01-01T00:00:00.{time_ns:09d}Z"
            asked = {"start": moment, "stop": moment, "predicate": f'_measurement="m" AND a="{tag}"'}
            assert _post(fake.url, json.dumps(asked).encode(), "/api/v2/delete?bucket=points")[0] == 204
        assert [row["n"] for row in fake.rows("m")] == [2, 3]
        assert len(fake.deleted) == 2


def test_a_server_of_ones_own_asks_for_its_login_and_survives_kill_9(own_influxdb):
    """Who has no token is refused; what was answered with 204 is there after kill -9."""
    server = own_influxdb(login=LOGIN, INFLUXDB_HTTP_FLUX_ENABLED="false")  # it starts at once without
    bucket = server.influx.make_bucket()
    server.influx.write(bucket, b"m n=1i 1")
    with pytest.raises(InfluxdbFailed, match="401"):
        Influx(server.url).write(bucket, b"m n=2i 2")
    server.kill()
    assert not server.influx.answers()
    server.start()
    found = server.influx.influxql("SELECT n FROM m", bucket)
    assert found["results"][0]["series"][0]["values"] == [[1, 1]]
    server.pause()
    with pytest.raises(TimeoutError):
        server.influx.ask("GET", "/ping", {}, within_s=0.3)
    server.resume()
    assert server.influx.answers()
