"""Is it a snapshot to begin from? Read back from the log, rebuilt from there, compared with the live views.

    reason = check(settings, package, live)        # '' when facts may go

Its rows are read from the topic, not from where they were packed, and must have the digest that was taken
before. Then the views are rebuilt from them and the facts behind them, and must be the live ones, row by row.
"""

from pathlib import Path

import msgspec

from projections.rebuild import proof
from projections.rebuild.plan import parts_of
from projections.rebuild.proof import Told
from projections.snapshot.package import CHECKED, Package
from streams import clock
from streams.errors import LogDamaged, LogMismatch, ViewBusy, ViewError, ViewFull
from streams.settings import Settings

ASIDE = "snapshot-check.db"


def check(settings: Settings, package: Package, live: Path, told: Told = lambda *_: None) -> str:
    """'' and the package waits for its last step; or why not, and it is thrown away."""
    manifest = package.manifest
    try:
        found = proof.prove(settings, parts_of(settings), live.with_name(ASIDE), live, told, manifest)
    except (ViewBusy, ViewFull):
        raise  # it passes: the package waits
    except (LogDamaged, LogMismatch, ViewError) as error:
        package.remove()
        return str(error)
    if not found.holds:
        package.remove()
        return (
            f"rebuilt from snapshot {manifest.number} the views are not the live ones:"
            f" {found.differences:,} differences. See `genledger prove`"
        )
    package.note(msgspec.structs.replace(manifest, checked_ms=clock.now_ms()))
    package.step(CHECKED)
    return ""
