"""An installation on a cluster: its topics, and its roles as real processes.

    installation = Installation(kafka.url, topic_prefix, tmp_path, partitions=4)
    installation.apply()
    with installation.running("gateway", "ledger", "ledger", "summaries") as (gateway, one, other, summaries):
        gateway.send(lines)

A role's `port` is the one where it is asked: the door's for a gateway, the metrics port for the others.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.road.harness import COMMAND, Service, clean_environ, free_port

WORKERS = ("ledger", "summaries", "jobs")


class Role(Service):
    """One role in a process of its own: `kill_at` names a point of `streams.faultpoints`."""

    def __init__(
        self,
        name: str,
        data: Path,
        output: Path,
        options: Sequence[str] = (),
        *,
        kill_at: str = "",
        **environ: str,
    ) -> None:
        super().__init__(data, kill_at=kill_at, **environ)
        self.name = name
        self.output = output
        self._more = list(options)
        self.metrics_port = free_port() if name == "gateway" else self.port

    def command(self) -> list[str]:
        """What is run."""
        ports = ["--metrics-port", str(self.metrics_port)]
        if self.name == "gateway":
            return [str(COMMAND), "gateway", "--port", str(self.port), *ports, *self._more]
        return [str(COMMAND), "worker", self.name, *ports, *self._more]


class Installation:
    """The settings that its roles share. Every role's output is a file beside the data."""

    def __init__(
        self, broker: str, prefix: str, folder: Path, *, partitions: int = 4, **environ: str
    ) -> None:
        self.folder = folder
        self.prefix = prefix
        self.data = folder / "data"
        self.views_port = free_port()
        self._made = 0
        self.environ = {
            "GENLEDGER_BROKER": broker,
            "GENLEDGER_TOPIC_PREFIX": prefix,
            "GENLEDGER_DATA": str(self.data),
            "GENLEDGER_PARTITIONS": str(partitions),
            "GENLEDGER_VIEWS_URL": f"http://127.0.0.1:{self.views_port}",
            **environ,
        }
        self.data.mkdir(parents=True, exist_ok=True)

    def apply(self) -> None:
        """Make the topics, by the command."""
        environ = {**clean_environ(), **self.environ}
        done = subprocess.run(
            [str(COMMAND), "topics", "apply"], env=environ, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()

    def role(self, name: str, *options: str, kill_at: str = "", **environ: str) -> Role:
        """A role that is not started yet; `environ` changes its settings only."""
        self._made += 1
        output = self.folder / f"{name}-{self._made}.output"
        role = Role(name, self.data, output, options, kill_at=kill_at, **{**self.environ, **environ})
        if name == "summaries":
            role.port = role.metrics_port = self.views_port
        return role

    @contextmanager
    def running(self, *names: str, **environ: str) -> Iterator[list[Role]]:
        """Roles that are ready, and that are gone afterwards, whatever happens."""
        roles = [self.role(name, **environ) for name in names]
        with ExitStack() as stack:
            for role in roles:
                role.start(wait=False)
                stack.callback(_gone, role)
            for role in roles:
                role.wait_ready()
            yield roles


def _gone(role: Role) -> None:
    if role.alive:
        role.kill()
