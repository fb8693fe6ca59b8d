"""A real Apache Kafka of one node (KRaft), from Maven's jars, on loopback only.

    broker = Broker(directory).start()
    broker.bootstrap            # "127.0.0.1:port"; the port stays the same over restarts
    broker.kill()               # -9; `broker.start()` again goes on from its files
    broker.stop()

Its listeners differ in who may connect and how. PLAIN is always there. PROXIED tells clients the address of
a proxy (`broker.proxy()`), so that every connection passes it:

    broker = Broker(directory, PROXIED, SASL_SSL).start()
    proxy = broker.proxy().start()
    clients connect to proxy.address, or to broker.address("SASL_SSL") as alice

By hand, on 127.0.0.1:9092, until Ctrl-C: python -m tests.kafka.broker data/kafka
"""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.kafka.certificates import Certificates, make_certificates
from tests.kafka.proxy import Proxy
from tests.servers import HOST, OwnServer, allot, free_port, is_free

POM = Path(__file__).with_name("pom.xml")
JARS = Path(__file__).parents[2] / "build" / "kafka"
JAVA_MIN = 17
DOWNLOAD_S = 300.0
READY_S = 60.0
PROBE_S = 2.0

USERS = {name: f"{name}-secret" for name in ("alice", "bob", "carol", "dave")}
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_LOGIN = "org.apache.kafka.common.security"


class NoKafka(Exception):
    """What a broker needs isn't here; the message says what."""


class BrokerFailed(Exception):
    """The broker did not start or stop as it should; the message has the end of its output."""


@dataclass(frozen=True)
class Listener:
    """A port of the broker. `proxied`: clients are told a proxy's port, not the broker's own."""

    name: str
    security: str = "PLAINTEXT"
    proxied: bool = False
    client_certificate: bool = False

    @property
    def is_sasl(self) -> bool:
        """Does a client say who it is, by name and password?"""
        return self.security.startswith("SASL")

    @property
    def is_tls(self) -> bool:
        """Is the connection encrypted?"""
        return self.security.endswith("SSL")


PLAIN = Listener("PLAIN")
CONTROLLER = Listener("CONTROLLER")
PROXIED = Listener("PROXIED", proxied=True)
SSL = Listener("SSL", "SSL")
SSL_CLIENT = Listener("SSL_CLIENT", "SSL", client_certificate=True)
SASL = Listener("SASL", "SASL_PLAINTEXT")
SASL_SSL = Listener("SASL_SSL", "SASL_SSL")

PROPERTIES: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "auto.create.topics.enable": False,
    # One node has nobody to replicate to; few partitions make a quick start.
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "message.max.bytes": 16 * 1024 * 1024,
    "replica.fetch.max.bytes": 16 * 1024 * 1024,
    # What takes minutes in production takes moments in a test.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1_000,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
    "log.cleaner.backoff.ms": 200,
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    "log.retention.check.interval.ms": 500,
    "log.initial.task.delay.ms": 500,
    "log.segment.delete.delay.ms": 500,
    # After kill -9 the node must not wait for its own former session to end.
    "broker.session.timeout.ms": 2_000,
    "broker.heartbeat.interval.ms": 500,
    "num.network.threads": 2,
    "num.io.threads": 4,
}


