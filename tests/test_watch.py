"""The watchdog: what it takes for standing still, and what not."""

from genledger.watch import Part, Watch


def watched(position: int, end: int, **options: object) -> tuple[Watch, dict[str, int]]:
    """A watch over one part whose place a test moves."""
    at = {"position": position, "end": end}
    watch = Watch(stall_timeout_s=10)
    watch.parts["ledger"] = Part(
        lambda: {("generations", 0): (at["position"], at["end"])},
        lambda: None,
        **options,  # type: ignore[arg-type]
    )
    return watch, at


def test_lag_without_movement_is_an_end_with_a_message_that_says_what_to_do() -> None:
    """A partition with records waiting that has not moved for the time names itself, and the way out."""
    watch, _ = watched(5, 9)
    assert watch.look(0.0) == "" and watch.look(10.0) == ""
    reason = watch.look(10.1)
    assert "ledger stands still at generations/0@5 with 4 records" in reason and "Start it again" in reason


def test_what_moves_or_has_nothing_to_do_is_well() -> None:
    """Movement starts the time anew, and an idle part may be idle for ever."""
    watch, at = watched(5, 9)
    watch.look(0.0)
    at["position"] = 6
    assert watch.look(9.0) == "" and watch.look(18.0) == ""
    at["position"] = 9
    assert watch.look(1000.0) == ""
    at["end"] = 10
    assert watch.look(1001.0) == ""


def test_a_full_disk_is_no_standstill() -> None:
    """A view that waits for room says so by its state; it is not ended for it."""
    watch, _ = watched(5, 9, full=lambda: True)
    assert watch.look(0.0) == "" and watch.look(100.0) == ""
    assert watch.health().reasons == ("ledger: disk full",)


def test_who_is_kept_waiting_from_outside_is_not_stuck_and_has_all_its_time_afterwards() -> None:
    """While InfluxDB is away points wait as long as it takes; then they have the whole stall time."""
    state = {"held": ""}
    watch, _ = watched(5, 9, held=lambda: state["held"])
    assert watch.look(0.0) == ""
    state["held"] = "InfluxDB is away"
    assert watch.look(1.0) == "" and watch.look(1000.0) == ""
    assert watch.health().reasons == ("ledger: InfluxDB is away",)
    state["held"] = ""
    assert watch.look(1001.0) == "" and watch.look(1011.0) == ""
    assert "stands still" in watch.look(1011.1)


def test_what_nobody_waits_for_is_told_and_keeps_nobody_from_being_ready() -> None:
    """A part aside shows its state; the service is ready all the same."""
    watch, _ = watched(5, 9, held=lambda: "InfluxDB is away", aside=True)
    assert watch.health().ready
    assert watch.detail()["roles"] == {"ledger": "InfluxDB is away"}


def test_a_part_that_failed_is_named_with_its_error() -> None:
    """An unexpected exception ends the process with its kind and text."""
    watch, _ = watched(5, 5)
    watch.parts["ledger"].failure = lambda: ValueError("no")
    assert watch.look(0.0) == "ledger failed: ValueError: no"


def test_an_alarm_is_logged_once_and_shown_as_long_as_it_lasts(caplog) -> None:  # type: ignore[no-untyped-def]
    """An alarm is a line in the log when it begins, and stands in the status until it ends."""
    watch, _ = watched(5, 5)
    text = {"now": "grown"}
    watch.alarms["wal"] = lambda: text["now"]
    watch.look(0.0)
    watch.look(1.0)
    assert watch.detail()["alarms"] == {"wal": "grown"} and len(caplog.records) == 1
    text["now"] = ""
    watch.look(2.0)
    assert watch.detail()["alarms"] == {}
