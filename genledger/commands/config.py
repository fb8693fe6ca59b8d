"""`genledger config`: every setting, its value, and where it came from."""

from typing import Annotated

from cyclopts import App, Parameter

from genledger.options import Json, load
from genledger.output import print_rows
from streams.settings import TABLE

app = App(
    name="config",
    help="Settings: environment first, then genledger.toml, then defaults.",
    help_prologue="""Examples:
  genledger config show
  genledger config show --origin
""",
)

HIDDEN = "(set)"


@app.command(
    help_prologue="""Examples:
  genledger config show
  genledger config show --origin
  GENLEDGER_PORT=9000 genledger config show --origin --json
"""
)
def show(
    *,
    origin: Annotated[
        bool, Parameter(negative="", show_default=False, help="Say where each value came from.")
    ] = False,
    json: Json = False,
) -> int:
    """Show every setting with its value. A secret's value is not shown."""
    settings = load()
    rows = []
    for setting in TABLE:
        value = getattr(settings, setting.name)
        row = {
            "setting": setting.env,
            "value": (HIDDEN if value else "") if setting.secret else value,
            "why": setting.why,
        }
        if origin:
            row["origin"] = settings.origin.get(setting.name, "default")
        rows.append(row)
    columns = ["setting", "value", *(["origin"] if origin else []), "why"]
    print_rows(rows, columns, "json" if json else "table")
    return 0
