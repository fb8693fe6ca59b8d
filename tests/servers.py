"""A server that a test starts as a process of its own: started, paused, stopped and killed in one way.

    class Influxd(OwnServer):
        name, failed = "influxd", InfluxdbFailed
        def answers(self) -> bool: ...

    server.launch([program, "run"], environ)     # returns when it answers
    server.pause(), server.resume(), server.stop(), server.kill(), server.tail()

It is in a process group of its own, which ends with us, however we end.
"""

import atexit
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

HOST = "127.0.0.1"
# Below the kernel's range for outgoing connections, so that no client takes a port while its server is down.
PORTS = range(15_000, 32_000)
STOP_S = 20.0
LOOK_S = 0.05


class OwnServer:
    """One server on one directory."""

    name: ClassVar[str]
    failed: ClassVar[type[Exception]]
    ready_s: ClassVar[float] = 60.0

    def __init__(self, directory: Path, output: str) -> None:
        self.directory = directory
        self.output = directory / output
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        """Is it there, for those who ask it?"""
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        """Is the process there?"""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def launch(
        self, command: Sequence[str], environ: Mapping[str, str] | None = None, *, wait: bool = True
    ) -> None:
        """Start it in its directory; by default return only when it answers."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=None if environ is None else dict(environ),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._watcher = _end_with_us(self._process.pid)
        atexit.register(self.kill)
        if wait:
            self.wait_ready()

    def wait_ready(self, within_s: float = 0.0) -> None:
        """Until it answers."""
        within_s = within_s or self.ready_s
        deadline_s = time.monotonic() + within_s
        while not self.answers():
            if not self.alive:
                raise self.failed(f"{self.name} ended at its start:\n{self.tail()}")
            if time.monotonic() > deadline_s:
                self.kill()
                raise self.failed(f"{self.name} does not answer after {within_s} s:\n{self.tail()}")
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """End it in good order, by SIGTERM; it must have ended within STOP_S."""
        if self._process is None:
            return
        self.resume()
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self.failed(f"{self.name} did not stop within {STOP_S} s:\n{self.tail()}") from None
        self._forget()

    def kill(self) -> None:
        """End it at once, by kill -9."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._forget()

    def wait(self) -> None:
        """Until it has ended, by itself or by someone else."""
        assert self._process is not None
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: its connections stay open, and nothing is answered. Returns when it stands still."""
        self._signal(signal.SIGSTOP)
        while self.alive and _state_of(self.pid) != "T":
            time.sleep(0.005)

    def resume(self) -> None:
        """SIGCONT: it goes on from where it was paused."""
        self._signal(signal.SIGCONT)

    def tail(self, bytes_max: int = 3000) -> str:
        """The end of what it printed."""
        return self.output.read_text(errors="replace")[-bytes_max:] if self.output.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            os.killpg(self.pid, number)

    def _forget(self) -> None:
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
        self._process = self._watcher = None
        atexit.unregister(self.kill)


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def _end_with_us(group: int) -> subprocess.Popen[bytes]:
    """A shell that kills the group when this process is gone, however it went: its end closes the pipe."""
    return subprocess.Popen(
        ["sh", "-c", 'read -r _; kill -9 -"$1"', "sh", str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def is_free(port: int) -> bool:
    """Does nobody listen there? Connections that linger from before don't count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection will be given."""
    return next(port for port in iter(lambda: random.choice(PORTS), None) if is_free(port))


def allot(names: Iterable[str]) -> dict[str, int]:
    """A port of its own for each name."""
    found: dict[str, int] = {}
    for name in names:
        found[name] = next(port for port in iter(free_port, 0) if port not in found.values())
    return found
