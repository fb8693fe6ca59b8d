"""`genledger db`: the views' tables and their revisions. Works on the file, with the service stopped.

Underneath is Alembic (`projections/schema.py`, `migrations/`). Each change is one transaction: it is
checked before, verified after, and leaves nothing behind when it fails.
"""

from typing import Annotated

from cyclopts import App, Parameter

from genledger.options import Data, DryRun, Json, WrongUse, database_of
from genledger.output import print_json, print_rows, say

app = App(
    name="db",
    help="The views' tables: upgrade, downgrade, and what they are at.",
    help_prologue="""Examples:
  genledger db upgrade
  genledger db check
  genledger db history
""",
)

DIFFERENT = 3


@app.command(
    help_prologue="""Examples:
  genledger db upgrade
  genledger db upgrade --dry-run
"""
)
def upgrade(revision: str = "head", /, *, dry_run: DryRun = False, data: Data = None) -> int:
    """Bring the tables up to a revision, making the file if there is none. Safe to run again.

    Parameters
    ----------
    revision
        The revision to go up to.
    """
    from projections import schema

    path = database_of(data)
    if dry_run:
        schema.check_revision(revision)
        steps = _steps(schema.current(path), up_to=revision)
        say(f"would apply: {', '.join(steps) or 'nothing'}")
    else:
        print(schema.upgrade(path, revision))
    return 0


@app.command(
    help_prologue="""Examples:
  genledger db downgrade 20250725_001 --dry-run
  genledger db downgrade base --yes
"""
)
def downgrade(
    revision: str,
    /,
    *,
    yes: Annotated[
        bool, Parameter(negative="", show_default=False, help="Do it: tables go, with their rows.")
    ] = False,
    dry_run: DryRun = False,
    data: Data = None,
) -> int:
    """Take the tables down to a revision, with the rows they hold. The log has all that views are made of.

    Parameters
    ----------
    revision
        The revision to go down to, or base for none.
    """
    from projections import schema

    path = database_of(data)
    if dry_run:
        schema.check_revision(revision)
        above = _steps("" if revision == "base" else revision, up_to=schema.current(path))
        say(f"would undo: {', '.join(reversed(above)) or 'nothing'}")
    elif yes:
        print(schema.downgrade(path, revision) or "base")
    else:
        raise WrongUse("this drops tables with their rows: say --yes, or --dry-run to see which revisions")
    return 0


def _steps(after: str, *, up_to: str) -> list[str]:
    from projections import schema

    ids = [step.id for step in schema.history()]
    last = len(ids) if up_to == "head" else ids.index(up_to) + 1 if up_to in ids else 0
    return ids[ids.index(after) + 1 if after in ids else 0 : last]


@app.command(
    help_prologue="""Examples:
  genledger db current
  genledger db current --json
"""
)
def current(*, json: Json = False, data: Data = None) -> int:
    """Print the revision that the tables are at."""
    from projections import schema

    found = schema.current(database_of(data))
    if json:
        print_json({"revision": found or None, "head": schema.HEAD})
    else:
        print(found or "none")
    return 0


@app.command(
    help_prologue="""Examples:
  genledger db history
  genledger db history --json
"""
)
def history(*, json: Json = False) -> int:
    """List every revision, the first one first."""
    from projections import schema

    rows = [{"revision": step.id, "after": step.down, "what": step.text} for step in schema.history()]
    print_rows(rows, ["revision", "after", "what"], "json" if json else "table")
    return 0


@app.command(
    help_prologue="""Examples:
  genledger db stamp 20250725_001
  genledger db stamp 20250725_001 --dry-run
"""
)
def stamp(revision: str, /, *, dry_run: DryRun = False, data: Data = None) -> int:
    """Say which revision the tables are at, without touching them; refused if they are not like it.

    Parameters
    ----------
    revision
        The revision that the tables are like.
    """
    from projections import schema

    path = database_of(data)
    if dry_run:
        schema.check_stamp(path, revision)
        say(f"would stamp {schema.current(path) or 'none'} as {revision}")
    else:
        print(schema.stamp(path, revision))
    return 0


@app.command(
    help_prologue="""Examples:
  genledger db check
  genledger db check --json
"""
)
def check(*, json: Json = False, data: Data = None) -> int:
    """Compare the tables with what this version needs. Exit code 3 if they differ."""
    from projections import schema

    problems = list(schema.check(database_of(data)))
    if json:
        print_json({"problems": problems})
    else:
        print("\n".join(problems) or "all well")
    return DIFFERENT if problems else 0
