"""The roles on a real cluster, each a process of its own: what they answer, refuse and end with."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streams import topics
from tests.kafka.installation import Installation, Role
from tests.road.harness import COMMAND, clean_environ, free_port, wait_until

DAY = {"created_at": "2026-11-20T10:00:00Z"}
REVOKED_S = 3.0  # half a second, on a machine that does nothing else
DRAIN_S = 5.0
STALL_S = 3


def event(id: str, organization: str = "acme") -> bytes:
    return json.dumps({"id": id, "organization": organization, "model": "m", "cost": "0.01", **DAY}).encode()


def ask(port: int, path: str, key: str = "") -> tuple[int, str]:
    """A GET as somebody with a key."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def requests_of(gateway: Role, organization: str) -> int:
    rows = gateway.get(f"/api/v1/usage/daily?org={organization}")["rows"]
    return sum(row["total_requests"] for row in rows)


@pytest.fixture
def installation(kafka, topic_prefix: str, tmp_path: Path) -> Installation:
    made = Installation(kafka.url, topic_prefix, tmp_path)
    made.apply()
    return made


def test_a_gateway_answers_for_all_roles(installation: Installation) -> None:
    """Posted at the door, an event is in the views, in the books and in explain, all asked at the door."""
    with installation.running("gateway", "ledger", "ledger", "summaries", "jobs") as roles:
        gateway, *_ = roles
        gateway.send([event(f"gen-{n}") for n in range(40)])
        wait_until(lambda: requests_of(gateway, "acme") == 40, 15, "in the views", gateway)
        gateway.assert_books_balance()
        for n in range(40):
            story = gateway.get(f"/api/v1/generations/gen-{n}")
            assert [fact["fate"] for fact in story["history"]] == ["counted"], story
            assert not story["truncated"]
        assert gateway.get_status("/api/v1/generations/nobody") == 404
        duplicate = gateway.get("/api/v1/generations/gen-1/duplicate?model=m&cost=0.01")
        assert duplicate["duplicate"] is True
        status = gateway.get("/api/v1/status")
        assert set(status["roles"].values()) == {"ok"}, status
        assert {"log", "summaries", "processed", "organizations"} < set(status["roles"])
        workers = [name for name in status["roles"] if name.startswith("ledger at ")]
        assert 1 <= len(workers) <= 2  # the second may have joined a moment ago
        metrics = gateway.get("/metrics")
        assert 'genledger_records_total{fate="accepted",stage="gateway"} 40' in metrics
        decided = 0
        for role in roles:
            assert ask(role.metrics_port, "/livez")[0] == 200
            found = ask(role.metrics_port, "/metrics")[1]
            decided += sum(
                int(float(line.split()[-1]))
                for line in found.splitlines()
                if line.startswith('genledger_records_total{fate="counted",stage="ledger"}')
            )
        assert decided == 40
        for role in reversed(roles):
            begun_s = time.monotonic()
            assert role.stop() == 0, role.tail()
            assert time.monotonic() - begun_s < DRAIN_S, f"{role.name} took long to stop"


def test_keys_hold_in_every_process_and_across_the_proxies(installation: Installation) -> None:
    """A key's organisation bounds what workers tell through a gateway; revoked at one, it fails at all."""
    with installation.running("gateway", "gateway", "ledger", "summaries") as (one, other, *_):
        one.send([event("gen-acme"), event("gen-other", "other")])
        for name in ("acme", "other"):
            wait_until(lambda: requests_of(one, name) == 1, 15, "in the views", one)  # noqa: B023
        made = one.post("/api/v1/keys", {"rights": "admin"})
        admin = made["secret"]
        reader = _post(one.port, "/api/v1/keys", {"rights": "reader", "organization": "acme"}, admin)
        key = reader["secret"]
        wait_until(lambda: ask(other.port, "/api/v1/usage/daily", key)[0] == 200, 5, "known at the other")
        for gateway in (one, other):
            assert ask(gateway.port, "/api/v1/generations/gen-acme", key)[0] == 200
            assert ask(gateway.port, "/api/v1/generations/gen-other", key)[0] == 404
            assert ask(gateway.port, "/api/v1/usage/daily")[0] == 401
            status, body = ask(gateway.port, "/api/v1/usage/daily", key)
            assert status == 200 and "other" not in body and "acme" in body
        _post(one.port, f"/api/v1/keys/{reader['id']}/revoke", {}, admin)
        for gateway in (one, other):
            refused = lambda: ask(gateway.port, "/api/v1/usage/daily", key)[0] == 401  # noqa: B023, E731
            wait_until(refused, REVOKED_S, "refused", gateway)


