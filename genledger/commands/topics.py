"""`genledger topics`: the topics on a Kafka cluster, their settings, and the rights that roles need there.

The table is in `streams/topics.py`; what the cluster has is asked of it. docs/topics.md gives the reasons.
"""

import asyncio
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from genledger.options import DryRun, Json, WrongUse, load
from genledger.output import print_json, print_rows, say
from streams import topics
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.log.kafka.administration import Difference, Plan

app = App(
    name="topics",
    help="The topics on a Kafka cluster: what is missing or differs, making it so, who needs which rights.",
    help_prologue="""Examples:
  genledger topics plan
  genledger topics apply
  genledger topics check
""",
)

DIFFERENT = 3
COLUMNS = ["topic", "do", "setting", "found", "wanted"]
GRANT_COLUMNS = ["role", "resource", "name", "pattern", "operations", "why"]
FLAGS = {"Topic": "--topic", "Group": "--group", "TransactionalId": "--transactional-id"}

Partitions = Annotated[
    int | None,
    Parameter(
        help="Of new topics. Unless given: GENLEDGER_PARTITIONS, or as those that are there, or"
        f" {topics.KAFKA_PARTITIONS}."
    ),
]
Replication = Annotated[
    int | None,
    Parameter(help=f"Of new topics. Unless given: {topics.REPLICATION}, or as many as there are brokers."),
]
Acls = Annotated[
    bool,
    Parameter(negative="", show_default=False, help="Print the rights that roles need. Asks no cluster."),
]
Principal = Annotated[
    str | None,
    Parameter(help="With --acls: print the commands that grant them to this one: User:genledger"),
]
Role = Annotated[
    topics.Role | None,
    Parameter(help="With --acls: this role only."),
]


@app.command(
    help_prologue="""Examples:
  genledger topics plan
  genledger topics plan --acls --principal User:genledger
  genledger topics plan --acls --principal User:webshop --role producer
"""
)
def plan(
    *,
    partitions: Partitions = None,
    replication: Replication = None,
    acls: Acls = False,
    principal: Principal = None,
    role: Role = None,
    json: Json = False,
) -> int:
    """Print what apply would make and change. Nothing is done.

    Faust makes no topics of its own here: there are none to make or to allow
    beside these.
    """
    settings = load()
    if acls:
        _print_grants(settings, principal, role, json=json)
        return 0
    if principal or role:
        raise WrongUse("--principal and --role go with --acls")
    _check_counts(partitions, replication)
    from streams.log.kafka import administration

    found = asyncio.run(administration.plan(settings, partitions=partitions, replication=replication))
    _print_plan(settings, found, json=json)
    return 0


