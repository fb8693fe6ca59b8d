"""`genledger prove`: are the live views what the log says?"""

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from genledger.options import Data, Json, load
from genledger.output import print_json, say, visible
from genledger.progress import Progress
from projections.rebuild.plan import Part, parts_of
from projections.rebuild.proof import Finding, Proof
from streams import money, times, topics
from streams.snapshots import Manifest

app = App(
    name="prove",
    help_prologue="""Examples:
  genledger prove
  genledger prove --projection summaries --json
""",
)

DIFFERENT = 3


@app.default
def prove(
    *,
    projection: Annotated[
        Part | None,
        Parameter(
            help="Only this part: summaries (and organisations), processed, conflicts, cleanup, points."
        ),
    ] = None,
    data: Data = None,
    json: Json = False,
) -> int:
    """Rebuild the views aside and compare them with the live ones. Exit code 3 if anything differs.

    The service may run, and traffic go on: both are compared at the same
    positions. Each fact's own markup is reckoned again too. What differs is
    shown row by row, with the generations that explain it; `genledger explain`
    tells their history. The result of a whole proof is kept for `genledger status`.

    GENLEDGER_PROVE_AT has it done every night.
    """
    from genledger.roles.proofs import keep_result, workplace
    from genledger.roles.views import path_of
    from projections.rebuild import proof

    settings = load(data=data)
    parts = parts_of(settings) if projection is None else (projection,)
    live = path_of(settings)
    with Progress("rebuilding", "records") as progress:
        found = proof.prove(
            settings, parts, workplace(live), live, lambda what, p: progress.moved(p.done, p.total, what)
        )
    if projection is None:  # a part that holds says nothing of the rest
        keep_result(live, found)
    if json:
        print_json(_whole(found))
    _tell(found, shown=not json)
    return 0 if found.holds else DIFFERENT


def _whole(found: Proof) -> dict[str, Any]:
    whole: dict[str, Any] = msgspec.to_builtins(found)
    return whole | {"holds": found.holds, "differences": found.differences}


def _tell(found: Proof, *, shown: bool) -> None:
    if shown:
        for finding in found.findings:
            print(text_of(finding))
        for wrong in found.contradictions:
            print(f"fact of {visible(wrong.id)}: {wrong.text}")
        for text in found.strays:
            print(text)
        if found.holds:
            print(found.live_digest)
    if found.rests_on is not None:
        say(resting_on(found.rests_on))
    count = f"{found.records:,} records read in {found.seconds:.1f} s"
    if found.holds:
        say(f"The views are what the log says, to the last nano-dollar: {count}.")
        return
    more = found.differences - len(found.findings) - len(found.contradictions) - len(found.strays)
    say(
        f"{found.differences:,} differences{f', {more:,} of them not shown' if more else ''}: {count}."
        " `genledger replay` puts right what is in the views; what is in the log stays."
    )


def resting_on(snapshot: Manifest) -> str:
    """What was not proven from facts, for they have gone."""
    until, made, checked = (
        times.text_of(ms * times.MS_NS)
        for ms in (snapshot.until_ms, snapshot.made_ms, snapshot.checked_ms or snapshot.made_ms)
    )
    usage = [one for one in snapshot.vector if one.topic == topics.USAGE]
    stands = ", ".join(f"{one.partition}@{one.offset}" for one in usage)
    return (
        f"What {snapshot.facts:,} facts from before {until} came to rests on snapshot {snapshot.number}, for"
        f" they have gone: {snapshot.rows:,} rows, digest {snapshot.digest}, {topics.USAGE} up to {stands}."
        f" It was made {made}, and checked {checked} by a rebuild before any fact was deleted. All that came"
        " after it is proven from facts."
    )


def text_of(finding: Finding) -> str:
    """A row that differs, column by column, and who explains it."""
    row, blamed = finding.row, finding.blamed
    key = " ".join(visible(value) for value in row.key.values())
    lines = [f"{row.table} {key}: {_state(finding)}"]
    if row.live is not None and row.rebuilt is not None:
        lines += [
            f"  {name}: {_figure(name, row.live[name])} must be {_figure(name, row.rebuilt[name])}"
            for name in row.columns
            if f"{name}_nano" not in row.rebuilt  # the REAL column says the same, less exactly
        ]
    if blamed.exact:
        lines.append(f"  explained by {_ids(blamed.exact)}")
    elif blamed.ids:
        more = blamed.generations - len(blamed.ids)
        lines.append(f"  made by {_ids(blamed.ids)}{f' and {more:,} more' if more else ''}")
    return "\n".join(lines)


def _state(finding: Finding) -> str:
    if finding.row.live is None:
        return "is missing"
    return "must not be there" if finding.row.rebuilt is None else "differs"


def _ids(ids: Any) -> str:
    return ", ".join(visible(id) for id in ids)


def _figure(name: str, value: Any) -> str:
    if name.endswith("_nano") and isinstance(value, int):
        return money.text_of(value)
    return visible(value)
