"""A reader that looks at the views again and again, and sees whether they are ever a mix.

with Polling(data / "genledger.db") as polling:
    ...
assert polling.looks > 10 and polling.wrong == []
"""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Self

_SUMS = "SELECT sum(total_requests), sum(total_tokens), sum(raw_cost_nano), sum(markup_cost_nano) FROM"
_QUERIES = {
    name: f"{_SUMS} {name}"
    for name in ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage")
}
_READ = "SELECT sum(records) FROM positions WHERE projection = 'summaries'"
_BOOKED = "SELECT sum(records) FROM books"


class Polling:
    """Looks inside one read transaction each time, as a careful reader does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.looks = 0
        self.roots: set[int] = set()
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        read = 0
        with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            while not self._stop.wait(0.002):
                connection.execute("BEGIN")
                sums = {name: connection.execute(query).fetchone() for name, query in _QUERIES.items()}
                (now,) = connection.execute(_READ).fetchone()
                (booked,) = connection.execute(_BOOKED).fetchone()
                (root,) = connection.execute(
                    "SELECT rootpage FROM sqlite_schema WHERE name = 'client_daily_usage'"
                ).fetchone()
                connection.execute("ROLLBACK")
                self.looks += 1
                self.roots.add(root)
                if len(set(sums.values())) != 1:
                    self.wrong.append(f"the tables differ: {sums}")
                if now < read or booked != now:
                    self.wrong.append(f"read {now} records after {read}, booked {booked}")
                read = now
