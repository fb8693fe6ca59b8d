"""What the client makes of what a gateway says, however badly it behaves."""

import logging
import threading
import time

import pytest

from streams.client import Client, ClientClosed, QueueFull
from tests.client.fakes import Gateway, answer, error
from tests.road.harness import wait_until

FLUSH_S = 20


def _record(client, *ids, **fields):
    for id in ids:
        client.record({"id": id, "organization": "acme", "model": "m", "cost": "0.01", **fields})


def _ids(count):
    return [f"gen-{n}" for n in range(count)]


def test_events_go_in_batches_in_their_order(gateway, make_client):
    """Many events are few requests, and the gateway has them as they were recorded."""
    client = make_client(batch_events_max=100, linger_s=0.2)
    ids = _ids(250)
    _record(client, *ids)
    assert client.flush(FLUSH_S)
    assert gateway.order == ids
    assert max(map(len, gateway.bodies)) == 100
    assert len(gateway.bodies) <= 5
    assert client.state().sent == 250
    assert client.state().pending == 0


def test_a_batch_is_bounded_in_bytes(gateway, make_client):
    """Large events make small batches."""
    client = make_client(batch_bytes_max=10_000, linger_s=0.2)
    _record(client, *_ids(20), metadata={"text": "x" * 2000})
    assert client.flush(FLUSH_S)
    assert max(map(len, gateway.bodies)) == 4


@pytest.mark.parametrize(
    "reply",
    [
        error(429, "rate", Retry_After="0"),
        error(503, "log_full", Retry_After="0"),
        error(507, "disk_full", Retry_After="0"),
        error(408),
        error(500),
        error(502),
        error(401, "unauthorized"),
        error(403, "forbidden"),
        error(404),
        (301, {"Location": "/elsewhere"}, b""),
        (200, {"Content-Type": "text/html"}, b"<html>Sign in to the network</html>"),
        (400, {"Content-Type": "text/html"}, b"<html>The plain HTTP request was sent to HTTPS port</html>"),
        answer(422, {"detail": "of somebody else"}),
        answer(202, {"accepted": 1, "rejected": []}),
        answer(202, {"accepted": 2, "rejected": [{"index": 9, "field": "", "error": ""}]}),
        None,
    ],
    ids=lambda reply: str(reply and reply[0]),
)
def test_nothing_but_the_gateways_own_word_settles_an_event(gateway, make_client, reply):
    """Whatever else is answered, or nothing at all, the same is sent again and counts once."""
    gateway.next = [lambda events: reply, lambda events: reply]
    client = make_client(linger_s=0.1)
    _record(client, "gen-1", "gen-2", "gen-3")
    assert client.flush(FLUSH_S)
    assert sorted(gateway.taken) == ["gen-1", "gen-2", "gen-3"]
    assert gateway.bodies[0] == gateway.bodies[-1]
    assert client.state().rejected == 0


def test_an_answer_that_is_lost_counts_once(gateway, make_client):
    """The gateway took the events and nobody heard of it: the retry has the same ids and the same content."""
    gateway.next = [lambda events: gateway.take(events) and None]
    client = make_client()
    client.record(model="m", organization="acme", cost="0.01")
    assert client.flush(FLUSH_S)
    first, second = gateway.bodies
    assert first == second
    assert len(gateway.taken) == 1


def test_a_gateway_that_is_silent_is_asked_again(gateway, make_client):
    """Whether it took the events nobody knows: the same are sent once more, and count once."""

    def slow(events):
        gateway.take(events)
        time.sleep(0.6)
        return "take"

    gateway.next = [slow]
    client = make_client(timeout_s=0.2)
    _record(client, "gen-1", "gen-2")
    assert client.flush(FLUSH_S)
    assert len(gateway.bodies) == 2
    assert sorted(gateway.taken) == ["gen-1", "gen-2"]


def test_a_rate_limit_is_obeyed(gateway, make_client):
    """Nothing is sent before the time that the gateway asked for, not even by a flush."""
    at = []

    def limited(events):
        at.append(time.monotonic())
        return error(429, "rate", Retry_After="1")

    gateway.next = [limited]
    client = make_client()
    _record(client, "gen-1")
    assert client.flush(FLUSH_S)
    assert time.monotonic() - at[0] >= 1
    assert len(gateway.bodies) == 2


def test_rejected_events_are_told_and_the_others_taken(gateway, make_client, caplog):
    """Each rejected event comes back once with its field and reason; what was in it is not logged."""
    told = []
    gateway.always = lambda events: gateway.take(events, lambda event: event["id"] in ("gen-1", "gen-3"))
    client = make_client(on_rejected=lambda event, why: told.append((event, why)))
    _record(client, *_ids(5), user="somebody-in-particular")
    assert client.flush(FLUSH_S)
    assert sorted(gateway.taken) == ["gen-0", "gen-2", "gen-4"]
    assert [event["id"] for event, _ in told] == ["gen-1", "gen-3"]
    assert {(why.field, why.error) for _, why in told} == {("cost", "must be less")}
    assert client.state().rejected == 2
    assert "rejected" in caplog.text
    assert "somebody" not in caplog.text


