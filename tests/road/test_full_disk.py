"""A full disk under the ledger's own file."""

import errno
import time
from pathlib import Path

import pytest

from tests.faults.shim import Shim
from tests.road.harness import running, wait_until
from tests.road.test_faults import event, post, totals


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """Makes system calls on chosen files fail."""
    return Shim.build(tmp_path_factory.mktemp("shim"))


def test_a_full_disk_under_the_ledger_delays_only_it(tmp_path: Path, shim: Shim) -> None:
    """Events are still taken, health says why it is red, and the ledger goes on when there is room."""
    with running(tmp_path / "data", **shim.environment()) as service:
        assert post(service, event(1))[0] == 202
        shim.fail("write", errno.ENOSPC, "/log/ledger.db")
        assert post(service, event(2))[0] == 202
        wait_until(lambda: bool(shim.faults()), 10, "the disk is full", service)
        time.sleep(1)
        assert service.alive, service.tail()
        assert service.get_status("/readyz") == 503
        shim.heal()
        assert totals(service) == [(2, "0.02")]
