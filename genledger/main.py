"""The command line: which commands there are, and how what happens becomes an exit code.

    genledger serve
    genledger publish usage.ndjson.gz

| exit code | meaning                                   |
| --------- | ----------------------------------------- |
| 0         | done                                      |
| 1         | failed: stderr says why and what to do    |
| 2         | wrong use: stderr says what was not understood |
| 3         | a check found a difference                |
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError
from rich.console import Console

from genledger.client import UNPROCESSABLE, Refused
from genledger.commands import (
    backup,
    bench,
    books,
    cleanup,
    config,
    conflicts,
    db,
    explain,
    export,
    gateway,
    keys,
    migrate,
    orgs,
    prove,
    publish,
    reconcile,
    rejected,
    replay,
    report,
    restore,
    serve,
    status,
    sync,
    topics,
    trim,
    users,
    worker,
)
from genledger.options import WrongUse
from genledger.output import say
from streams.errors import GenledgerError, SettingError

DONE, FAILED, WRONG_USE, DIFFERENT = 0, 1, 2, 3
INTERRUPTED = 130  # as a shell reports what Ctrl-C ended

COMMANDS = (
    serve,
    gateway,
    worker,
    publish,
    books,
    explain,
    rejected,
    conflicts,
    report,
    export,
    replay,
    prove,
    trim,
    orgs,
    keys,
    users,
    db,
    backup,
    restore,
    topics,
    status,
    sync,
    reconcile,
    cleanup,
    migrate,
    config,
    bench,
)

app = App(
    name="genledger",
    help="Exact metering of LLM usage: every generation an event, every figure a view rebuilt from the log.",
    help_prologue="""Examples:
  genledger serve
  genledger publish usage.ndjson
  genledger report --org acme --month 2026-11
""",
    help_epilogue="""Settings: the environment, genledger.toml, defaults; see `genledger config show`.
Once there are API keys, commands show the one in GENLEDGER_KEY.
Exit codes: 0 done, 1 failed, 2 wrong use, 3 a check found a difference.
""",
    help_format="plaintext",
    help_formatter="plain",
    version=lambda: version("genledger"),
    version_flags=["--version"],
    result_action="return_value",
)
for _command in COMMANDS:
    _command.app.help_epilogue = ""  # it stands once, in the help of them all
    app.command(_command.app)


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    try:
        result = app(
            list(arguments),
            exit_on_error=False,
            print_error=True,
            error_console=Console(stderr=True),
        )
    except CycloptsError:
        return WRONG_USE
    except (WrongUse, SettingError) as error:
        say(f"genledger: {error}")
        return WRONG_USE
    except Refused as error:
        say(f"genledger: {error}")
        return WRONG_USE if error.status == UNPROCESSABLE else FAILED
    except GenledgerError as error:
        say(f"genledger: {error}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return result if isinstance(result, int) else DONE


def main() -> None:
    """The entry point of the installed command."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `genledger ... | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)
