"""The way to the gateway: one connection, opened again when it is gone.

    Gateway("http://127.0.0.1:8787", key, timeout_s=30).post(b'{"id":"gen-1",...}')     # Answer(202, ...)

For one thread. Redirects are not followed and proxies of the environment not used: the key goes to the
address that was given, and nowhere else.
"""

import contextlib
import re
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from streams.client.verdict import Answer, Unanswered
from streams.errors import SettingError

ROUTE = "/api/v1/generations"
NDJSON, JSON = "application/x-ndjson", "application/json"
ANSWER_BYTES_MAX = 16_777_216
_KEY = re.compile(r"[!-~]*")


class Gateway:
    """Posts bodies of events; asks whatever else is to be asked."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise SettingError("url must be such as http://127.0.0.1:8787")
        if _KEY.fullmatch(key) is None:
            raise SettingError("key must be an API key, as glk_...")
        self._base = parts.path.rstrip("/")
        self._headers = {"Accept": JSON}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=timeout_s)

    def post(self, body: bytes) -> Answer | Unanswered:
        """Send a body of events."""
        return self.send("POST", ROUTE, body, NDJSON)

    def send(
        self, method: str, path: str, body: bytes | None = None, content_type: str = JSON
    ) -> Answer | Unanswered:
        """Send anything. A kept connection that the other side has closed meanwhile costs no try."""
        headers = self._headers if body is None else {**self._headers, "Content-Type": content_type}
        kept = self._connection.sock is not None
        try:
            return self._once(method, path, body, headers)
        except (ConnectionError, HTTPException) as error:
            self.close()
            if not kept:
                return self._unanswered(error)
        except OSError as error:
            self.close()
            return self._unanswered(error)
        try:
            return self._once(method, path, body, headers)
        except (OSError, HTTPException) as error:
            self.close()
            return self._unanswered(error)

    def _once(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        self._connection.request(method, self._base + path, body, headers)
        response = self._connection.getresponse()
        answer = response.read(ANSWER_BYTES_MAX + 1)
        if len(answer) > ANSWER_BYTES_MAX:
            raise HTTPException("the answer is too large")
        return Answer(response.status, answer, _retry_after_s(response))

    @staticmethod
    def _unanswered(error: Exception) -> Unanswered:
        return Unanswered(f"no answer: {type(error).__name__}")

    def close(self) -> None:
        """The next post opens another connection."""
        with contextlib.suppress(OSError):
            self._connection.close()


def _retry_after_s(response: HTTPResponse) -> int | None:
    text = response.getheader("Retry-After") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None
