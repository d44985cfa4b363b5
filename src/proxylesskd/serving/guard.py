"""What stands before every request: the token, the rate, how many at a time, how large a body and how slow."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxylesskd.serving.problem import RefusalError
from proxylesskd.serving.rate import Rate

OPEN = "/health"  # whoever watches the service has no token, and learns nothing


class Guard:
    """ASGI middleware that refuses a request before anything of it is looked at, and reads its body within limits.

    Args:
        app: what answers.
        token: that every request must bear, or None for none.
        rate: how often a client may ask; clients are told apart by their address.
        at_once: requests that may run at a time in this process; of more, the next is refused, not kept waiting.
        largest: bytes of a body.
        patience: seconds that a body may take to arrive.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, rate: Rate, at_once: int, largest: int, patience: float
    ) -> None:
        self.app, self.rate, self.at_once, self.largest, self.patience = app, rate, at_once, largest, patience
        self._token = None if token is None else _digest(token.encode())
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http" or scope["path"] == OPEN:
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope)
        except RefusalError as refused:
            await _refuse(refused, send)
            return
        self._running += 1
        try:
            await self._admitted(scope, receive, send)
        finally:
            self._running -= 1

    def _check(self, scope: Scope) -> None:
        client = scope.get("client")
        if wait := self.rate.wait(str(client[0]) if client else ""):  # who guesses tokens is slowed down too
            raise RefusalError(
                429, f"expected fewer requests, found more than {self.rate.each_second:g} a second", after=wait
            )
        if self._token is not None and not hmac.compare_digest(_digest(_bearer(scope)), self._token):
            raise RefusalError(401, "expected the header 'Authorization: Bearer TOKEN' with this service's token")
        if self._running >= self.at_once:
            raise RefusalError(503, f"expected at most {self.at_once} requests at a time, found more", after=1)
        if (told := _length(scope)) > self.largest:
            raise self._too_large(f"{told} bytes")

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await asyncio.wait_for(self._body(receive), self.patience)
        except TimeoutError:
            slow = RefusalError(408, f"expected the whole body within {self.patience:g} seconds, found it unfinished")
            await _refuse(slow, send)
        except RefusalError as refused:
            await _refuse(refused, send)
        else:
            if body is not None:
                await self.app(scope, _replay(body, receive), send)

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the whole body, None if the client has gone."""
        parts = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts += message.get("body", b"")
            if len(parts) > self.largest:  # a header may say less than comes, or nothing
                raise self._too_large("more")
            if not message.get("more_body", False):
                return bytes(parts)

    def _too_large(self, found: str) -> RefusalError:
        return RefusalError(
            413, f"expected a body of at most {self.largest} bytes, found {found}; send a smaller photo"
        )


def _digest(data: bytes) -> bytes:
    """Bring tokens to one length: their comparison then tells nothing of theirs."""
    return hashlib.sha256(data).digest()


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key.lower() == name), b"")


def _bearer(scope: Scope) -> bytes:
    kind, _, token = _header(scope, b"authorization").partition(b" ")
    return token.strip() if kind.lower() == b"bearer" else b""


def _length(scope: Scope) -> int:
    told = _header(scope, b"content-length")
    return int(told) if told.isdigit() and len(told) < 19 else (0 if not told else 1 << 62)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": waiting.pop(), "more_body": False} if waiting else await receive()

    return again


async def _refuse(refused: RefusalError, send: Send) -> None:
    body = json.dumps(refused.body()).encode()
    told = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    headers: list[Any] = [(k.lower().encode(), v.encode()) for k, v in (told | refused.headers()).items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
