"""A small HTTP client to the running service: what the commands ask it with.

    client = Client("http://127.0.0.1:8787")
    client.get("/api/v1/usage/daily", org="acme")
    client.post("/api/v1/organizations", {"id": "acme", "markup": "1.3"})

A refusal is `Refused`, with what the service said; nobody there is `ServiceUnreachable`. Proxies of the
environment are not used: the service is ours.
"""

from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    RemoteDisconnected,
)
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from streams.errors import GenledgerError, ServiceUnreachable, SettingError

TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 268_435_456
RETRY_AFTER_S_MAX = 60
UNAUTHORIZED, NOT_FOUND, UNPROCESSABLE, UNAVAILABLE = 401, 404, 422, 503
KEY_ADVICE = "set GENLEDGER_KEY, or give --key"


class Answer(msgspec.Struct, frozen=True):
    """What the service said."""

    status: int
    body: bytes
    retry_after_s: int | None = None
    url: str = ""

    def json(self) -> Any:
        """The body as JSON; `GenledgerError` when it is not."""
        try:
            return msgspec.json.decode(self.body) if self.body else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise GenledgerError(f"{_stranger(self)}: it is not JSON") from None


class Refused(GenledgerError):
    """The service answered, and the answer is no. `status` is HTTP's, `code` and `field` its own."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.code, self.field, message = _error_of(answer)
        where = f"{self.field}: " if self.field else ""
        advice = f": {KEY_ADVICE}" if self.code and answer.status == UNAUTHORIZED else ""
        super().__init__(f"{where}{message} ({f'{answer.status} {self.code}'.strip()}){advice}")


def _error_of(answer: Answer) -> tuple[str, str, str]:
    try:
        error = msgspec.json.decode(answer.body)["error"]
        return str(error["code"]), str(error.get("field") or ""), str(error["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        return "", "", _stranger(answer)


def _stranger(answer: Answer) -> str:
    """Whoever does not answer as genledger does: another program, or a proxy before it."""
    return f"what answers at {answer.url} is not genledger"


class Client:
    """One connection, opened again when it is gone. Not for use by two threads at once."""

    def __init__(self, url: str, key: str = "", timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingError(f"GENLEDGER_URL must be such as http://127.0.0.1:8787, not {url}")
        self.url = url.rstrip("/")
        self._base = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)

    def get(self, path: str, **query: object) -> Any:
        """The answer's JSON. Parameters that are None are left out."""
        return self.taken(self.send("GET", path, query)).json()

    def post(self, path: str, value: object) -> Any:
        """Send JSON; the answer's JSON."""
        body = msgspec.json.encode(value)
        return self.taken(self.send("POST", path, body=body, content_type="application/json")).json()

    def taken(self, answer: Answer) -> Answer:
        """The answer, if it is yes."""
        if answer.status >= 300:
            raise Refused(answer)
        return answer

    def send(
        self,
        method: str,
        path: str,
        query: dict[str, object] | None = None,
        *,
        body: bytes | None = None,
        content_type: str = "",
    ) -> Answer:
        """Any request, any answer."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{self._base}{path}" + (f"?{urlencode(given)}" if given else "")
        headers = dict(self._headers, Accept="application/json")
        if content_type:
            headers["Content-Type"] = content_type
        try:
            return self._once(method, target, body, headers)
        except (OSError, HTTPException) as error:
            self.close()
            raise self._unreachable(error) from None

    def _once(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        self._connection.request(method, target, body=body, headers=headers)
        response = self._connection.getresponse()
        answer = response.read(ANSWER_BYTES_MAX + 1)
        if len(answer) > ANSWER_BYTES_MAX:
            self.close()
            raise GenledgerError(f"the service's answer is larger than {ANSWER_BYTES_MAX} bytes")
        return Answer(response.status, answer, _retry_after_s(response), self.url)

    def _unreachable(self, error: Exception) -> ServiceUnreachable:
        if isinstance(error, ConnectionRefusedError):
            return ServiceUnreachable(f"nothing answers at {self.url}")
        if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
            return ServiceUnreachable(f"what answers at {self.url} is not genledger: it does not speak HTTP")
        return ServiceUnreachable(f"{self.url} does not answer: {error or type(error).__name__}")

    def answers(self) -> bool:
        """Whether anybody takes a connection."""
        try:
            self._connection.connect()
        except OSError:
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


def _retry_after_s(response: HTTPResponse) -> int | None:
    text = response.getheader("Retry-After") or ""
    return min(int(text), RETRY_AFTER_S_MAX) if text.isascii() and text.isdigit() and len(text) < 9 else None


def segment(text: str) -> str:
    """A text as one segment of a path, whatever is in it."""
    return quote(text, safe="")
