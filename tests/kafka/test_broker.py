"""The harness itself: the broker is a real one, and the proxy's faults really happen."""

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from tests.kafka.broker import PROXIED, SASL, SASL_SSL, SSL_CLIENT, USERS, BrokerFailed, answers
from tests.kafka.broker import SSL as TLS
from tests.kafka.proxy import BROKER, CLIENT, PRODUCE, Frames, Line, Proxy


async def _make_topic(bootstrap, name, **options):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **options)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


async def _send(bootstrap, topic, *values, **options):
    """Each value, acknowledged before the next is sent."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **options) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def _values(bootstrap, topic, **options):
    """All that the topic holds; there is no compaction and no transaction here."""
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, **options) as consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, 0)
        found = []
        while await consumer.position(partition) < end:
            batches = await consumer.getmany(timeout_ms=1000)
            found += [record.value for records in batches.values() for record in records]
        return found


async def test_the_shared_kafka_keeps_what_is_sent(kafka, topic_prefix):
    """A record that was acknowledged is read back."""
    await _make_topic(kafka.bootstrap, f"{topic_prefix}a")
    await _send(kafka.bootstrap, f"{topic_prefix}a", b"one", b"two")
    assert await _values(kafka.bootstrap, f"{topic_prefix}a") == [b"one", b"two"]


@pytest.mark.soak  # make test has it in the tests of the road
async def test_a_killed_broker_comes_back_with_its_records(own_broker):
    """After kill -9 and after a pause the broker goes on, on the same port, with what was acknowledged."""
    broker = own_broker()
    await _make_topic(broker.bootstrap, "a")
    await _send(broker.bootstrap, "a", b"one")
    port, first = broker.ports["PLAIN"], broker.pid
    broker.kill()
    assert not broker.alive
    assert not answers(port)
    broker.start()
    assert broker.pid != first
    assert await _values(broker.bootstrap, "a") == [b"one"]
    broker.pause()
    assert not answers(port, within_s=0.3)
    broker.resume()
    broker.wait_ready()
    assert await _values(broker.bootstrap, "a") == [b"one"]


@pytest.mark.soak  # make test has it in the tests of the road
async def test_tls_and_passwords_are_the_real_ones(own_broker):
    """TLS with and without a client's certificate, SCRAM and PLAIN connect; what is wrong is refused."""
    broker = own_broker(TLS, SSL_CLIENT, SASL, SASL_SSL)
    made = broker.certificates
    anyone = create_ssl_context(cafile=made.authority)
    known = create_ssl_context(cafile=made.authority, certfile=made.client, keyfile=made.client_key)
    alice = {"sasl_plain_username": "alice", "sasl_plain_password": USERS["alice"]}
    await _make_topic(broker.bootstrap, "a")
    ways = {
        TLS: {"ssl_context": anyone},
        SSL_CLIENT: {"ssl_context": known},
        SASL: {"sasl_mechanism": "SCRAM-SHA-256", **alice},
        SASL_SSL: {"sasl_mechanism": "SCRAM-SHA-512", "ssl_context": anyone, **alice},
    }
    for listener, options in ways.items():
        sent = _send(
            broker.address(listener.name), "a", listener.name.encode(), **_secured(listener, options)
        )
        await sent
    plain = _secured(SASL, {"sasl_mechanism": "PLAIN", **alice})
    expected = [listener.name.encode() for listener in ways]
    assert await _values(broker.address("SASL"), "a", **plain) == expected

    wrong = [
        (TLS, {"ssl_context": create_ssl_context()}),
        (SSL_CLIENT, {"ssl_context": anyone}),
        *(
            (SASL, {**ways[SASL], "sasl_mechanism": how, "sasl_plain_password": "no"})
            for how in ("PLAIN", "SCRAM-SHA-512")
        ),
        (SASL_SSL, {**ways[SASL_SSL], "sasl_plain_password": "no"}),
    ]
    for listener, options in wrong:
        with pytest.raises(KafkaError):
            await _send(broker.address(listener.name), "a", b"never", **_secured(listener, options))
    assert await _values(broker.bootstrap, "a") == expected


