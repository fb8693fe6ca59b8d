"""Settings as they are followed from their topics."""

from streams.directory import Directory, message_of
from streams.log.interface import Record
from streams.organizations import Change, Organization, value_at


def test_a_change_counts_from_the_log_time_of_its_record() -> None:
    """An event logged between the change's making and its logging is decided without it, always."""
    directory = Directory(log=None)  # type: ignore[arg-type]
    first = Change(effective_ns=0, logged_ms=5, markup="1.2")
    made = Change(effective_ns=0, logged_ms=100, markup="1.3")
    message = message_of(Organization(id="acme", created_ms=0, history=(first, made)))
    directory.apply(Record(message.topic, 0, 0, 103, message.key, message.value))
    acme = directory.organization("acme")
    assert acme is not None
    assert [change.logged_ms for change in acme.history] == [5, 103]
    assert value_at(acme, "markup", time_ns=1, known_ms=103) == "1.2"
    assert value_at(acme, "markup", time_ns=1, known_ms=104) == "1.3"
