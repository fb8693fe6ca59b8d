"""`genledger migrate` run against a service of a test, and what the views hold afterwards."""

import io
import json
import os
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from genledger.main import run
from tests.migrate.legacy import Call, Figures, Legacy, Name
from tests.road.harness import COMMAND, Service, clean_environ, wait_until

# Of an organisation that the legacy file has, too, on a day after its last; and of one that it has not.
OWN = [
    {
        "id": f"own-{n}",
        "organization": organization,
        "user": "u-1",
        "model": "openai/gpt-5",
        "prompt_tokens": 7,
        "cost": "0.0123",
        "created_at": "2026-06-01T10:00:00Z",
    }
    for n, organization in enumerate(("client-0", "client-0", "other"))
]
TABLES = {
    "day": ("client_daily_usage", "''"),
    "user": ("client_user_daily_usage", "openrouter_user_id"),
    "model": ("client_model_daily_usage", "model_name"),
}
_ANYTHING = "(total_requests <> 0 OR total_tokens <> 0 OR raw_cost_nano <> 0 OR markup_cost_nano <> 0)"


@dataclass
class Ran:
    """What a run of the command came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class House:
    """A service, and the command beside it."""

    def __init__(self, service: Service, **environ: str) -> None:
        self.service = service
        self._environ = environ

    def migrate(self, *arguments: str, kill_at: str = "", offline: bool = False) -> Ran:
        """Run the command; on the files when it is said that no service runs.

        In this process: a start takes a second. In one of its own where it is to be killed.
        """
        environ = {**clean_environ(), "GENLEDGER_DATA": str(self.service.data), **self._environ}
        if offline:
            environ["GENLEDGER_PORT"] = str(self.service.port)
        else:
            environ["GENLEDGER_URL"] = f"http://127.0.0.1:{self.service.port}"
        if not kill_at:
            return _here(("migrate", *arguments), environ)
        environ["KILL_AT_FOR_TESTS"] = kill_at
        command = [str(COMMAND), "migrate", *arguments]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def run(self, *arguments: str) -> Ran:
        """Any other command."""
        return _here(arguments, {**clean_environ(), **self._environ})

    def bring(self, legacy: Legacy, *arguments: str, **how: Any) -> Ran:
        """Migrate all of a file."""
        return self.migrate("--migrate", *days_of(legacy), *arguments, **how)

    def publish(self, events: Sequence[dict[str, Any]]) -> None:
        """Publish, and wait until it counts."""
        self._awake()
        for start in range(0, len(events), 1000):
            self.service.post("/api/v1/generations", events[start : start + 1000])
        self.settle()

    def _awake(self) -> None:
        """A connection that was idle for a minute has been closed: the next request opens another."""
        self.service.get_status("/livez")

    def settle(self) -> None:
        """Wait until every record is decided and read."""
        wait_until(lambda: self._is_settled, 60, "settled", self.service)

    @property
    def _is_settled(self) -> bool:
        books = self.service.get("/api/v1/books")
        lag = self.service.get("/api/v1/status")["lag"]
        return not any(row["in_flight"] for row in books["partitions"]) and not any(lag.values())

    @property
    def records(self) -> int:
        """How many records the log has."""
        self._awake()
        return sum(row["records"] for row in self.service.get("/api/v1/books")["partitions"])

    def totals(self, name: str = "client") -> dict[str, dict[Name, Figures]]:
        """What counts of a file's organisations, by margin, of days before those of `OWN`."""
        with closing(sqlite3.connect(self.service.data / "genledger.db")) as connection:
            return {
                margin: {
                    (row[0], row[1], row[2]): (row[3], row[4], row[5], row[6])
                    for row in connection.execute(
                        f"SELECT client_org_id, usage_date, {column}, total_requests, total_tokens,"
                        f" raw_cost_nano, markup_cost_nano FROM {table}"
                        f" WHERE usage_date < '2026' AND client_org_id LIKE ? AND {_ANYTHING}",
                        (f"{name}-%",),
                    )
                }
                for margin, (table, column) in TABLES.items()
            }

    def ids(self, name: str = "client") -> dict[str, tuple[str, str, int, int]]:
        """The ids that came from a file, as we know them."""
        sql = """SELECT id, client_org_id, generation_date, total_cost_nano, total_tokens
            FROM processed_generations WHERE id LIKE 'gen-%' AND client_org_id LIKE ?"""
        with closing(sqlite3.connect(self.service.data / "genledger.db")) as connection:
            return {
                row[0]: (row[1], row[2], row[3], row[4]) for row in connection.execute(sql, (f"{name}-%",))
            }

    @property
    def folders(self) -> set[str]:
        """The migrations that there are."""
        return {path.name for path in (self.service.data / "backups").glob("backup_*")}

    def dump(self, data: Path | None = None) -> bytes:
        """Every column of every row that says anything, of the day, user, model and processed tables."""
        found = []
        with closing(sqlite3.connect((data or self.service.data) / "genledger.db")) as connection:
            for table, _ in TABLES.values():
                found += connection.execute(f"SELECT * FROM {table} WHERE {_ANYTHING} ORDER BY id").fetchall()
            found += connection.execute("SELECT * FROM processed_generations ORDER BY id").fetchall()
        return "\n".join(map(repr, found)).encode()


def _here(arguments: Sequence[str], environ: dict[str, str]) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ, environ, clear=True), redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    return Ran(code, out.getvalue(), err.getvalue())


def days_of(legacy: Legacy) -> Sequence[str]:
    """The options that name a file and all of its days."""
    days = ("--start-date", legacy.first_day, "--end-date", legacy.last_day)
    return ("--from", str(legacy.path), *days)


def read_back(call: Call, **other: Any) -> dict[str, Any]:
    """A call as the sync publishes it."""
    return {
        "id": call.id,
        "organization": call.organization,
        "user": call.user,
        "model": call.model,
        "provider": "Provider",
        "prompt_tokens": call.tokens,
        "cost": f"{call.cost:.12f}",
        "created_at": f"{call.day}T10:00:00Z",
        "source": "openrouter",
        "authority": "reconciled",
        **other,
    }
