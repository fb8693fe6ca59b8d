"""`genledger cleanup`: forget old ids now, and what the last runs have forgotten."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter

from genledger.client import NOT_FOUND, TIMEOUT_S, UNAVAILABLE, Client, Refused, segment
from genledger.options import DryRun, Json, Service, WrongUse
from genledger.output import print_json, print_rows, say, visible
from streams import clock
from streams.errors import GenledgerError

app = App(
    name="cleanup",
    help="""Forget ids that are older than CLEANUP_RETENTION_DAYS. Totals and facts stay.

The running service does it by itself each night, at GENLEDGER_CLEANUP_AT;
this does it now. Exit code 1 when the run fails. Ctrl-C ends the waiting, not
the run.

CAUTION: a run raises the horizon, and nothing lowers it again. What is dated
before it and comes for the first time is not counted, for it may be the twin
of a call that was forgotten. With fewer --days that is so of younger calls,
too, for good: --dry-run says of which.
""",
    help_prologue="""Examples:
  genledger cleanup --dry-run
  genledger cleanup
  genledger cleanup --days 60 --json
  genledger cleanup log --last 7
""",
)

ROUTE = "/api/v1/admin/cleanup"
LOOK_EVERY_S = 0.5
TELL_EVERY_S = 2.0
# A dry run walks all that is known.
COUNT_TIMEOUT_S = 1800.0
# A run has ended, and the views take its facts: as long as they move that is moments.
AUDIT_WITHIN_S = 120.0

FIGURES = (
    *("cutoff_date", "days_retained", "records_before", "records_deleted", "records_remaining"),
    *("old_tokens_removed", "old_cost_removed", "storage_saved_kb", "cleanup_duration_seconds"),
)
PART = ("organization", "records_deleted", "old_tokens_removed", "old_cost_removed", "oldest_date")
LOG = (
    *("cleanup_date", "run", "state", "cutoff_date", "days_retained", "records_deleted"),
    *("records_remaining", "storage_saved_kb", "cleanup_duration_seconds"),
)


class Failed(GenledgerError):
    """A run has ended badly, or nobody can say how it ended."""


@app.default
def cleanup(
    *,
    days: Annotated[
        int | None,
        Parameter(help="Keep ids for so many days, at least 7; CLEANUP_RETENTION_DAYS unless given."),
    ] = None,
    dry_run: DryRun = False,
    no_wait: Annotated[
        bool, Parameter(negative="", show_default=False, help="Begin the run, and don't wait for its end.")
    ] = False,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Forget old ids now."""
    asked = {"days": days, "dry_run": dry_run}
    with service.client(timeout_s=COUNT_TIMEOUT_S if dry_run else TIMEOUT_S) as client:
        answer = client.post(ROUTE, asked)
        if dry_run:
            return _tell_planned(answer, json=json)
        if no_wait:
            return _tell_begun(answer, json=json)
        run = waited_for(client, answer["run"])
    if json:
        print_json(run)
    else:
        print_rows([{"figure": name, "value": run[name]} for name in FIGURES], ["figure", "value"], "table")
        print_parts(run["organization_breakdown"], PART)
    if run["state"] != "ended":
        say(f"{run['run']} failed: {visible(run['error_message'])}")
    return 0 if run["state"] == "ended" else 1


@app.command(
    name="log",
    help_prologue="""Examples:
  genledger cleanup log
  genledger cleanup log --last 7 --json
""",
)
def log(
    *,
    last: Annotated[int, Parameter(help="At most so many, the newest first.")] = 10,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Show what the last runs have forgotten. Exit code 1 when the newest has failed."""
    if last < 1:
        raise WrongUse("--last must be at least 1")
    with service.client() as client:
        rows = client.get(f"{ROUTE}/runs", limit=last)["rows"]
    if json:
        print_json(rows)
    else:
        print_rows(rows, LOG, "table")
    if not rows:
        say("there was no run yet: the first is begun at the next GENLEDGER_CLEANUP_AT")
    for row in rows:
        if row["error_message"]:
            say(f"{row['run']}: {visible(row['error_message'])}")
    return 1 if rows and rows[0]["state"] == "failed" else 0


def waited_for(client: Client, run: str) -> dict[str, Any]:
    """What a run has done, once it has ended; how far it is meanwhile, on stderr."""
    told_s, is_known, ended_s = clock.monotonic_s(), False, None
    while True:
        found = _audited(client, run)
        if found is not None and found["state"] != "running":
            return found
        stands, now_s = _stands(client), clock.monotonic_s()
        if stands is not None:
            is_mine = stands["run"] == run
            is_known = is_known or is_mine
            if is_known and not (is_mine and stands["running"]):
                ended_s = now_s if ended_s is None else ended_s
            if now_s - told_s >= TELL_EVERY_S:
                told_s = now_s
                say(told_of(stands))
        if ended_s is not None and now_s - ended_s > AUDIT_WITHIN_S:
            raise Failed(f"{run} has ended, and the views don't tell yet how: see `genledger cleanup log`")
        time.sleep(LOOK_EVERY_S)


def told_of(stands: dict[str, Any]) -> str:
    """How far the run is, in a line."""
    parts = stands["partitions"]
    ended = sum(part["run"] == stands["run"] and part["phase"] != "started" for part in parts)
    return (
        f"{stands['scanned']:,} ids looked at, {stands['published']:,} forgotten;"
        f" {ended} of {len(parts)} partitions done"
    )


def _audited(client: Client, run: str) -> dict[str, Any] | None:
    """What the audit says of a run; None while it knows nothing of it, or nobody answers for it."""
    try:
        found: dict[str, Any] = client.get(f"{ROUTE}/runs/{segment(run)}")
    except Refused as error:
        if error.status not in (NOT_FOUND, UNAVAILABLE):
            raise
        return None
    return found


def _stands(client: Client) -> dict[str, Any] | None:
    """How far the newest run is; None while a ledger is away: the run goes on when it is back."""
    try:
        found: dict[str, Any] = client.get(f"{ROUTE}/stands")
    except Refused as error:
        if error.status != UNAVAILABLE:
            raise
        return None
    return found


def _tell_begun(begun: dict[str, Any], *, json: bool) -> int:
    if json:
        print_json(begun)
    else:
        print(begun["run"])
        say(f"begun: ids whose latest date is before {begun['cutoff_date']} are forgotten")
    return 0


def _tell_planned(planned: dict[str, Any], *, json: bool) -> int:
    if json:
        print_json(planned)
        return 0
    print_parts(planned["organization_breakdown"], ["organization", "ids", "total_tokens", "raw_cost"])
    print(
        f"{planned['would_go']['ids']} ids would be forgotten: those whose latest date is before"
        f" {planned['cutoff_date']}. Their totals stay."
    )
    print(_horizon_of(planned))
    return 0


def _horizon_of(planned: dict[str, Any]) -> str:
    """What a run would do to the horizon, in a line."""
    now, then = planned["horizon_date_now"], planned["horizon_date"]
    if now is not None and now >= then:
        return (
            f"The horizon stays at {now}: what is dated before it and comes for the first time won't count."
        )
    was = "there is none yet" if now is None else f"now it is {now}"
    return (
        f"The horizon would rise to {then}, for good ({was}): what is dated before it and comes for the first"
        " time is not counted from then on."
    )


def print_parts(parts: dict[str, dict[str, Any]], columns: Sequence[str]) -> None:
    """The organisations' parts of a run."""
    rows = [{"organization": name, **part} for name, part in parts.items()]
    if rows:
        print()
        print_rows(rows, columns, "table")
