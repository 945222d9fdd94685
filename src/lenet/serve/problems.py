"""Errors as problem details: every answer that is no success has this one form.

Source: RFC 9457. The Open Inference Protocol wants a member `error` with the message; RFC 9457
allows further members, so that its clients and everyone else are told the same.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """A request can't be answered as asked, through no fault of the server's code."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what is wrong.

        Args:
            status: 400 to 599.
            detail: For a person, about this request.
            retry_after_s: When to try again.
            headers: Further headers of the answer.
            members: Further members of the problem, plain values.
        """
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(retry_after_s)
        self.members = dict(members or {})


def encode(status: int, detail: str, path: str, members: Mapping[str, Any] | None = None) -> bytes:
    """Return a problem's JSON."""
    problem = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **(members or {}),
    }
    if path.startswith("/v2"):
        problem["error"] = detail
    return json.dumps(problem).encode()


def raw_response(status: int, detail: str) -> bytes:
    """Return a whole HTTP/1.1 answer that ends the connection, for where no request was read."""
    body = encode(status, detail, "")
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"content-type: {MEDIA_TYPE}",
        f"content-length: {len(body)}",
        "connection: close",
        *(["retry-after: 1"] if status in (429, 503) else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
