"""TLS, SCRAM and rights: every client connects by the same options, and to a broker that refuses others."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.protocol.admin import CreateAclsRequest
from aiokafka.structs import OffsetAndMetadata

from streams import settings, topics
from streams.errors import LogError, LogUnavailable, SettingError
from streams.log.kafka import administration
from streams.log.kafka.connect import client_options, servers_of
from tests.influxdb.fake import Fake
from tests.kafka import fixtures
from tests.kafka.broker import SASL_SSL, SSL_CLIENT, USERS, Broker
from tests.kafka.certificates import make_certificates
from tests.kafka.installation import Installation
from tests.kafka.test_roles import event, requests_of
from tests.road.harness import wait_until

PREFIX = "books-"
PASSWORD = "no-one-may-see-this"
DONE, FAILED, DIFFERENT = 0, 1, 3


def settings_of(**values):
    return settings.load({}, None, **values)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        ("kafka://one", ["one:9092"]),
        ("kafka://one:9093/", ["one:9093"]),
        (
            "kafka://one,two:9093, [::1]:9094,[fe80::1]",
            ["one:9092", "two:9093", "[::1]:9094", "[fe80::1]:9092"],
        ),
    ],
)
def test_a_brokers_address_may_leave_out_the_port(broker, expected):
    """Several addresses, IPv6 in brackets, port 9092 unless given."""
    assert servers_of(broker) == expected


@pytest.mark.parametrize(
    "broker",
    [
        "kafka://",
        "kafka://one,",
        "kafka://one:",
        "kafka://one:0",
        "kafka://one:65536",
        "kafka://one:x",
        "kafka://:9092",
        "kafka://[]:9092",
        "kafka://[::1",
        "kafka://[::1]9092",
        "kafka://::1",
        "kafka://one:9092/path",
        "kafka://one;two",
        "kafka://one two",
        "sqlite:///data/log",
    ],
)
def test_an_address_that_is_none_is_refused(broker):
    """The error names the setting and the form that it must have."""
    with pytest.raises(SettingError, match=r"GENLEDGER_BROKER.*HOST:PORT"):
        servers_of(broker)


def test_a_password_in_the_address_is_refused_unseen():
    """Who writes it there is told where it belongs, and it is not repeated."""
    with pytest.raises(SettingError, match="GENLEDGER_KAFKA_PASSWORD_FILE") as caught:
        servers_of(f"kafka://me:{PASSWORD}@one:9092")
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"kafka_cafile": "ca.pem"}, "GENLEDGER_KAFKA_CAFILE"),
        ({"kafka_username": "me"}, "GENLEDGER_KAFKA_USERNAME"),
        ({"kafka_security_protocol": "SASL_SSL", "kafka_username": "me"}, "GENLEDGER_KAFKA_PASSWORD"),
        ({"kafka_security_protocol": "SSL", "kafka_cafile": "no-such.pem"}, "GENLEDGER_KAFKA_CAFILE"),
        ({"kafka_security_protocol": "SSL", "kafka_cafile": __file__}, "GENLEDGER_KAFKA_CAFILE"),
        (
            {"kafka_security_protocol": "SSL", "kafka_certfile": __file__, "kafka_keyfile": "no-such.pem"},
            "GENLEDGER_KAFKA_KEYFILE",
        ),
        (
            {"kafka_security_protocol": "SSL", "kafka_certfile": __file__, "kafka_keyfile": __file__},
            "GENLEDGER_KAFKA_CERTFILE",
        ),
    ],
)
def test_security_that_would_not_be_there_is_refused(values, named):
    """A certificate, a name or a password that can't be used is an error that names the setting."""
    with pytest.raises(SettingError, match=named):
        client_options(settings_of(broker="kafka://one", **values))


def test_a_key_behind_a_passphrase_is_refused_without_asking(certificates, tmp_path):
    """A service has nobody to ask."""
    locked = tmp_path / "locked.key"
    words = [
        "openssl",
        "pkey",
        "-in",
        certificates.client_key,
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        locked,
    ]
    subprocess.run(words, check=True, capture_output=True)
    values = {"kafka_certfile": str(certificates.client), "kafka_keyfile": str(locked)}
    with pytest.raises(SettingError, match=r"GENLEDGER_KAFKA_KEYFILE.*without a passphrase"):
        client_options(settings_of(broker="kafka://one", kafka_security_protocol="SSL", **values))


async def test_every_client_takes_the_options(certificates):
    """Consumer, producer, admin client and plain client are made with the same keyword arguments."""
    options = client_options(
        settings_of(
            broker="kafka://one",
            kafka_security_protocol="SASL_SSL",
            kafka_cafile=str(certificates.authority),
            kafka_certfile=str(certificates.client),
            kafka_keyfile=str(certificates.client_key),
            kafka_username="me",
            kafka_password=PASSWORD,
        )
    )
    assert options["ssl_context"].check_hostname
    assert PASSWORD not in repr(options)
    for client in (AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient, AIOKafkaClient):
        made = client(**options)
        assert PASSWORD not in repr(made)


