"""`genledger explain`: one generation's whole history."""

from typing import Any

from cyclopts import App

from genledger.client import Refused, segment
from genledger.options import Json, Service
from genledger.output import print_json, print_rows, say, visible

app = App(
    name="explain",
    help_prologue="""Examples:
  genledger explain gen-1
  genledger explain gen-1 --json
""",
)

NOT_FOUND = 404


@app.default
def explain(id: str, *, service: Service = Service(), json: Json = False) -> int:
    """Tell one generation's whole history: each version, what was decided, and where it is counted.

    Parameters
    ----------
    id
        The generation's id.
    """
    with service.client() as client:
        try:
            found = client.get(f"/api/v1/generations/{segment(id)}")
        except Refused as error:
            if error.status != NOT_FOUND:
                raise
            say(f"genledger: nothing is known of the generation {visible(id)}")
            return 1
    if json:
        print_json(found)
    else:
        _tell(found)
    if found.get("truncated"):
        say("This is not all: the history is longer than was read in the time there is.")
    return 0


def _tell(found: dict[str, Any]) -> None:
    """Every value on a line of its own; lists of objects as tables."""
    tables = {}
    for name, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            tables[name] = value
        else:
            print(f"{name}: {_short(value)}")
    for name, rows in tables.items():
        print(f"\n{name}:")
        flat = [{column: _short(value) for column, value in row.items()} for row in rows]
        print_rows(flat, list(dict.fromkeys(column for row in flat for column in row)), "table")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_short(inner)}" for name, inner in value.items())
    return visible(value)
