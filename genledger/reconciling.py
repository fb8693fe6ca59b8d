"""`genledger reconcile`: the comparison, what --fix does about it, and how it is told.

found, mended = Reconciliation(settings, Scope(("2026-11-20",)), told).fixed()
tell(found, mended, json=False)
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from genledger.commands.prove import text_of
from genledger.commands.replay import swapped
from genledger.output import print_json, print_rows, say, visible
from genledger.roles.proofs import RECONCILE_ASIDE
from genledger.roles.views import path_of
from projections.rebuild import proof
from projections.rebuild.plan import Plan
from projections.reconciling.desk import Scope
from projections.reconciling.mend import Mended, mend
from projections.reconciling.report import Report, Share, Shared
from projections.reconciling.residue import LAG, LOG
from projections.reconciling.run import Files, Told, compared
from streams.settings import Settings

# Traffic may change under what is being mended: then once more.
ROUNDS_MAX = 3
COLUMNS = ("organization", "day", "model", "sqlite", "influxdb", "log", "because")
IDS_TOLD_MAX = 3


class Reconciliation:
    """One comparison, or as many as --fix needs."""

    def __init__(self, settings: Settings, scope: Scope, told: Told) -> None:
        self._settings = settings
        self._scope = scope
        self._told = told

    def once(self) -> tuple[Report, Mended | None]:
        """Compare."""
        return asyncio.run(self._compare(fix=False))

    def fixed(self) -> tuple[Report, Mended | None]:
        """Compare, put right what can be, and compare again; what is left then, and what was done in all."""
        done = Mended(0, 0, 0, 0)
        for _ in range(ROUNDS_MAX):
            found, mended = asyncio.run(self._compare(fix=True))
            if found.findings:
                swapped(Plan(settings=self._settings, parts=("summaries",)))
            done = _sum(done, mended or done)
            if not found.findings and not _any(mended):
                return found, done
        found, _ = self.once()
        return found, done

    async def _compare(self, *, fix: bool) -> tuple[Report, Mended | None]:
        live = path_of(self._settings)
        files = Files(live.with_name(RECONCILE_ASIDE), live)
        async with compared(self._settings, self._scope, files, self._told) as (found, desk):
            return found, await mend(self._settings, desk) if fix else None


def _any(mended: Mended | None) -> bool:
    return mended is not None and any((mended.written, mended.removed, mended.swept))


def _sum(one: Mended, other: Mended) -> Mended:
    both = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return Mended(*(a + b for a, b in both))


def tell(found: Report, mended: Mended | None, *, json: bool) -> None:
    """To people or to scripts; the last words go to stderr."""
    if json:
        whole: dict[str, Any] = msgspec.to_builtins(found)
        more = {"clean": found.clean, "differences": found.differences}
        print_json(whole | more | {"mended": msgspec.to_builtins(mended)})
    else:
        _show(found)
    for line in _words(found, mended):
        say(line)


def _show(found: Report) -> None:
    rows = [_row(cell) for cell in found.cells]
    if rows:
        print_rows(rows, COLUMNS, "table")
    for finding in found.findings:
        print(text_of(proof.Finding(finding.row, finding.blamed)))


def _words(found: Report, mended: Mended | None) -> Sequence[str]:
    lines = []
    if mended is not None:
        lines.append(
            f"fixed from the log: {mended.written} points written, {mended.removed} taken away,"
            f" {mended.swept} voids removed, {mended.refused} refused by InfluxDB"
        )
    if not found.influxdb:
        lines.append("legacy mode: raw points are not in InfluxDB, so SQLite was compared with the log only")
    if LAG in found.counts or found.lag_records:
        ids = found.counts.get(LAG, 0)
        lines.append(f"lag: InfluxDB had {found.lag_records} records to take; {ids} points are on their way")
    days = found.days[0] if len(found.days) == 1 else f"{found.days[0]} to {found.days[-1]}"
    causes = ", ".join(f"{n} {cause}" for cause, n in found.counts.items() if cause != LAG)
    said = f"{found.differences:,} differences ({causes})" if found.differences else "no difference"
    more = f"; {found.more_cells:,} lines not shown" if found.more_cells else ""
    lines.append(f"{days}: {said} in {found.compared:,} days of models, {found.seconds:.1f} s{more}")
    if any(share.store == LOG for cell in found.cells for share in cell.causes):
        lines.append("what the log itself has marked up wrongly can't be put right from it: amend those ids")
    return lines


def _row(cell: Shared) -> dict[str, Any]:
    """A line: the cost on each side, and the causes in words."""
    model = cell.model or {"day": "(the day)", "user": "(a user)"}.get(cell.margin, "")
    sides = {"sqlite": cell.sqlite, "influxdb": cell.influxdb, "log": cell.log}
    costs = {name: None if side is None else side["cost"] for name, side in sides.items()}
    because = "; ".join(_cause(share) for share in cell.causes)
    return {"organization": cell.organization, "day": cell.day, "model": model, **costs, "because": because}


def _cause(share: Share) -> str:
    off = share.off
    named = {"requests": off["requests"], "cost": off["cost"], "markup": off["markup"]}
    figures = ", ".join(f"{value} {name}" for name, value in named.items() if value not in (0, "0"))
    texts = [*share.details, *(id for id in share.ids if not any(t.startswith(id) for t in share.details))]
    shown = [visible(text) for text in texts[:IDS_TOLD_MAX]]
    more = share.count - len(shown)
    told = [*shown, *([f"{more} more"] if shown and more > 0 else []), *([figures] if figures else [])]
    return f"{share.cause} in {share.store}: {'; '.join(told)}" if told else share.cause