def _post(port: int, path: str, body: object, key: str) -> dict[str, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, str] = json.loads(answer.read() or b"{}")
        return found


def test_what_is_not_there_is_said(installation: Installation) -> None:
    """Without workers a gateway takes events, and says who is missing; a second writer is refused."""
    with installation.running("gateway") as (gateway,):
        gateway.send([event("gen-1")])
        for path in ("/api/v1/usage/daily", "/api/v1/generations/gen-1"):
            status, body, headers = gateway.request("GET", path)
            assert status == 503 and "Retry-After" in headers, (path, body)
        with installation.running("summaries"):
            second = installation.role("summaries")
            second.port = second.metrics_port = free_port()
            second.start(wait=False)
            assert second._ended(40) == 1
            assert "written by another process" in second.tail()


def test_a_cluster_without_topics_is_refused_by_name(kafka, topic_prefix: str, tmp_path: Path) -> None:
    """A worker before `topics apply` ends, naming the topic and the command."""
    role = Installation(kafka.url, topic_prefix, tmp_path).role("ledger")
    role.start(wait=False)
    assert role._ended(30) == 1
    assert f"{topic_prefix}generations" in role.tail() and "topics apply" in role.tail()


async def test_two_installations_share_a_broker_and_no_topic_is_made_but_ours(
    kafka, topic_prefix: str, tmp_path: Path
) -> None:
    """Each has its own topics, groups, writers and figures; Faust makes no topic of its own."""
    prefixes = [f"{topic_prefix}a-", f"{topic_prefix}b-"]
    made = [Installation(kafka.url, prefix, tmp_path / prefix, partitions=2) for prefix in prefixes]
    for number, installation in enumerate(made):
        installation.apply()
        with installation.running("gateway", "ledger", "summaries", "jobs") as (gateway, *_):
            gateway.send([event(f"gen-{n}") for n in range(10 + number)])
            wait_until(lambda: requests_of(gateway, "acme") == 10 + number, 15, "in the views", gateway)  # noqa: B023
            gateway.assert_books_balance()
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    try:
        names = {name for name in await client.list_topics() if name.startswith(topic_prefix)}
        groups = {group for group, _ in await client.list_consumer_groups() if group.startswith(topic_prefix)}
    finally:
        await client.close()
    assert names == {prefix + spec.name for prefix in prefixes for spec in topics.topic_table(2)}
    assert groups == {prefix + group for prefix in prefixes for group in ("ledger", "jobs")}


def test_fausts_own_command_runs_the_ledger(installation: Installation) -> None:
    """`faust -A streams.app worker` decides what a gateway takes, and ends on SIGTERM."""
    environ = {**clean_environ(), **installation.environ}
    output = installation.folder / "faust.output"
    command = [str(COMMAND.with_name("faust")), "-A", "streams.app", "worker", "-l", "warn"]
    with output.open("wb") as file, installation.running("gateway", "summaries") as (gateway, _):
        worker = subprocess.Popen(command, env=environ, stdout=file, stderr=file, start_new_session=True)
        try:
            gateway.send([event(f"gen-{n}") for n in range(30)])
            wait_until(lambda: requests_of(gateway, "acme") == 30, 30, output.read_text(), gateway)
            gateway.assert_books_balance()
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0, output.read_text()
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


def test_serve_runs_on_a_cluster_and_makes_its_topics(kafka, topic_prefix: str, tmp_path: Path) -> None:
    """`genledger serve` with a kafka:// broker makes its topics, rests, and goes on after kill -9."""
    from tests.road.harness import Service

    environ = {
        "GENLEDGER_BROKER": kafka.url,
        "GENLEDGER_TOPIC_PREFIX": topic_prefix,
        "GENLEDGER_STALL_TIMEOUT_S": f"{STALL_S}",
        "GENLEDGER_KAFKA_SESSION_TIMEOUT_S": "2",  # of the one that is killed, which the next one waits for
    }
    for number in range(2):
        service = Service(tmp_path / "data", **environ).start()
        try:
            service.send([event(f"gen-{n}") for n in range(20 * (number + 1))])
            wait_until(lambda: requests_of(service, "acme") == 20 * (number + 1), 30, "in the views", service)  # noqa: B023
            service.assert_books_balance()
            idle = lambda: set(service.get("/api/v1/status")["lag"].values()) == {0}  # noqa: B023, E731
            wait_until(idle, 5, "without lag", service)
            if number == 0:
                time.sleep(STALL_S + 1.5)
                assert service.alive, f"ended while there was nothing to do: {service.tail()}"
            service.kill() if number == 0 else service.stop()
        finally:
            if service.alive:
                service.kill()