class Broker(OwnServer):
    """One broker on one directory, with PLAIN and whatever other listeners are asked for."""

    name, failed = "the broker", BrokerFailed

    def __init__(
        self,
        directory: Path,
        *listeners: Listener,
        properties: Mapping[str, object] | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(directory.absolute(), "kafka.log")
        self._listeners = (PLAIN, *listeners)
        self._properties = {**PROPERTIES, **(properties or {})}
        self.ports = allot(listener.name for listener in (*self._listeners, CONTROLLER))
        self.ports.update(ports or {})
        self._told = {item.name: free_port() if item.proxied else self.ports[item.name] for item in listeners}
        self._told[PLAIN.name] = self.ports[PLAIN.name]

    @property
    def bootstrap(self) -> str:
        """Where plain clients connect."""
        return self.address(PLAIN.name)

    def address(self, name: str) -> str:
        """What the clients of a listener are told: of a proxied one, the proxy's address."""
        return f"{HOST}:{self._told[name]}"

    def proxy(self, name: str = PROXIED.name) -> Proxy:
        """The proxy that a proxied listener's clients are told; not started yet."""
        return Proxy(HOST, self.ports[name], port=self._told[name])

    @functools.cached_property
    def certificates(self) -> Certificates:
        """The authority, the broker's certificate and a client's; made when first asked for."""
        return make_certificates(self.directory / "certificates")

    def start(self, *, wait: bool = True) -> Self:
        """Start it; by default return only when it answers."""
        assert not self.alive, "it runs already"
        taken = [port for port in self.ports.values() if not is_free(port)]
        if taken:
            raise BrokerFailed(f"someone else listens on {taken}")
        classpath = f"{libraries()}/*"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write_properties()
        self._format(classpath)
        self.launch([*java(classpath), "-Xmx512m", "kafka.Kafka", str(self._properties_file)], wait=wait)
        return self

    def answers(self) -> bool:
        """Does it answer a metadata request with itself?"""
        return answers(self.ports[PLAIN.name])

    def restart(self) -> None:
        """Stop it and start it again, on the same ports and files."""
        self.stop()
        self.start()

    @property
    def _properties_file(self) -> Path:
        return self.directory / "server.properties"

    def _write_properties(self) -> None:
        every = (*self._listeners, CONTROLLER)
        values: dict[str, object] = {
            **self._properties,
            "log.dirs": self.directory / "data",
            "listeners": ",".join(f"{item.name}://{HOST}:{self.ports[item.name]}" for item in every),
            "advertised.listeners": ",".join(
                f"{item.name}://{self.address(item.name)}" for item in self._listeners
            ),
            "listener.security.protocol.map": ",".join(f"{item.name}:{item.security}" for item in every),
            "inter.broker.listener.name": PLAIN.name,
            "controller.listener.names": CONTROLLER.name,
            "controller.quorum.voters": f"1@{HOST}:{self.ports[CONTROLLER.name]}",
        }
        for item in self._listeners:
            values |= self._security(item)
        lines = [f"{name}={property_text(value)}\n" for name, value in values.items()]
        self._properties_file.write_text("".join(lines))

    def _security(self, listener: Listener) -> dict[str, object]:
        found: dict[str, object] = {}
        if listener.is_tls:
            found |= {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": self.certificates.broker,
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": self.certificates.authority,
                "ssl.client.auth": "required" if listener.client_certificate else "none",
            }
        if listener.is_sasl:
            known = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
            login = f"{_LOGIN}.scram.ScramLoginModule required;"
            found |= {
                "sasl.enabled.mechanisms": ",".join((*SCRAM, "PLAIN")),
                "plain.sasl.jaas.config": f"{_LOGIN}.plain.PlainLoginModule required {known};",
                **{f"{mechanism.lower()}.sasl.jaas.config": login for mechanism in SCRAM},
            }
        return {f"listener.name.{listener.name.lower()}.{name}": value for name, value in found.items()}

    def _format(self, classpath: str) -> None:
        """Make the data directory, once, with the users in it."""
        if (self.directory / "data" / "meta.properties").exists():
            return
        users = [
            f"--add-scram={mechanism}=[name={name},password={password}]"
            for mechanism in SCRAM
            for name, password in USERS.items()
            if any(listener.is_sasl for listener in self._listeners)
        ]
        identity = ["--cluster-id", "genledger-tests-000000", "--config", str(self._properties_file)]
        command = [*java(classpath), "kafka.tools.StorageTool", "format", *identity, *users]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY_S)
        if done.returncode != 0:
            raise BrokerFailed(f"the data directory can't be made:\n{done.stdout}{done.stderr}")


def property_text(value: object) -> str:
    """As a properties file has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def answers(port: int, within_s: float = PROBE_S) -> bool:
    """Does a broker on this port answer Metadata (version 1, no topics) with at least one broker?"""
    request = struct.pack(">hhih5si", 3, 1, 7, 5, b"tests", 0)
    try:
        with socket.create_connection((HOST, port), within_s) as connection:
            connection.settimeout(within_s)
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(12, socket.MSG_WAITALL)
    except OSError:
        return False
    if len(answer) < 12:
        return False
    _, correlation, brokers = struct.unpack(">iii", answer)
    return bool(correlation == 7 and brokers > 0)


def java(classpath: str) -> list[str]:
    """The command for a short-lived, small JVM that starts quickly."""
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true"]
    log = "-Dorg.slf4j.simpleLogger"
    quiet = [
        f"{log}.defaultLogLevel=warn",
        f"{log}.showDateTime=true",
        f"{log}.dateTimeFormat=HH:mm:ss.SSS",
        f"{log}.showThreadName=false",
    ]
    return [find_java(), *quick, *quiet, "-cp", classpath]


@functools.cache
def find_java() -> str:
    """Java 17 or later: JAVA_HOME's, or the one on the path."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        raise NoKafka("no java on the path: Kafka needs Java 17 or later")
    done = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', done.stderr)
    if version is None or int(version[1]) < JAVA_MIN:
        raise NoKafka(f"Kafka needs Java {JAVA_MIN} or later, not {done.stderr.strip()}")
    return found


@functools.cache
def libraries() -> Path:
    """The folder of Kafka's jars, its Java client among them; fetched by Maven when it isn't there yet."""
    folder = JARS / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    if folder.exists():
        return folder
    JARS.mkdir(parents=True, exist_ok=True)
    with (JARS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    """All the jars or none: they are copied aside, and the folder is renamed when it is complete."""
    maven = shutil.which("mvn")
    if maven is None:
        raise NoKafka("no mvn on the path: Maven fetches Kafka's jars")
    with tempfile.TemporaryDirectory(dir=JARS) as aside:
        output = Path(aside) / "jars"
        wanted = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={output}"]
        done = subprocess.run(
            [maven, "-q", "-B", "-f", str(POM), *wanted],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=DOWNLOAD_S,
        )
        if done.returncode != 0:
            raise NoKafka(f"Maven can't fetch Kafka's jars:\n{(done.stdout + done.stderr)[-2000:]}")
        output.rename(folder)


def main(directory: str) -> None:
    """A broker in the foreground on 127.0.0.1:9092, for those without docker; SIGTERM or Ctrl-C ends it."""
    broker = Broker(Path(directory), ports={PLAIN.name: 9092, CONTROLLER.name: 9093})
    try:
        broker.start()
    except (BrokerFailed, NoKafka) as error:
        raise SystemExit(str(error)) from None
    print(f"Kafka on {broker.bootstrap}, its files in {directory}; Ctrl-C ends it", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        broker.wait()
    except KeyboardInterrupt:
        broker.stop()
    else:
        raise SystemExit(f"the broker ended by itself:\n{broker.tail()}")


if __name__ == "__main__":
    main(sys.argv[1])
