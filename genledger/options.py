"""What the commands have in common: where the service is, and how settings are found.

@app.default
def books(*, service: Service = Service(), json: Json = False) -> int:
    with service.client() as client: ...
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from genledger.client import TIMEOUT_S, Client
from genledger.output import say
from streams import settings
from streams.errors import GenledgerError, ServiceUnreachable
from streams.settings import Settings

SETTINGS_FILE = Path("genledger.toml")
EMBEDDED = "sqlite:///"


class WrongUse(GenledgerError):
    """What was typed can't be meant: exit code 2."""


Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON.")]
DryRun = Annotated[
    bool,
    Parameter(name="--dry-run", negative="", show_default=False, help="Say what would be done; do nothing."),
]

MetricsPort = Annotated[
    int | None, Parameter(help="The port of /metrics, /livez and /readyz, on GENLEDGER_METRICS_HOST.")
]
Data = Annotated[str | None, Parameter(help="The data folder; GENLEDGER_DATA unless given.")]


def load(**overrides: object) -> Settings:
    """The settings of this command: its options, the environment, genledger.toml, defaults."""
    return settings.load(os.environ, SETTINGS_FILE, **overrides)


def database_of(data: str | None) -> Path:
    """Where the views are."""
    return Path(load(data=data).data) / "genledger.db"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Service:
    """Options of every command that asks the running service."""

    url: Annotated[
        str | None,
        Parameter(help="Where the service runs; http://<host>:<port> of the settings unless given."),
    ] = None
    key: Annotated[
        str | None,
        Parameter(help="The API key to show it; GENLEDGER_KEY unless given, which no process list shows."),
    ] = None
    data: Data = None

    def settings(self) -> Settings:
        """The settings with these options."""
        return load(url=self.url, api_key=self.key, data=self.data)

    @contextmanager
    def client(self, *, offline: bool = False, timeout_s: float = TIMEOUT_S) -> Iterator[Client]:
        """A client to the service; when nobody answers, the error says what to do.

        With `offline`, and when no service runs, the files are opened here, and the client works on them.
        Files that are not there are not made: they would be another ledger than the one that is meant.
        """
        found = self.settings()
        with ExitStack() as stack:
            client = Client(found.url or url_of(found), found.api_key, timeout_s)
            if offline and _may_open_files(found) and not client.answers():
                _require_log(found, client.url)
                client = stack.enter_context(_own_client(found))
            stack.callback(client.close)
            try:
                yield client
            except ServiceUnreachable as error:
                raise ServiceUnreachable(f"{error}. {_advice(found)}") from None


def _may_open_files(found: Settings) -> bool:
    """Whether the settings name local files, which no other process has open."""
    return not found.url and found.broker.startswith(EMBEDDED) and not holder_of(found)


def _require_log(found: Settings, url: str) -> None:
    """Refuse a folder without a log."""
    if any(_log_directory(found).glob("*.db")):
        return
    raise ServiceUnreachable(
        f"no service answers at {url}, and there is no ledger in {found.data}: start one with"
        " `genledger serve`, or name the folder with --data"
    )


def _log_directory(found: Settings) -> Path:
    return Path(found.broker.removeprefix(EMBEDDED))


@contextmanager
def _own_client(found: Settings) -> Iterator[Client]:
    from genledger.offline import door

    say(f"no service runs: working on the files in {found.data}")
    with door(found) as (url, key):
        yield Client(url, key)


def url_of(found: Settings) -> str:
    """Where a service with these settings answers, as seen from its own machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(found.host, found.host)  # noqa: S104
    return f"http://[{host}]:{found.port}" if ":" in host else f"http://{host}:{found.port}"


def _advice(found: Settings) -> str:
    if found.url:
        return "Is the service running there?"
    holder = holder_of(found)
    if holder:
        return f"Process {holder} has the log in {found.data} open: give its address with --url"
    return "Start the service with `genledger serve`, or give its address with --url"


def holder_of(found: Settings) -> str:
    """The process that has the embedded log open; '' when none has."""
    from streams.errors import LogBusy
    from streams.log.sqlite.lock import Lock

    directory = _log_directory(found)
    if not found.broker.startswith(EMBEDDED) or not (directory / "lock").exists():
        return ""
    try:
        Lock(directory).release()
    except (LogBusy, OSError):
        try:
            return (directory / "lock").read_text().strip() or "unknown"
        except OSError:
            return "unknown"
    return ""
