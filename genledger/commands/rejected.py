"""`genledger rejected`: what was not taken, with its bytes, and how to give it another chance."""

import base64
import sys
from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import App, Parameter

from genledger.client import Client, Refused
from genledger.options import DryRun, Json, Service, WrongUse
from genledger.output import print_json, print_rows, say, visible

app = App(
    name="rejected",
    help="""What was acknowledged and then not counted, with its bytes: list, show, and publish again.

Quarantined records, conflicts and expired ones (docs/fates.md), for 30 days. Events that the door
refused are not here: their producer was told, and nothing of them was kept.
""",
    help_prologue="""Examples:
  genledger rejected list
  genledger rejected show 2/17
  genledger rejected redrive 2/17
""",
)

ROUTE = "/api/v1/rejected"
PAGE = 500
COLUMNS = ["place", "time", "reason", "error", "key", "size_bytes"]


@app.command(
    name="list",
    help_prologue="""Examples:
  genledger rejected list
  genledger rejected list --limit 1000 --json
""",
)
def list_(
    *,
    limit: Annotated[int, Parameter(help="At most so many, the oldest first.")] = 100,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """List what was not counted: its place, its reason, and what was wrong."""
    with service.client(offline=True) as client:
        found = [*_every(client, limit)]
    if json:
        print_json(found)
    else:
        print_rows([_row(item) for item in found], COLUMNS, "table")
    return 0


@app.command(
    help_prologue="""Examples:
  genledger rejected show 2/17
  genledger rejected show 2/17 --raw > event.json
"""
)
def show(
    place: str,
    *,
    raw: Annotated[
        bool, Parameter(negative="", show_default=False, help="Its bytes, and nothing else.")
    ] = False,
    service: Service = Service(),
    json: Json = False,
) -> int:
    """Show one of them, with its bytes as they came.

    Parameters
    ----------
    place
        PARTITION/OFFSET, as `genledger rejected list` shows it.
    """
    path = _path(place)
    with service.client(offline=True) as client:
        found = client.get(path)
    value = bytes_of(found)
    if raw:
        sys.stdout.buffer.write(value)
    elif json:
        print_json(found)
    else:
        print_rows([_row(found)], COLUMNS, "table")
        print(f"\n{visible(value.decode(errors='backslashreplace'))}")
    return 0


@app.command(
    help_prologue="""Examples:
  genledger rejected redrive 2/17
  genledger rejected redrive --all --dry-run
  genledger rejected redrive 2/17 --force
"""
)
def redrive(
    places: Annotated[list[str] | None, Parameter(negative="")] = None,
    /,
    *,
    all: Annotated[bool, Parameter(negative="", show_default=False, help="All that were rejected.")] = False,
    force: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Count what is dated before the horizon, or told by a source that is not believed, too.",
        ),
    ] = False,
    dry_run: DryRun = False,
    service: Service = Service(),
) -> int:
    """Publish rejected records again, once what was wrong is mended. What is counted stays counted once.

    Parameters
    ----------
    places
        PARTITION/OFFSET, as `genledger rejected list` shows them.
    """
    if bool(places) == all:
        raise WrongUse("name what to redrive, such as 2/17, or say --all")
    failed = 0
    for place in places or ():
        _path(place)  # a slip among many is found before the first is published
    with service.client(offline=True) as client:
        # The list is taken first: what is redriven and refused again comes back at its end.
        todo = list(places or ()) or [_place(item) for item in _every(client)]
        for place in todo:
            failed += not _redrive(client, place, force=force, dry_run=dry_run)
    say(f"{len(todo) - failed} {'would be ' if dry_run else ''}published again, {failed} refused")
    return 1 if failed else 0


def _redrive(client: Client, place: str, *, force: bool, dry_run: bool) -> bool:
    path = _path(place)
    try:
        if dry_run:
            client.get(path)
        else:
            client.post(f"{path}/redrive", {"force": force})
    except Refused as error:
        say(f"{place}: {error}")
        return False
    print(place)
    return True


def _every(client: Client, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """All that were rejected, a page at a time."""
    after, left = None, limit
    while left is None or left > 0:
        page = client.get(ROUTE, limit=PAGE if left is None else min(left, PAGE), after=after)
        yield from page["rejected"]
        after = page.get("next")
        if after is None:
            return
        left = None if left is None else left - len(page["rejected"])


def _path(place: str) -> str:
    partition, slash, offset = place.partition("/")
    if not (slash and partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
        raise WrongUse(f"{place} is not a place: PARTITION/OFFSET, such as 2/17")
    return f"{ROUTE}/{partition}/{offset}"


def _place(item: dict[str, Any]) -> str:
    return f"{item['partition']}/{item['offset']}"


def _row(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "place": _place(item)}


def bytes_of(item: dict[str, Any]) -> bytes:
    """A rejected record's bytes as they came: JSON carries them in base64 where they are not text."""
    if item["value"] is None:
        return b""
    return base64.b64decode(item["value"]) if item["encoding"] == "base64" else item["value"].encode()
