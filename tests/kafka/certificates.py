"""A certificate authority for one test, by openssl: what a broker and its clients need, in PEM.

made = make_certificates(directory)
made.authority                        # who vouches: ssl_cafile
made.broker                           # the broker's key and certificate in one file, as Kafka wants it
made.client, made.client_key          # a client's: ssl_certfile, ssl_keyfile
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

DAYS = 2

# Named extensions, not openssl's own file: what that one holds differs from system to system.
_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
"""
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files."""

    authority: Path
    broker: Path
    client: Path
    client_key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make an authority, and what it signs for the broker and for one client. Those there stay."""
    made = Certificates(
        directory / "authority.pem",
        directory / "broker.pem",
        directory / "client.pem",
        directory / "client.key",
    )
    if made.client.exists():
        return made
    directory.mkdir(parents=True)
    key = directory / "authority.key"
    config = _configuration(directory, "genledger tests")
    _openssl(
        "req", "-x509", *_NEW_KEY, "-keyout", key, "-out", made.authority, "-days", DAYS, *config, "authority"
    )
    broker_key, broker = directory / "broker.key", directory / "broker.crt"
    _sign(made.authority, key, "broker", broker_key, broker)
    made.broker.write_bytes(broker_key.read_bytes() + broker.read_bytes())
    _sign(made.authority, key, "client", made.client_key, made.client)
    return made


def _sign(authority: Path, authority_key: Path, name: str, key: Path, certificate: Path) -> None:
    config = _configuration(key.parent, name)
    request = key.with_suffix(".csr")
    _openssl("req", "-new", *_NEW_KEY, "-keyout", key, "-out", request, *config[:2])
    signed_by = ("-CA", authority, "-CAkey", authority_key, "-CAcreateserial", "-days", DAYS)
    extensions = ("-extfile", config[1], "-extensions", "leaf")
    _openssl("x509", "-req", "-in", request, *signed_by, *extensions, "-out", certificate)


def _configuration(directory: Path, name: str) -> tuple[str, Path, str]:
    path = directory / f"{name.split(maxsplit=1)[0]}.cnf"
    path.write_text(_CONFIG.format(name=name))
    return "-config", path, "-extensions"


def _openssl(*words: object) -> None:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {words[0]}: {done.stderr}")
