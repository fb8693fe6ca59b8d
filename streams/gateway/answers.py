"""What the door says: JSON, and refusals as `{"error": {"code", "message", "field"}}`.

raise Refusal(413, "too_large", "at most 10485760 bytes", close=True)
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

MESSAGE_LENGTH_MAX = 500
FIELD_LENGTH_MAX = 64
# Of every answer, that to what is not HTTP too.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_encoder = msgspec.json.Encoder()


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(
        status=status, body=_encoder.encode(body), content_type="application/json", headers=headers
    )


def error_of(code: str, message: str, field: str = "") -> dict[str, dict[str, str]]:
    """The one shape of an error."""
    return {
        "error": {"code": code, "message": message[:MESSAGE_LENGTH_MAX], "field": field[:FIELD_LENGTH_MAX]}
    }


class Refusal(Exception):
    """A request that is not served; `close` also ends the connection, for its body will not be read."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str = "",
        *,
        retry_after_s: float | None = None,
        close: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_of(code, message, field)
        self.close = close
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))

    def response(self) -> web.Response:
        """As it is sent."""
        response = answer(self.status, self.body, self.headers)
        if self.close:
            response.force_close()
        return response


def invalid(field: str, message: str) -> Refusal:
    """A value that is not what it should be."""
    return Refusal(422, "invalid", message, field)


def not_found(message: str = "there is no such thing") -> Refusal:
    """Absent, or not the caller's: the same."""
    return Refusal(404, "not_found", message)