def _secured(listener, options):
    return {"security_protocol": listener.security, **options}


@pytest.mark.soak  # make test has it in the tests of the road
async def test_a_lost_answer_is_of_a_record_that_is_in_the_log(own_broker):
    """The broker has appended what the producer never hears of; every connection passes the proxy."""
    broker = own_broker(PROXIED)
    with broker.proxy() as proxy:
        await _make_topic(proxy.address, "a")
        async with AIOKafkaProducer(bootstrap_servers=proxy.address, enable_idempotence=True) as producer:
            await producer.send_and_wait("a", b"one", partition=0)
            proxy.lose_next_answer(PRODUCE)
            await producer.send_and_wait("a", b"two", partition=0)  # it retries, by its sequence number
        assert proxy.counts.lost_answers == 1
        assert await _values(broker.bootstrap, "a") == [b"one", b"two"]

        proxy.lose_next_answer(PRODUCE)
        await _send(proxy.address, "a", b"three", retry_backoff_ms=50)  # not idempotent: twice in the log
        assert proxy.counts.lost_answers == 2
        assert await _values(broker.bootstrap, "a") == [b"one", b"two", b"three", b"three"]


def test_a_broker_that_cant_start_says_why(own_broker):
    """A broker whose properties are wrong fails at once, with its own words."""
    with pytest.raises(BrokerFailed, match=r"num\.io\.threads"):
        own_broker(properties={"num.io.threads": "none"})


def test_a_port_that_is_taken_is_no_broker_of_ours(own_broker):
    """A broker does not pass off whoever has its port as itself."""
    broker = own_broker(start=False)
    with (
        socket.create_server(("127.0.0.1", broker.ports["PLAIN"])),
        pytest.raises(BrokerFailed, match="listens"),
    ):
        broker.start()


def test_a_broker_ends_with_the_process_that_started_it(tmp_path):
    """The broker of a test run that was killed with -9 does not stay behind."""
    code = (
        "import os, signal, sys, pathlib; from tests.kafka.broker import Broker;"
        "broker = Broker(pathlib.Path(sys.argv[1])).start(wait=False); print(broker.pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "k")], stdout=subprocess.PIPE, check=False
    )
    deadline_s = time.monotonic() + 10
    while _is_there(int(run.stdout)):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _is_there(pid):
    """A zombie has ended too: nobody may be there to bury it."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@pytest.fixture
async def echo():
    """The port of a server that says back what it hears."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
def proxy(echo):
    """A proxy in front of it."""
    with Proxy("127.0.0.1", echo) as proxy:
        yield proxy


def _frame(body):
    return struct.pack(">i", len(body)) + body


MESSAGE = _frame(b"x" * 20)


