"""What the sync is told of an id that is held: one that its word would make count is lacking."""

from typing import Any

import pytest

from genledger.roles.ledger import LedgerPart
from genledger.watch import Watch
from streams import clock, times
from streams.generation import Generation
from streams.known import Anything, Held, Known, Terms
from streams.organizations import Change, Organization
from streams.settings import Settings
from streams.sync.intake import event_of, verdict
from tests.sync.house import NOW_MS


class Directory:
    """One organisation, and whom it believes."""

    truths = True

    def __init__(self, truth: str) -> None:
        change = Change(effective_ns=0, logged_ms=0, truth=truth)
        self._acme = Organization(id="acme", created_ms=0, history=(change,))

    def organization(self, id: str) -> Organization | None:
        return self._acme if id == "acme" else None


@pytest.mark.parametrize(
    ("truth", "is_lacking"),
    [("a/=litellm", False), ("a/=litellm|sync", True), ("b/=litellm", True), ("", True)],
)
async def test_a_held_call_counts_when_the_sync_is_believed(
    truth: str, is_lacking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held while only others were believed: when the organisation has changed its mind it counts."""
    told = b'{"id":"gen-1","model":"a/m","total_cost":0.5,"created_at":"2026-11-20T10:00:00Z"}'
    raw: Any = told
    event: Generation = event_of(raw, "acme")
    held: Anything = Held(Known(event, Terms("1", "UTC", "2026-11-20", ""), None, event.created_ns or 0))
    log: Any = None
    directory: Any = Directory(truth)
    part = LedgerPart(log, Settings(), directory, Watch(60.0))
    monkeypatch.setattr(part, "_anything", lambda _: held)
    monkeypatch.setattr(clock, "now_ms", lambda: NOW_MS + times.DAY_NS // times.MS_NS)
    winners = await part.winners(["gen-1"])
    assert verdict(event, winners.get("gen-1")) == ("synced" if is_lacking else "duplicate")