RIGHTS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker that lets in who has a certificate or a password, and lets them do what they were granted."""
    fixtures._need_java()
    broker = Broker(tmp_path_factory.mktemp("kafka"), SSL_CLIENT, SASL_SSL, properties=RIGHTS).start()
    grants = [(f"User:{name}", role) for name, role in (("alice", "administrator"), ("bob", "ledger"))]
    asyncio.run(grant(broker, [*grants, ("User:CN=client", "jobs")]))
    yield broker
    fixtures._end(broker)


RESOURCES = {"Topic": 2, "Group": 3, "TransactionalId": 5}
OPERATIONS = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Delete": 6,
    "Describe": 8,
    "DescribeConfigs": 10,
    "AlterConfigs": 11,
}
LITERAL, PREFIXED, ALLOW = 3, 4, 3


async def grant(broker, roles):
    """Grant to each principal what the table says of its role, and not more."""
    client = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await client.start()
    requests = [
        CreateAclsRequest(
            RESOURCES[each.resource],
            PREFIX + each.name,
            PREFIXED if each.prefixed else LITERAL,
            principal,
            "*",
            OPERATIONS[operation],
            ALLOW,
        )
        for principal, role in roles
        for each in topics.GRANTS
        if each.role == role
        for operation in each.operations
    ]
    for request in requests:
        response = await client._send_request(request)
        assert [code for code, _ in response.creation_responses] == [0]
    await client.close()


def by_password(broker, name="alice", **more):
    """The settings of a user of the broker."""
    return {
        "broker": f"kafka://{broker.address('SASL_SSL')}",
        "topic_prefix": PREFIX,
        "partitions": 2,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_cafile": str(broker.certificates.authority),
        "kafka_username": name,
        "kafka_password": USERS.get(name, PASSWORD),
        "kafka_request_timeout_s": 3.0,
    } | more


def by_certificate(broker, **more):
    """The settings of the client that has a certificate."""
    return {
        "broker": f"kafka://{broker.address('SSL_CLIENT')}",
        "topic_prefix": PREFIX,
        "partitions": 2,
        "kafka_security_protocol": "SSL",
        "kafka_cafile": str(broker.certificates.authority),
        "kafka_certfile": str(broker.certificates.client),
        "kafka_keyfile": str(broker.certificates.client_key),
        "kafka_request_timeout_s": 3.0,
    } | more


def genledger(directory, values, *words):
    """The real command, with these settings in its environment, the password in a file."""
    return subprocess.run(
        [Path(sys.executable).with_name("genledger"), *words],
        cwd=directory,
        env={"PATH": os.environ["PATH"], **environ_of(directory, values)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_topics_are_applied_and_checked_over_tls(broker, tmp_path):
    """The administrator applies them by password, and a job checks them by its certificate."""
    applied = genledger(tmp_path, by_password(broker), "topics", "apply")
    assert (applied.returncode, "Traceback" in applied.stderr) == (DONE, False), applied.stderr
    checked = genledger(tmp_path, by_certificate(broker), "topics", "check")
    assert (checked.returncode, checked.stdout, checked.stderr) == (DONE, "all well\n", "")


def test_a_wrong_password_is_told_without_the_password(broker, tmp_path):
    """The command fails, names the settings to look at, and shows no password."""
    done = genledger(tmp_path, by_password(broker, kafka_password=PASSWORD), "topics", "apply")
    assert done.returncode == FAILED
    assert (
        "password is refused: see GENLEDGER_KAFKA_USERNAME and GENLEDGER_KAFKA_PASSWORD_FILE" in done.stderr
    )
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
async def test_each_way_to_log_in_works(broker, mechanism):
    """SCRAM and PLAIN, over TLS."""
    found = settings_of(**by_password(broker, kafka_sasl_mechanism=mechanism))
    await administration.ensure(found)
    assert await administration.differences(found) == []


async def told(**values):
    """What the error says of these settings."""
    with pytest.raises(LogUnavailable) as caught:
        await administration.plan(settings_of(**values))
    return str(caught.value)


async def test_a_connection_that_is_not_as_it_must_be_says_what_to_mend(broker, certificates):
    """A strange authority, no certificate, and no TLS at all each name their setting."""
    strange = {"kafka_cafile": str(certificates.authority)}
    assert "GENLEDGER_KAFKA_CAFILE" in await told(**by_password(broker, **strange))
    bare = {"kafka_certfile": "", "kafka_keyfile": ""}
    assert "GENLEDGER_KAFKA_CERTFILE" in await told(**by_certificate(broker, **bare))
    plain = {"kafka_security_protocol": "PLAINTEXT", "kafka_cafile": "", **bare}
    assert "GENLEDGER_KAFKA_SECURITY_PROTOCOL" in await told(**by_certificate(broker, **plain))
    tls = by_certificate(broker) | {"broker": f"kafka://{broker.bootstrap}"}
    assert "GENLEDGER_KAFKA_SECURITY_PROTOCOL" in await told(**tls)


async def test_rights_end_where_they_were_granted(broker):
    """An administrator of one prefix can make nothing under another, and is told so."""
    with pytest.raises(LogError, match=r"other-\S+ can't be made: Authorization failed"):
        await administration.apply(settings_of(**by_password(broker, topic_prefix="other-")))


async def test_the_ledgers_rights_are_enough_and_no_more(broker):
    """It takes part in its group, reads events and commits facts with its offset; it can't write settings."""
    await administration.ensure(settings_of(**by_password(broker)))
    assert await administration.ensure(settings_of(**by_password(broker, "bob"))) == []
    options = client_options(settings_of(**by_password(broker, "bob")))
    events, facts, group = PREFIX + topics.GENERATIONS, PREFIX + topics.USAGE, PREFIX + topics.LEDGER_GROUP
    consumer = AIOKafkaConsumer(events, group_id=group, enable_auto_commit=False, **options)
    producer = AIOKafkaProducer(transactional_id=f"{group}-0", acks="all", **options)
    await consumer.start()
    await producer.start()
    place = TopicPartition(events, 0)
    try:
        async with producer.transaction():
            await producer.send_and_wait(facts, b"fact", key=b"gen-1", partition=0)
            await producer.send_offsets_to_transaction({place: OffsetAndMetadata(7, "")}, group)
        async with asyncio.timeout(10):  # the offset shows when the transaction's marker is written
            while await consumer.committed(place) != 7:
                await asyncio.sleep(0.05)
        with pytest.raises(TopicAuthorizationFailedError):
            async with producer.transaction():
                await producer.send_and_wait(PREFIX + topics.KEYS, b"{}", key=b"key", partition=0)
    finally:
        await consumer.stop()
        await producer.stop()


