"""How every Kafka client of genledger connects: addresses, encryption, who we are, how long to wait.

The keyword arguments are common to aiokafka's consumer, producer, admin client and plain client:

    producer = AIOKafkaProducer(**client_options(settings), acks="all")

What can't work is refused here, before the first packet, by the name of the setting to mend. A password
shows in no error and no repr.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError

from streams.errors import LogUnavailable, SettingError
from streams.settings import Settings

SCHEME = "kafka://"
PORT = 9092
PORT_MAX = 65_535
# What a client believes of a broker that is gone for good, it unlearns within so long.
METADATA_AGE_MS_MAX = 30_000

_BROKER = "GENLEDGER_BROKER"
_FORM = "write kafka://HOST:PORT[,HOST:PORT], an IPv6 address as [::1]:9092"
_ADDRESS = re.compile(r"(\[[0-9A-Za-z:.%]+\]|[0-9A-Za-z_.-]+)(?::([0-9]{1,5}))?")
_FILES = {
    "kafka_cafile": "GENLEDGER_KAFKA_CAFILE",
    "kafka_certfile": "GENLEDGER_KAFKA_CERTFILE",
    "kafka_keyfile": "GENLEDGER_KAFKA_KEYFILE",
}


class _Secret(str):
    """Text that can be sent, but not seen by accident in a repr or a traceback."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def client_options(settings: Settings) -> dict[str, Any]:
    """The keyword arguments that all aiokafka clients have in common."""
    _check_contradictions(settings)
    options: dict[str, Any] = {
        "bootstrap_servers": servers_of(settings.broker),
        "client_id": "genledger",
        "request_timeout_ms": int(settings.kafka_request_timeout_s * 1000),
        "metadata_max_age_ms": METADATA_AGE_MS_MAX,
        "security_protocol": settings.kafka_security_protocol,
    }
    if _encrypted(settings):
        options["ssl_context"] = _ssl_context(settings)
    if _named(settings):
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_username
        options["sasl_plain_password"] = _Secret(settings.kafka_password)
    return options


def servers_of(broker: str) -> list[str]:
    """The brokers to ask first, as `host:port`.

    >>> servers_of("kafka://one,two:9093,[::1]:9094")
    ['one:9092', 'two:9093', '[::1]:9094']
    """
    if not broker.startswith(SCHEME):
        raise SettingError(
            f"{_BROKER} names no Kafka cluster (an embedded log makes its own topics): {_FORM}"
        )
    addresses = broker.removeprefix(SCHEME).rstrip("/")
    if "@" in addresses:  # not echoed: what stands before it may be a password
        raise SettingError(
            f"{_BROKER} has room for addresses only: give a name and password by GENLEDGER_KAFKA_USERNAME"
            " and GENLEDGER_KAFKA_PASSWORD_FILE"
        )
    return [_server_of(address.strip()) for address in addresses.split(",")]


def _server_of(address: str) -> str:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise SettingError(f"{_BROKER}: {address!r} is not an address: {_FORM}")
    host, port = found[1], PORT if found[2] is None else int(found[2])
    if not 0 < port <= PORT_MAX:
        raise SettingError(f"{_BROKER}: {address!r} has no port from 1 to {PORT_MAX}: {_FORM}")
    return f"{host}:{port}"


def _encrypted(settings: Settings) -> bool:
    return settings.kafka_security_protocol.endswith("SSL")


def _named(settings: Settings) -> bool:
    return settings.kafka_security_protocol.startswith("SASL")