async def _say(proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(MESSAGE)
    return reader, writer


async def _hear(reader, within_s=2.0):
    return await asyncio.wait_for(reader.readexactly(len(MESSAGE)), within_s)


async def _is_sent_away(proxy):
    """The reset may come while the client still connects."""
    with pytest.raises(ConnectionResetError):
        reader, _writer = await _say(proxy)
        await _hear(reader)


async def test_what_is_cut_is_reset(proxy):
    """`cut` resets the connections that are there; a new one works, until it is refused."""
    reader, writer = await _say(proxy)
    assert await _hear(reader) == MESSAGE
    assert proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        await _hear(reader)
    writer.close()
    reader, writer = await _say(proxy)
    assert await _hear(reader) == MESSAGE
    writer.close()
    proxy.refuse = True
    await _is_sent_away(proxy)
    assert (proxy.counts.cut, proxy.counts.refused) == (1, 1)


@pytest.mark.parametrize("to", [CLIENT, BROKER])
async def test_a_dropped_direction_is_silent_while_the_connection_stays(proxy, to):
    """A half-open connection gives nothing and does not end, not even after the fault; a new one works."""
    reader, writer = await _say(proxy)
    assert await _hear(reader) == MESSAGE
    setattr(proxy, f"drop_to_{to}", True)
    writer.write(MESSAGE)
    with pytest.raises(TimeoutError):
        await _hear(reader, 0.2)
    assert proxy.counts.dropped_bytes == {to: len(MESSAGE)}
    proxy.heal()
    writer.write(MESSAGE)
    with pytest.raises(TimeoutError):
        await _hear(reader, 0.2)
    assert proxy.connections == 1
    assert proxy.counts.dropped_bytes == {to: 2 * len(MESSAGE)}
    fresh, other = await _say(proxy)
    assert await _hear(fresh) == MESSAGE
    writer.close()
    other.close()


async def test_the_client_of_a_silent_broker_hears_nothing_of_its_end(own_port):
    """When the broker of a half-open connection goes away, the client can't tell."""
    port, accepted = own_port
    with Proxy("127.0.0.1", port) as proxy:
        reader, writer = await _say(proxy)
        broker = await asyncio.wait_for(accepted, 2)
        proxy.drop_to_client = True
        broker.transport.abort()
        for _ in range(5):
            writer.write(MESSAGE)
            await asyncio.sleep(0.05)
        assert not reader.at_eof()
        assert proxy.connections == 1
        assert proxy.counts.dropped_bytes[BROKER] > 0
        writer.close()


@pytest.fixture
async def own_port():
    """A server that does nothing but show whom it has accepted."""
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], accepted
    server.close()


async def test_a_slow_line_is_slow_each_way(proxy):
    """The delay holds each way, and the rate is shared by all connections."""
    proxy.delay_ms = 100
    started_s = time.monotonic()
    reader, writer = await _say(proxy)
    assert await _hear(reader) == MESSAGE
    assert time.monotonic() - started_s >= 0.2
    assert proxy.counts.delayed_chunks == 2
    writer.close()

    proxy.heal()
    proxy.bytes_per_s = 20_000
    started_s = time.monotonic()
    both = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(2)]
    for _, writer in both:
        writer.write(_frame(b"y" * 4_996))
    for reader, writer in both:
        assert len(await reader.readexactly(5_000)) == 5_000
        writer.close()
    assert time.monotonic() - started_s >= 0.5
    assert proxy.counts.limited_bytes == 20_000


async def test_a_target_that_is_away_resets_the_client():
    """While the broker is down, whoever connects through the proxy is sent away."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Proxy("127.0.0.1", nobody.getsockname()[1]) as proxy:
            await _is_sent_away(proxy)
            assert proxy.counts.unreachable == 1


@pytest.mark.parametrize("size_bytes", [1, 3, 7, 1000])
def test_frames_are_found_however_they_are_cut(size_bytes):
    """Frames pass unchanged in pieces of any size, up to the one that is refused."""
    bodies = [b"head" + b"." * length for length in (0, 1, 50)] + [b"stop" + b"!" * 9, b"head"]
    stream = b"".join(_frame(body) for body in bodies)
    frames = Frames(4, lambda head: head != b"stop")
    passed = b"".join(frames.feed(stream[at : at + size_bytes]) for at in range(0, len(stream), size_bytes))
    assert frames.refused
    assert passed == b"".join(_frame(body) for body in bodies[:3])


def test_what_is_no_frame_passes():
    """TLS has no frames to be found: it passes as it is."""
    frames = Frames(8, lambda head: False)
    hello = b"\x16\x03\x01\x02\x00" + b"x" * 40
    assert frames.feed(hello) + frames.feed(b"\x17\x03") == hello + b"\x17\x03"


def test_a_line_is_shared():
    """What goes over a line waits for what went before it, and an idle line saves nothing up."""
    line = Line()
    assert line.wait_s(500, 1000, 10.0) == 0.5
    assert line.wait_s(500, 1000, 10.0) == 1.0
    assert line.wait_s(500, 1000, 99.0) == 0.5
