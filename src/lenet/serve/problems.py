"""Errors as RFC 9457 problem details.

The Open Inference Protocol wants a member `error` with the message; under /v2 it is added.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from lenet.schema import to_json

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1


class ProblemError(Exception):
    """A request that cannot be answered; becomes a response with this status and detail."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        """Describe the error.

        Args:
            status: 400 to 599; 429 and 503 get a `Retry-After` header.
            detail: A sentence about this request.
            headers: Further headers of the response.
            members: Further members of the problem: plain values.
        """
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = {"content-type": MEDIA_TYPE, **(headers or {})}
        if status in (429, 503):
            self.headers.setdefault("retry-after", str(RETRY_AFTER_S))
        self.members = members or {}

    def body(self, path: str = "") -> bytes:
        """Return the problem as JSON, for a request to that path."""
        problem = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        if path.startswith("/v2"):
            problem["error"] = self.detail
        return to_json(problem).encode()

    def raw_response(self) -> bytes:
        """Return a whole HTTP/1.1 response that ends the connection, where no request was read."""
        body = self.body()
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
            f"content-length: {len(body)}",
            "connection: close",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body
