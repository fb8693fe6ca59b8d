"""`genledger restore`: a backup back into a data folder, while no service runs there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from genledger.options import Data, DryRun, WrongUse, holder_of, load
from genledger.output import print_rows, say, visible
from streams.errors import LogBusy

if TYPE_CHECKING:
    from genledger.restoration import Plan

app = App(
    name="restore",
    help_prologue="""Examples:
  genledger restore ledger.tar.gz --data fresh
  genledger restore ledger.tar.gz --dry-run
  genledger restore ledger.tar.gz --replace
  genledger restore ledger.tar.gz --views-only --replace
""",
)


@app.default
def restore(
    file: Path,
    /,
    *,
    replace: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Move what is there to before-restore-<time> in the data folder.",
        ),
    ] = False,
    views_only: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Only the views: they catch up with the log that is there."
        ),
    ] = False,
    log_only: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Only the log: views that know more of it refuse to start."
        ),
    ] = False,
    dry_run: DryRun = False,
    data: Data = None,
) -> int:
    """Put a backup back into the data folder, while no service runs there.

    Everything is checked before anything is touched. What is newer than the
    backup is not in it: have the producers send it again, ids count once.
    Killed midway, the service does not start before this has been run again.

    Parameters
    ----------
    file
        What `genledger backup` wrote.
    """
    from genledger import restoration

    if views_only and log_only:
        raise WrongUse("--views-only and --log-only exclude each other: leave both out for everything")
    if not file.is_file():
        raise WrongUse(f"{visible(file)} is not a file")
    settings = load(data=data)
    plan = restoration.plan_of(settings, file, "views" if views_only else "log" if log_only else "")
    if dry_run:
        holder = holder_of(settings)
        if holder:
            raise LogBusy(f"process {holder} has the log in {plan.data} open: stop the service first")
        _show(plan, replace=replace)
        return 0
    aside = restoration.restore(plan, replace=replace)
    say(f"{visible(plan.data)} has {', '.join(plan.members())} as of {plan.manifest.time}: start the service")
    if aside is not None:
        say(f"what was there is in {visible(aside)}: delete it when you need it no more")
    return 0


def _show(plan: "Plan", *, replace: bool) -> None:
    from genledger import restoration

    wanted = plan.members()
    rows = [
        {"member": member.name, "bytes": member.size_bytes, "restored": member.name in wanted}
        for member in plan.manifest.members
    ]
    print_rows(rows, ["member", "bytes", "restored"], "table")
    say(f"made at {visible(plan.manifest.time)} by genledger {visible(plan.manifest.genledger)}")
    if not replace:
        restoration.require_free(plan)
    moved = ", ".join(path.name for path in plan.in_the_way())
    say(f"would move aside: {moved or 'nothing'}; would put back: {', '.join(wanted)}")
