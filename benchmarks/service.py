"""A `genledger serve` of its own for each run: default settings, a free port, a directory that goes away.

    with Service(base / "data") as service:
        service.port, service.cpu_s(), service.memory_bytes()

    with Service(base / "data", {"GENLEDGER_RATE_PER_S": "10"}) as service:
        service.administrator_key()        # from here on it asks for keys

It is ended by its process id, whatever happens to us, Ctrl-C included: it is in a session of its own, so that
the terminal's Ctrl-C reaches only us.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Self

from benchmarks import BenchmarkFailed
from genledger.client import Client
from streams import clock
from streams.errors import GenledgerError

COMMAND = Path(sys.executable).parent / "genledger"
HOST = "127.0.0.1"
# A million ids are read back before it is ready.
READY_S = 120.0
STOP_S = 30.0
LOOK_S = 0.05
DEFAULTS: Mapping[str, str] = {}
_TICKS = os.sysconf("SC_CLK_TCK")
_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class Service:
    """One process on one data directory."""

    def __init__(self, data: Path, settings: Mapping[str, str] = DEFAULTS) -> None:
        self.data = data
        self._settings = settings
        self.port = _free_port()
        self._output = data.with_name(data.name + ".output")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [str(COMMAND), "serve", "--data", str(self.data), "--port", str(self.port)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=_environ(self._settings), stdout=output, stderr=output, start_new_session=True
            )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = self.stop()
        # Whatever went wrong with us then, this is why.
        if code and (error is None or isinstance(error, Exception)):
            raise BenchmarkFailed(f"the service ended with exit code {code}:\n{self.tail()}") from error

    def _wait_ready(self) -> None:
        deadline_s = clock.monotonic_s() + READY_S
        client = Client(f"http://{HOST}:{self.port}", timeout_s=READY_S)
        while clock.monotonic_s() < deadline_s:
            try:
                if client.send("GET", "/readyz").status == 200:
                    return
            except GenledgerError:
                self.check()
            finally:
                client.close()
            sleep(LOOK_S)
        raise BenchmarkFailed(f"the service is not ready after {READY_S:g} s:\n{self.tail()}")

    def administrator_key(self) -> str:
        """Make a key that may do everything: the service is not open any more."""
        client = Client(f"http://{HOST}:{self.port}")
        try:
            secret: str = client.post("/api/v1/keys", {"organization": "", "rights": "admin"})["secret"]
        finally:
            client.close()
        return secret

    def check(self) -> None:
        """Refuse to go on when the process has ended."""
        if self._process is None or self._process.poll() is not None:
            raise BenchmarkFailed(f"the service has ended:\n{self.tail()}")

    def tail(self) -> str:
        """The end of what it printed."""
        return self._output.read_text(errors="replace")[-3000:] if self._output.exists() else ""

    def cpu_s(self) -> float | None:
        """Processor time of the service and its views' process; None where the kernel does not tell."""
        # The name in brackets may hold anything: what counts comes after it.
        found = [text.rpartition(")")[2].split() for text in self._proc("stat")]
        return sum(int(fields[11]) + int(fields[12]) for fields in found) / _TICKS if found else None

    def memory_bytes(self) -> int | None:
        """The most memory the two ever had, each by itself; None where the kernel does not tell."""
        found = [match for text in self._proc("status") if (match := _HIGH_WATER.search(text))]
        return sum(int(match[1]) for match in found) * 1024 if found else None

    def _proc(self, name: str) -> list[str]:
        """What the kernel says of the service and of the processes that it has started."""
        assert self._process is not None
        pid = self._process.pid
        texts = []
        with suppress(OSError):
            tasks = Path(f"/proc/{pid}/task").glob("*/children")
            children = [child for task in tasks for child in task.read_text().split()]
            texts = [Path(f"/proc/{one}/{name}").read_text() for one in (str(pid), *children)]
        return texts

    def stop(self) -> int:
        """Ask it to end, and see that it does; its exit code."""
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return self._kill()
        except KeyboardInterrupt:  # a second one
            self._kill()
            raise

    def _kill(self) -> int:
        assert self._process is not None
        self._process.kill()
        return self._process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port


def _environ(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours without any setting of a service, and these: what is measured are the defaults otherwise."""
    dropped = ("GENLEDGER_", "INFLUXDB_", "LOG_LEVEL", "CLEANUP_", "BACKGROUND_")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)} | {**settings}
