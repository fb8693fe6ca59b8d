"""The reference pages that are made from the code, so that they can't be wrong.

    python -m genledger.reference docs      # writes docs/commands.md and docs/settings.md

A test fails when the files in docs/ are not these.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App
from rich.console import Console

from genledger.main import app
from streams.settings import TABLE, Settings

WIDTH = 100
GENERATED = "<!-- Made from the code by `make docs`; a test fails when it is not current. -->\n"

COMMANDS_INTRO = """# Commands

Data goes to stdout, progress and errors to stderr. Exit codes: 0 done, 1 failed, 2 wrong use, 3 a check
found a difference. Commands that ask the running service find it at `http://<GENLEDGER_HOST>:<GENLEDGER_PORT>`,
at `GENLEDGER_URL`, or at `--url`, and show it the API key in `GENLEDGER_KEY` (or `--key`). While no
service runs, `orgs`, `keys`, `users`, `publish` and `rejected` work on the files in the data folder; `db` and
`report` always do. A ledger is made by `genledger serve` only: a folder without one is refused.

What `books` and `explain` call counted, amended, duplicate and so on: [fates.md](fates.md). How to rebuild
the views: [../README.md](../README.md#rebuild-the-views).
"""

SETTINGS_INTRO = """# Settings

The environment first, then `genledger.toml` in the working directory (the same names, such as
`GENLEDGER_PORT = 9000`), then these defaults. An unknown `GENLEDGER_` name is an error. `genledger config
show --origin` says what is in force and where it came from. A secret may be given as a file: the name with
`_FILE` holds its path. An organisation is known (GENLEDGER_UNKNOWN_ORGANIZATIONS) when it has settings, as
`genledger orgs list` shows them; usage alone does not make it known.

| setting | default | what for |
| --- | --- | --- |
"""


def commands(within: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command's words, groups before what is in them, in the order of their making."""
    for name in within:
        if name.startswith("-"):
            continue
        yield (*path, name)
        yield from commands(within[name], (*path, name))


def help_of(words: tuple[str, ...]) -> str:
    """What `genledger WORDS --help` prints, without boxes."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, force_terminal=False, color_system=None)
    app.help_print(list(words), console=console)
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def commands_page() -> str:
    """docs/commands.md."""
    parts = [GENERATED, COMMANDS_INTRO]
    for words in commands(app):
        title = f"{'#' * (1 + len(words))} genledger {' '.join(words)}"
        parts.append(f"{title}\n\n```\n{help_of(words)}\n```\n")
    return "\n".join(parts)


def settings_page() -> str:
    """docs/settings.md."""
    rows = []
    for setting in TABLE:
        default = getattr(Settings(), setting.name)
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        why = setting.why.replace("<", "&lt;")  # Markdown would take <data> for a tag
        secret = " (secret)" if setting.secret else ""
        rows.append(f"| {setting.env} | {f'`{shown}`' if shown else ''} | {why}{secret} |\n")
    return f"{GENERATED}\n{SETTINGS_INTRO}{''.join(rows)}"


PAGES = {"commands.md": commands_page, "settings.md": settings_page}


def main(folder: Path) -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (folder / name).write_text(page())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