ROLE_OF = {
    "gateway": "User:CN=client",
    "ledger": "User:bob",
    "summaries": "User:alice",
    "points": "User:carol",
    "jobs": "User:dave",
}


@pytest.fixture
def influxdb():
    with Fake() as found:
        yield found


def test_each_role_works_with_the_rights_of_its_own(own_broker, influxdb, tmp_path):
    """Over TLS, by certificate and by SCRAM, with nothing granted but the table's rows for its role."""
    broker = own_broker(SSL_CLIENT, SASL_SSL, properties=RIGHTS)
    asyncio.run(grant(broker, [(principal, role) for role, principal in ROLE_OF.items()]))
    plain = Installation(f"kafka://{broker.bootstrap}", PREFIX, tmp_path, partitions=2)
    plain.apply()
    as_whom = {
        "gateway": environ_of(tmp_path, by_certificate(broker)),
        "ledger": environ_of(tmp_path, by_password(broker, "bob")),
        "summaries": environ_of(tmp_path, by_password(broker, "alice")),
        "points": environ_of(tmp_path, by_password(broker, "carol")),
        "jobs": environ_of(tmp_path, by_password(broker, "dave")),
    }
    points_at = {"INFLUXDB_URL": influxdb.url, "INFLUXDB_ORG": "o", "INFLUXDB_BUCKET": "points"}
    roles = [plain.role(name, **environ, **points_at) for name, environ in as_whom.items()]
    try:
        for role in roles:
            role.start(wait=False)
        for role in roles:
            role.wait_ready()
        gateway = roles[0]
        gateway.send([event(f"gen-{n}") for n in range(20)])
        wait_until(lambda: requests_of(gateway, "acme") == 20, 20, "in the views", gateway)
        assert gateway.get("/api/v1/generations/gen-1")["known"]
        gateway.post("/api/v1/organizations", {"id": "acme", "name": "Acme"})
        gateway.assert_books_balance()
        wait_until(lambda: len(influxdb.rows("llm_usage")) == 20, 20, "in InfluxDB", roles[3])
        wait_until(lambda: cleans(gateway), 20, "led", gateway)
        runs = "/api/v1/admin/cleanup/runs"
        wait_until(lambda: gateway.get(runs)["rows"][0]["state"] == "ended", 20, "ended", gateway)
        told = gateway.get("/api/v1/status")
        assert (told["roles"]["jobs"], told["cleanup"]["enabled"]) == ("ok", True)
        # The first key closes every door: each role has read it.
        gateway.post("/api/v1/keys", {"rights": "admin"})
        for role in (gateway, *roles[2:]):
            wait_until(lambda role=role: role.get_status("/api/v1/status") == 401, 20, "closed", role)
            assert role.get_status("/readyz") == 200
        assert [role.stop() for role in roles] == [0, 0, 0, 0, 0]
    finally:
        for role in roles:
            if role.alive:
                role.kill()


def cleans(gateway):
    """Whether the leader begins a run of the retention job, by its right to write `generations`."""
    return gateway.request("POST", "/api/v1/admin/cleanup", b"{}", "application/json")[0] == 202


def environ_of(directory, values):
    """Settings as a role's environment, the password in a file."""
    names = {setting.name: setting.env for setting in settings.TABLE}
    environment = {names[name]: str(value) for name, value in values.items()}
    password = environment.pop("GENLEDGER_KAFKA_PASSWORD", None)
    if password is not None:
        file = directory / f"password-{values['kafka_username']}"
        file.write_text(password + "\n")
        environment["GENLEDGER_KAFKA_PASSWORD_FILE"] = str(file)
    return environment