def _check_contradictions(settings: Settings) -> None:
    """Security that was asked for and would not be there is an error, not a surprise."""
    protocol = f"GENLEDGER_KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol}"
    for name, env in _FILES.items():
        if getattr(settings, name) and not _encrypted(settings):
            raise SettingError(f"{env} is set, but {protocol}, without encryption: say SSL or SASL_SSL")
    if settings.kafka_username and not _named(settings):
        raise SettingError(
            f"GENLEDGER_KAFKA_USERNAME is set, but {protocol}, which tells no name: say SASL_SSL"
            " or SASL_PLAINTEXT"
        )
    if _named(settings) and not settings.kafka_password:
        raise SettingError(
            f"GENLEDGER_KAFKA_PASSWORD is missing, but {protocol}: give it, or its file by"
            " GENLEDGER_KAFKA_PASSWORD_FILE"
        )


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    """A context that checks the broker's certificate and host name, and shows ours if we have one."""
    for name, env in _FILES.items():
        _check_readable(env, getattr(settings, name))
    try:
        context = ssl.create_default_context(cafile=settings.kafka_cafile or None)
    except (ssl.SSLError, ValueError):
        raise SettingError(
            f"GENLEDGER_KAFKA_CAFILE: {settings.kafka_cafile} holds no certificates: it must be PEM"
        ) from None
    if settings.kafka_certfile:
        try:
            # A password given, if an empty one: OpenSSL would ask the terminal for it.
            context.load_cert_chain(settings.kafka_certfile, settings.kafka_keyfile, password="")
        except (ssl.SSLError, ValueError):
            raise SettingError(
                f"GENLEDGER_KAFKA_CERTFILE and GENLEDGER_KAFKA_KEYFILE: {settings.kafka_certfile} and"
                f" {settings.kafka_keyfile} are not a certificate and its key, both PEM, the key"
                " without a passphrase"
            ) from None
    return context


def _check_readable(env: str, path: str) -> None:
    if not path:
        return
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise SettingError(f"{env}: {path} can't be read: {error.strerror}") from None


async def require_reachable(options: Mapping[str, Any]) -> None:
    """Connect to all the addresses, and return when one lets us in; `LogUnavailable` says why none did.

    aiokafka's own error names the addresses, and leaves the reason to its log.
    """
    visits = [asyncio.create_task(_visit(server, options)) for server in options["bootstrap_servers"]]
    reasons = []
    try:
        for visit in asyncio.as_completed(visits):
            reason = await visit
            if not reason:
                return
            reasons.append(reason)
    finally:
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
    raise LogUnavailable(f"no broker of {_BROKER} can be used. " + "; ".join(sorted(reasons)))


async def _visit(server: str, options: Mapping[str, Any]) -> str:
    """Connect to one broker as the clients will; why not, or nothing."""
    host, _, port = server.rpartition(":")
    elsewhere = ("bootstrap_servers", "metadata_max_age_ms")
    given = {name: value for name, value in options.items() if name not in elsewhere}
    try:
        async with asyncio.timeout(options["request_timeout_ms"] / 1000):
            connection = await create_conn(host.strip("[]"), int(port), **given)
    except (KafkaError, OSError) as error:
        return f"{server}: {_reason(error)}"
    connection.close()
    return ""


def _reason(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not trusted ({error.verify_message}): see GENLEDGER_KAFKA_CAFILE, and"
                " whether the certificate has this name"
            )
        case ssl.SSLError():
            return (
                f"TLS failed ({error.reason}): see GENLEDGER_KAFKA_SECURITY_PROTOCOL and"
                " GENLEDGER_KAFKA_CERTFILE"
            )
        case SaslAuthenticationFailed():
            return (
                "our name or password is refused: see GENLEDGER_KAFKA_USERNAME and"
                " GENLEDGER_KAFKA_PASSWORD_FILE"
            )
        case UnsupportedSaslMechanismError():
            return "it has no such way to log in: see GENLEDGER_KAFKA_SASL_MECHANISM"
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "nobody listens there"
        case socket.gaierror():
            return "no such host"
        case KafkaError() if isinstance(error.__cause__, ssl.SSLError):
            return _reason(error.__cause__)
        case KafkaError() | ConnectionError():
            return "it closed the connection: see GENLEDGER_KAFKA_SECURITY_PROTOCOL"
    return str(error) or type(error).__name__
