"""`genledger explain`: one generation's whole history."""

from typing import Any

from cyclopts import App

from genledger.client import NOT_FOUND, Refused, segment
from genledger.options import Json, Service
from genledger.output import print_json, say, visible

app = App(
    name="explain",
    help_prologue="""Examples:
  genledger explain gen-1
  genledger explain gen-1 --json
""",
)


@app.default
def explain(id: str, *, service: Service = Service(), json: Json = False) -> int:
    """Tell one generation's whole history: each version, what was decided, and where it is counted.

    What each decision (counted, amended, duplicate, ...) means: docs/fates.md.

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
    if found.get("facts_from"):
        say(f"Decisions from before {visible(found['facts_from'])} are not there any more.")
    return 0


def _tell(found: dict[str, Any]) -> None:
    """Every value on a line of its own, then the history, each decision with what it moved."""
    for name, value in found.items():
        if name not in ("history", "truncated", "facts_from"):
            print(f"{name}: {_short(value)}")
    for decision in found["history"]:
        place = f"{decision.pop('partition', '')}/{decision.pop('offset', '')}"
        moved = [(sign, decision.pop(name, None)) for sign, name in (("-", "minus"), ("+", "plus"))]
        print(f"\n{place}  " + "  ".join(visible(value) for value in decision.values() if value))
        for sign, entry in moved:
            if entry:
                print(f"  {sign} {_short(entry)}")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name}={_short(inner)}" for name, inner in value.items() if inner not in (None, "")
        )
    return visible(value)
