"""The one shape of every error: which kind, and what was expected, what was found, how to mend it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

MEANINGS = {
    400: ("malformed", "The request is not HTTP that this service reads."),
    401: ("unauthorised", "The token is missing or wrong."),
    404: ("unknown", "There is no such address, or nobody of that name."),
    405: ("method", "The address takes another method."),
    408: ("slow", "The body did not arrive in time."),
    413: ("too-large", "The body is larger than this service takes."),
    415: ("media-type", "The body is of a kind that this service does not read."),
    422: ("unusable", "The photo shows no face that can be taken, or a value is out of its range."),
    429: ("too-often", "More requests than one client may make; Retry-After says when to go on."),
    503: ("busy", "As many requests as may run at a time are running; Retry-After says when to go on."),
}


class Problem(BaseModel):
    """What went wrong.

    Attributes:
        kind: a word that programs can compare.
        message: what was expected, what was found and how to mend it, in one line.
    """

    kind: str = Field(examples=["unusable"])
    message: str = Field(examples=["expected a face in the photo, found none; give a photo that shows one upright"])


class RefusalError(Exception):
    """A request that is answered by a :class:`Problem`.

    Args:
        status: one of :data:`MEANINGS`.
        message: what was expected, what was found, how to mend it.
        after: seconds until it may be tried again, where that helps.
    """

    def __init__(self, status: int, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.after = status, message, after

    def headers(self) -> dict[str, str]:
        """Return the headers that go with the status."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {} if self.after is None else {"Retry-After": str(max(1, round(self.after)))}

    def body(self) -> dict[str, str]:
        """Return the :class:`Problem` as plain values."""
        kind = MEANINGS[self.status][0] if self.status in MEANINGS else "other"
        return {"kind": kind, "message": self.message}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI is told of these statuses and of those that every request may meet."""
    always = (400, 401, 408, 413, 429, 503)
    return {status: {"model": Problem, "description": MEANINGS[status][1]} for status in sorted({*always, *statuses})}
