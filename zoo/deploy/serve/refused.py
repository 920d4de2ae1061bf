"""Requests that are not answered as they wish: a status and one line, always as JSON."""

from __future__ import annotations

import json


class Refused(Exception):
    """A request is refused; the text is for its sender."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def error_body(text: str) -> bytes:
    """Return the body of every answer that is an error."""
    return json.dumps({"error": " ".join(text.split())}).encode()


def error_headers(status: int) -> dict[str, str]:
    """Return what such an answer has in its head besides."""
    if status == 503:
        return {"retry-after": "1"}
    # What is left of the body would be taken for the next request.
    return {"connection": "close"} if status in (408, 413, 431) else {}