@app.command(
    help_prologue="""Examples:
  genledger topics apply --dry-run
  genledger topics apply
  genledger topics apply --partitions 24 --replication 3
"""
)
def apply(
    *,
    partitions: Partitions = None,
    replication: Replication = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Make the topics that are missing, and change settings that differ. Safe to run again.

    It never deletes, never changes a number of partitions, and leaves settings
    that it does not know as they are. It prints what it did.
    """
    from streams.log.kafka import administration

    settings = load()
    _check_counts(partitions, replication)
    done = asyncio.run(
        administration.apply(settings, partitions=partitions, replication=replication, dry_run=dry_run)
    )
    _print_plan(settings, done, json=json)
    if dry_run:
        say("a dry run: nothing was done")
    return 0


@app.command(
    help_prologue="""Examples:
  genledger topics check
  genledger topics check --json
"""
)
def check(*, partitions: Partitions = None, replication: Replication = None, json: Json = False) -> int:
    """Compare the topics with what must be. Exit code 3 if one is missing or differs.

    What had only better be otherwise is printed as advice, and is no difference.
    """
    from streams.log.kafka import administration

    settings = load()
    _check_counts(partitions, replication)
    found = asyncio.run(administration.differences(settings, partitions=partitions, replication=replication))
    if json:
        print_json({"differences": found})
    elif found:
        rows = [_difference_row(each, "must" if each.must else "advice") for each in found]
        print_rows(rows, ["topic", "kind", *COLUMNS[2:]], "table")
    else:
        print("all well")
    return DIFFERENT if _tell(found) else 0


def _check_counts(partitions: int | None, replication: int | None) -> None:
    for name, value in (("--partitions", partitions), ("--replication", replication)):
        if value is not None and value < 1:
            raise WrongUse(f"{name} must be at least 1")


def _tell(found: Sequence["Difference"]) -> bool:
    """Say why each difference matters; whether any must not be."""
    for each in found:
        say(f"{each.topic}: {each.setting or each.found}: {each.why}")
    return any(each.must for each in found)


def _print_plan(settings: Settings, found: "Plan", *, json: bool) -> None:
    rows = [*_new_rows(settings, found), *(_difference_row(each, _doing(each)) for each in found.differences)]
    if json:
        internal = topics.FAUST_INTERNAL
        print_json({"plan": rows, "warnings": found.warnings, "faust_internal": internal})
    elif rows:
        print_rows(rows, COLUMNS, "table")
    else:
        print("all well: nothing to do")
    for warning in found.warnings:
        say(f"warning: {warning}")
    _tell([each for each in found.differences if not each.mendable])


def _new_rows(settings: Settings, found: "Plan") -> Iterator[dict[str, str]]:
    """A row for each thing about each topic that is to be made."""
    for spec in found.missing:
        name = settings.topic_prefix + spec.name
        rules = topics.rules_of(spec, found.replication)
        counts = [("partitions", str(spec.partitions)), ("replication", str(found.replication))]
        for setting, wanted in [*counts, *((rule.setting, rule.value) for rule in rules)]:
            yield {"topic": name, "do": "make", "setting": setting, "found": "", "wanted": wanted}


def _doing(each: "Difference") -> str:
    return "change" if each.mendable else "impossible" if each.must else "advice"


def _difference_row(each: "Difference", kind: str) -> dict[str, str]:
    told = {"setting": each.setting, "found": each.found, "wanted": each.wanted}
    return {"topic": each.topic, "do": kind, "kind": kind, **told}


def _print_grants(settings: Settings, principal: str | None, role: topics.Role | None, *, json: bool) -> None:
    grants = [grant for grant in topics.GRANTS if role in (None, grant.role)]
    rows = [
        {
            "role": grant.role,
            "resource": grant.resource,
            "name": settings.topic_prefix + grant.name,
            "pattern": "prefixed" if grant.prefixed else "literal",
            "operations": " ".join(grant.operations),
            "why": grant.why,
        }
        for grant in grants
    ]
    granted = [grant for grant in grants if role or grant.role in topics.SERVICE_ROLES]
    lines = list(_commands(settings, principal, granted)) if principal else []
    if json:
        print_json({"acls": rows, "commands": lines, "faust_internal": topics.FAUST_INTERNAL})
        return
    print_rows(rows, GRANT_COLUMNS, "table")
    if lines:
        print()
        print("\n".join(lines))


def _commands(settings: Settings, principal: str, grants: Sequence[topics.Grant]) -> Iterator[str]:
    """A command of Kafka's own for each resource, with all that the principal does there."""
    wanted: dict[tuple[str, str, bool], set[str]] = {}
    for grant in grants:
        wanted.setdefault((grant.resource, grant.name, grant.prefixed), set()).update(grant.operations)
    for (resource, name, prefixed), operations in wanted.items():
        if operations & {"Read", "Write"}:
            operations.discard("Describe")  # either of the two is that, too
        words = ["kafka-acls.sh", "--bootstrap-server", _server(settings)]
        words += ["--command-config", "admin.properties", "--add", "--allow-principal", principal]
        words += [word for operation in sorted(operations) for word in ("--operation", operation)]
        words += ["--resource-pattern-type", "prefixed"] if prefixed else []
        yield shlex.join([*words, FLAGS[resource], settings.topic_prefix + name])


def _server(settings: Settings) -> str:
    from streams.log.kafka.connect import SCHEME, servers_of

    return servers_of(settings.broker)[0] if settings.broker.startswith(SCHEME) else "HOST:9092"
