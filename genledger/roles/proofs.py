"""The nightly comparisons: the views with the log (`prove`), and with InfluxDB (`reconcile`).

    start_proofs(settings, watch, stack)

At the times of GENLEDGER_PROVE_AT and GENLEDGER_RECONCILE_AT, by `nightly.py`; a run made by hand counts as
well. What the last ones found is in files beside the views.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from genledger.roles import nightly
from genledger.roles.nightly import Nightly, Work
from genledger.watch import Watch
from projections.rebuild.proof import Proof
from projections.reconciling.report import Report
from streams import metrics
from streams.settings import Settings

RESULT = "prove-last.json"
RECONCILED = "reconcile-last.json"
#: Where `reconcile` rebuilds what it compares.
RECONCILE_ASIDE = "reconcile.db"


class Result(nightly.Result, frozen=True, kw_only=True):
    """What is remembered of the last proof."""

    records: int
    digest: str


class Reconciled(nightly.Result, frozen=True, kw_only=True):
    """What is remembered of the last comparison with InfluxDB, or without one with the log only."""

    days: Sequence[str]
    counts: Mapping[str, int]
    compared: int
    influxdb: bool


def workplace(live: Path) -> Path:
    """Where views are rebuilt to be compared."""
    return live.with_name("prove.db")


def keep_result(live: Path, proof: Proof) -> None:
    """Write a proof's result beside the views, at once."""
    result = Result(
        time_ms=proof.time_ms,
        holds=proof.holds,
        differences=proof.differences,
        records=proof.records,
        seconds=proof.seconds,
        digest=proof.live_digest,
    )
    nightly.keep_result(live, RESULT, result)


def keep_reconciled(live: Path, report: Report) -> None:
    """The same of a comparison with InfluxDB."""
    result = Reconciled(
        time_ms=report.time_ms,
        holds=report.clean,
        differences=report.differences,
        seconds=report.seconds,
        days=report.days,
        counts=report.counts,
        compared=report.compared,
        influxdb=report.influxdb,
    )
    nightly.keep_result(live, RECONCILED, result)


def last_result(live: Path) -> Result | None:
    """The last proof's result; None when there was none."""
    return nightly.last_result(live, RESULT, Result)


def start_proofs(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """Begin both, and end with the stack."""
    proof = Work(
        *("the proof", ("prove",), settings.prove_at, RESULT, Result),
        *(metrics.PROVE_LAST_TIMESTAMP, metrics.PROVE_DIFFERENCES),
    )
    proofs = Nightly(proof, settings)
    watch.proof = proofs.told
    proofs.start(watch, stack)
    comparison = Work(
        *("the comparison", ("reconcile",), settings.reconcile_at, RECONCILED, Reconciled),
        *(metrics.RECONCILE_LAST_TIMESTAMP, metrics.RECONCILE_DIFFERENCES),
    )
    comparisons = Nightly(comparison, settings)
    watch.reconciliation = comparisons.told
    comparisons.start(watch, stack)
