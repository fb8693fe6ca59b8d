"""A real `genledger serve` in a process of its own: start it, post to it, stop it, kill it.

service = Service(data).start()
service.post("/api/v1/organizations", {"id": "acme"})
service.send(lines)
service.kill()            # -9; `Service(data)` again goes on from its files
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

from tests.model.traffic import Traffic

COMMAND = Path(sys.executable).parent / "genledger"
READY_S = 30.0
DRAIN_S = 30.0
NDJSON = "application/x-ndjson"


class Died(Exception):
    """The service ended while it was wanted."""


class Service:
    """One process on one data directory. `kill_at` names a point of `streams.faultpoints`."""

    def __init__(self, data: Path, *, kill_at: str = "", without: Sequence[str] = (), **environ: str) -> None:
        self.data = data
        self.port = free_port()
        self.name = "serve"
        given = {"KILL_AT_FOR_TESTS": kill_at, "GENLEDGER_CLEANUP_AT": not_soon()}
        self._environ = {**clean_environ(), **given, **environ}
        self._options = [option for name in without for option in ("--without", name)]
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: HTTPConnection | None = None
        self.output = data.with_name(data.name + ".output")

    def start(self, *, wait: bool = True) -> Self:
        """Start it; by default return only when it is ready."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(), env=self._environ, stdout=output, stderr=output, start_new_session=True
            )
        if wait:
            self.wait_ready()
        return self

    def command(self) -> list[str]:
        """What is run."""
        return [str(COMMAND), "serve", "--data", str(self.data), "--port", str(self.port), *self._options]

    def pause(self) -> None:
        """SIGSTOP: it stands still, and its connections stay open."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.killpg(self.pid, signal.SIGCONT)

    def wait_ready(self) -> None:
        """Until /readyz says yes; `Died` when the process ends first."""
        wait_until(lambda: self.get_status("/readyz") == 200, READY_S, f"ready: {self.tail()}", self)

    @property
    def alive(self) -> bool:
        """Is the process there?"""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def tail(self) -> str:
        """The end of what it printed."""
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        return text[-3000:]

    def request(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON body (or text) and headers; `Died` when nobody answers."""
        if self._connection is None:
            self._connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": content_type} if content_type else {}
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise Died(f"{method} {path}: {error!r}") from None
        found = dict(response.getheaders())
        is_json = "json" in (response.getheader("Content-Type") or "")
        return response.status, json.loads(raw) if is_json and raw else raw.decode(), found

    def get(self, path: str) -> Any:
        """The body of a GET that must be answered with 200."""
        status, body, _ = self.request("GET", path)
        assert status == 200, (path, status, body)
        return body

    def get_status(self, path: str) -> int:
        """The status of a GET; 0 when nobody answers."""
        try:
            return self.request("GET", path)[0]
        except Died:
            return 0

    def post(self, path: str, value: object) -> Any:
        """Post JSON, which must be taken."""
        status, body, _ = self.request("POST", path, json.dumps(value).encode(), "application/json")
        assert 200 <= status < 300, (path, value, status, body)
        return body

    def send(self, lines: Sequence[bytes]) -> list[int]:
        """Post lines until the log has them; the places of those that were refused."""
        body = b"\n".join(lines) + b"\n"
        while True:
            status, answer, headers = self.request("POST", "/api/v1/generations", body, NDJSON)
            if status not in (429, 503):
                break
            time.sleep(min(float(headers.get("Retry-After", "1")), 1.0))
        assert status in (202, 422), (status, answer)
        refused = [item["index"] for item in answer["rejected"]]
        assert answer["accepted"] + len(refused) == len(lines), answer
        return refused

    def assert_books_balance(self, fate: bytes = b"counted") -> None:
        """`genledger books` finds no residue, and records of this fate."""
        environ = {**clean_environ(), "GENLEDGER_URL": f"http://127.0.0.1:{self.port}"}
        found = subprocess.run([str(COMMAND), "books"], env=environ, capture_output=True, check=False)
        assert found.returncode == 0, (found.returncode, found.stdout, found.stderr)
        assert fate in found.stdout

    def stop(self) -> int:
        """Ask it to end, and wait; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._ended(DRAIN_S)

    def kill(self) -> int:
        """Kill -9, and wait."""
        assert self._process is not None
        self._process.kill()
        return self._ended(DRAIN_S)

    def wait_killed(self, timeout_s: float) -> bool:
        """Has it, or its views' process, died by kill -9 within the time? Without one the other ends too."""
        try:
            code = self._ended(timeout_s)
            return code == -signal.SIGKILL or (code == 1 and "killed at" in self.tail())
        except subprocess.TimeoutExpired:
            return False

    def _ended(self, timeout_s: float) -> int:
        assert self._process is not None
        code = self._process.wait(timeout_s)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        if self.alive:
            self.stop()


_given_ports: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, and that nobody was told before: who was may not listen yet."""
    while True:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port: int = found.getsockname()[1]
        if port not in _given_ports:
            _given_ports.add(port)
            return port


def not_soon() -> str:
    """A time of day that no test is awake at: at midnight tests must do what they do at noon."""
    return time.strftime("%H:%M", time.gmtime(time.time() + 12 * 3600))


def clean_environ() -> dict[str, str]:
    """Our environment without any setting of a service."""
    return {n: v for n, v in os.environ.items() if not n.startswith(("GENLEDGER_", "INFLUXDB_"))}


def wait_until(
    reached: Callable[[], bool], timeout_s: float, what: str, service: Service | None = None
) -> None:
    """Look again and again, for a bounded time; fails early when the service has died."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        if service is not None and not service.alive:
            raise Died(f"ended while waiting to be {what}\n{service.tail()}")
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
        time.sleep(0.05)


def set_up(service: Service, traffic: Traffic) -> None:
    """Publish the organisations and users."""
    for organization in traffic.organizations:
        service.post("/api/v1/organizations", organization)
    for user in traffic.users:
        service.post("/api/v1/users", user)


def batches(lines: Sequence[bytes], sizes: Iterator[int]) -> Iterator[Sequence[bytes]]:
    """Lines in batches of given sizes."""
    start = 0
    while start < len(lines):
        end = start + next(sizes)
        yield lines[start:end]
        start = end


@contextmanager
def running(data: Path, **options: Any) -> Iterator[Service]:
    """A service that is gone afterwards, whatever happens."""
    service = Service(data, **options)
    try:
        yield service.start()
    finally:
        if service.alive:
            service.kill()