def test_a_callback_that_fails_stops_nothing(gateway, make_client):
    """The program's own mistake loses no event of others."""

    def fail(event, why):
        raise RuntimeError("mine")

    gateway.always = lambda events: gateway.take(events, lambda event: event["id"] == "gen-0")
    client = make_client(on_rejected=fail)
    _record(client, "gen-0", "gen-1")
    assert client.flush(FLUSH_S)
    assert list(gateway.taken) == ["gen-1"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_batch_refused_as_a_whole_is_halved(gateway, make_client, status):
    """One event to blame is found and told; all others are taken, in order."""
    told = []

    def whole(events):
        return error(status) if any(event["id"] == "gen-37" for event in events) else "take"

    gateway.always = whole
    client = make_client(linger_s=0.2, on_rejected=lambda event, why: told.append((event["id"], why.status)))
    ids = _ids(100)
    _record(client, *ids)
    assert client.flush(FLUSH_S)
    assert told == [("gen-37", status)]
    assert gateway.order == [id for id in ids if id != "gen-37"]


def test_a_body_too_large_for_a_proxy_goes_in_halves(gateway, make_client):
    """413 says nothing of the events: all are taken."""
    gateway.always = lambda events: error(413) if len(events) > 10 else "take"
    client = make_client(linger_s=0.2)
    _record(client, *_ids(100))
    assert client.flush(FLUSH_S)
    assert len(gateway.taken) == 100
    assert client.state().rejected == 0


def test_an_event_that_makes_the_gateway_fail_blocks_nobody(gateway, make_client):
    """The others pass it by; once they were taken it is tried once more, and told."""
    told = []
    gateway.always = lambda events: error(500) if any(e["id"] == "gen-3" for e in events) else "take"
    client = make_client(linger_s=0.2, on_rejected=lambda event, why: told.append((event["id"], why.status)))
    _record(client, *_ids(8))
    assert client.flush(FLUSH_S)
    assert told == [("gen-3", 500)]
    assert len(gateway.taken) == 7


def test_a_gateway_that_fails_on_everything_loses_nothing(gateway, make_client):
    """Its failure is no fault of the events: they wait until it is mended."""
    gateway.always = lambda events: error(500)
    client = make_client(linger_s=0.1)
    _record(client, *_ids(3))
    wait_until(lambda: len(gateway.bodies) > 25, FLUSH_S, "tried often")
    gateway.always = None
    assert client.flush(FLUSH_S)
    assert len(gateway.taken) == 3
    assert client.state().rejected == 0


def test_the_room_in_memory_is_bounded(gateway, make_client):
    """A gateway that is away costs no more memory than was set; what was refused is said at once."""
    gateway.always = lambda events: error(503)
    client = make_client(queue_bytes_max=1000)
    with pytest.raises(QueueFull):
        _record(client, *_ids(100))
    kept = client.state().pending
    assert 0 < kept < 100
    gateway.always = None
    assert client.flush(FLUSH_S)
    assert len(gateway.taken) == kept
    _record(client, "gen-after")
    assert client.flush(FLUSH_S)


def test_threads_record_at_once(gateway, make_client):
    """Nothing is lost or doubled between threads."""
    client = make_client()
    threads = [
        threading.Thread(target=lambda n=n: _record(client, *(f"gen-{n}-{m}" for m in range(100))))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush(FLUSH_S)
    assert len(gateway.order) == len(gateway.taken) == 800


def test_trouble_is_said_once_and_its_end_too(gateway, make_client, caplog):
    """An outage is two lines of log, not one a try."""
    caplog.set_level(logging.WARNING, "genledger.client")
    gateway.next = [lambda events: error(503)] * 5
    client = make_client()
    _record(client, "gen-1")
    assert client.flush(FLUSH_S)
    assert len(gateway.bodies) == 6
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert client.state().trouble == ""
    _record(client, "gen-2")
    assert client.flush(FLUSH_S)
    assert len(caplog.records) == 2


def test_a_connection_that_was_closed_meanwhile_is_no_trouble(gateway, make_client, caplog):
    """A gateway hangs up on idle clients: the next event opens another connection, and nobody is alarmed."""
    gateway.hangs_up = True
    client = make_client()
    for n in range(3):
        _record(client, f"gen-{n}")
        assert client.flush(FLUSH_S)
    assert gateway.order == ["gen-0", "gen-1", "gen-2"]
    assert caplog.records == []


def test_closing_sends_what_waits_and_says_what_could_not_be(gateway, caplog):
    """A program that ends while the gateway is away is told how many events that costs it."""
    client = Client(gateway.url, linger_s=60)
    _record(client, "gen-1")
    assert client.close() == 0
    assert list(gateway.taken) == ["gen-1"]
    with pytest.raises(ClientClosed):
        _record(client, "gen-2")
    gateway.always = lambda events: error(503)
    client = Client(gateway.url, backoff_s_max=0.05)
    _record(client, "gen-3", "gen-4")
    assert client.state().pending == 2
    assert client.close(timeout_s=0.3) == 2
    assert "2 events unsent" in caplog.text


def test_a_gateway_that_comes_late_is_waited_for():
    """Nobody listens yet: what is recorded waits."""
    gateway = Gateway()
    gateway.server_close()
    client = Client(gateway.url, backoff_s_max=0.05, linger_s=0)
    _record(client, "gen-1")
    wait_until(lambda: client.state().trouble != "", FLUSH_S, "in trouble")
    assert not client.flush(0.1)
    assert client.close(0.1) == 1
