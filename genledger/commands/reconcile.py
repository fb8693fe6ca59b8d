"""`genledger reconcile`: our days beside InfluxDB and the log, or beside the provider's account of them."""

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from genledger.options import Json, Service, WrongUse
from genledger.output import print_json, say, visible
from genledger.progress import Progress
from genledger.provider_account import compare_with_provider
from streams import clock, times
from streams.settings import Settings

app = App(
    name="reconcile",
    help_prologue="""Examples:
  genledger reconcile
  genledger reconcile --from 2026-11-01 --to 2026-11-20 --org acme --json
  genledger reconcile --day 2026-11-20 --fix
  genledger reconcile --rebuild-from influx --day 2026-11-20 --into day.db
  genledger reconcile --provider --day 2026-11-20
""",
)

DIFFERENT = 3
#: More days at once are another month's work.
DAYS_MAX = 366


@app.default
def reconcile(
    *,
    provider: Annotated[
        bool, Parameter(negative="", show_default=False, help="Compare with the provider's own account.")
    ] = False,
    org: Annotated[str | None, Parameter(help="Only this organisation.")] = None,
    day: Annotated[
        str | None,
        Parameter(help="One day; with --provider a UTC day, one of the last 30, yesterday unless given."),
    ] = None,
    first: Annotated[str | None, Parameter(name="--from", help="The first of several days.")] = None,
    last: Annotated[str | None, Parameter(name="--to", help="The last of them; today unless given.")] = None,
    fix: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Put right what differs, from the log alone."),
    ] = False,
    rebuild_from: Annotated[
        Literal["influx", "log"] | None,
        Parameter(help="Only make the day's summaries, from InfluxDB or from the log, and say their digest."),
    ] = None,
    into: Annotated[Path | None, Parameter(help="The new file they go into.")] = None,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Compare the summaries with the points in InfluxDB and with the log. Exit code 3 if anything differs.

    Each organisation's days (today and the GENLEDGER_RECONCILE_DAYS before it,
    unless given) are compared model by model; every row and every point is
    looked at, and each markup reckoned again at the rate of its time. The
    service may run, and traffic go on. What differs has a cause, and the causes
    add up to it: missing_point, extra_point, changed_point, wrong_markup,
    collision, refused, opening, changed_row; what is still on its way is lag,
    and no difference. Without an InfluxDB (legacy mode) only SQLite is compared.

    --fix writes points again as the log has them, removes what is nobody's, and
    rebuilds the summaries if one of their rows differs; then it compares again.
    What the log itself has wrong, and two calls at one place, it can only name.

    --rebuild-from influx makes the day's summaries from InfluxDB alone, in a
    file of their own; --rebuild-from log makes the same from the log. Their
    digests are equal when all is well.

    --provider compares with OpenRouter's /activity instead, which needs a
    management key (`genledger orgs set ID --management-key env:NAME`) and tells
    of the last 30 completed days, in UTC. There the causes are missing_here,
    missing_there, unpriced, amended_later, day_boundary, unexplained; --fix
    reads back what can be had, by id or list, and the ledger decides.

    GENLEDGER_RECONCILE_AT has it done every night.
    """
    if provider:
        _refuse(provider, first=first, last=last, rebuild_from=rebuild_from, into=into)
        return compare_with_provider(service, org, day, fix=fix, json=json)
    settings = service.settings()
    days = days_of(settings, day, first, last)
    if rebuild_from is not None:
        return _rebuild(settings, rebuild_from, days, org or "", into, json=json)
    if into is not None:
        raise WrongUse("--into goes with --rebuild-from")
    whole = org is None and day is None and first is None and last is None
    return _compare(settings, days, org or "", fix=fix, json=json, whole=whole)


def _refuse(given: bool, **others: object) -> None:
    """What has no meaning beside --provider."""
    wrong = [f"--{name.replace('_', '-')}" for name, value in others.items() if given and value is not None]
    if wrong:
        named = {"--first": "--from", "--last": "--to"}
        raise WrongUse(f"{', '.join(named.get(one, one) for one in wrong)}: not together with --provider")


def days_of(settings: Settings, day: str | None, first: str | None, last: str | None) -> tuple[str, ...]:
    """The days that are meant, in order."""
    if day is not None:
        if first is not None or last is not None:
            raise WrongUse("give --day, or --from and --to")
        return (_date("--day", day),)
    # Somewhere it is tomorrow already.
    now_ms = clock.now_ms()
    if first is None and last is not None:
        raise WrongUse("--to needs --from")
    begin = times.utc_day(now_ms, settings.reconcile_days) if first is None else _date("--from", first)
    end = times.utc_day(now_ms, -1 if first is None else 0) if last is None else _date("--to", last)
    count = (date.fromisoformat(end) - date.fromisoformat(begin)).days + 1
    if not 1 <= count <= DAYS_MAX:
        raise WrongUse(f"--from and --to: 1 to {DAYS_MAX} days, not {count}")
    return tuple((date.fromisoformat(begin) + timedelta(n)).isoformat() for n in range(count))


def _date(option: str, text: str) -> str:
    try:
        return times.date_text(text)
    except ValueError as error:
        raise WrongUse(f"{option} {error}") from None


def _compare(settings: Settings, days: Sequence[str], org: str, *, fix: bool, json: bool, whole: bool) -> int:
    from genledger.reconciling import Reconciliation, tell
    from genledger.roles.proofs import keep_reconciled
    from genledger.roles.views import path_of
    from projections.reconciling.desk import Scope

    with Progress("rebuilding", "records") as progress:
        work = Reconciliation(
            settings, Scope(tuple(days), org), lambda what, p: progress.moved(p.done, p.total, what)
        )
        found, mended = work.fixed() if fix else work.once()
    if whole:  # some days that hold say nothing of the rest
        keep_reconciled(path_of(settings), found)
    tell(found, mended, json=json)
    return 0 if found.clean else DIFFERENT


def _rebuild(
    settings: Settings, source: str, days: Sequence[str], org: str, into: Path | None, *, json: bool
) -> int:
    from projections.reconciling import daybook
    from projections.reconciling.desk import Scope
    from projections.stores.influxdb.target import target_of

    if into is None:
        raise WrongUse("--rebuild-from needs --into: a new file")
    if into.exists() or not into.absolute().parent.is_dir():
        raise WrongUse(f"--into {visible(into)}: it must be a new file, in a folder that is there")
    scope = Scope(tuple(days), org)
    target = target_of(settings)
    with Progress("rebuilding", "records") as progress:
        if source == "log":
            digest = daybook.from_log(settings, scope, into, lambda p: progress.moved(p.done, p.total))
        elif target is None:
            raise WrongUse("--rebuild-from influx: raw points don't go to InfluxDB (legacy mode)")
        else:
            digest = asyncio.run(daybook.from_influx(settings, target, scope, into))
    told: dict[str, Any] = {"file": str(into), "from": source, "days": list(days), "digest": digest}
    if json:
        print_json(told)
    else:
        print(digest)
        say(f"{_range(days)} from {'InfluxDB' if source == 'influx' else 'the log'}: {visible(into)}")
    return 0


def _range(days: Sequence[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
