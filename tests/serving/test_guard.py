"""What is refused before anything of a request is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from proxylesskd.serving.guard import Guard
from proxylesskd.serving.rate import Rate
from tests.serving.conftest import Serve, photo, send

TOKEN = "0123456789abcdef"


def test_the_token_is_asked_for_but_by_health(serve: Serve) -> None:
    client = serve(token=TOKEN)
    assert client.get("/health").status_code == 200
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
        answer = client.get("/model", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["kind"] == "unauthorised"
    assert client.get("/openapi.json").status_code == 401
    assert client.get("/model", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200


def test_a_body_is_counted_while_it_arrives(serve: Serve) -> None:
    client = serve(largest=2048)
    assert send(client, "/embed", bytes(3000)).status_code == 413

    def parts() -> Iterator[bytes]:  # chunked: no length is told
        for _ in range(5):
            yield bytes(600)

    answer = client.post("/embed", content=parts(), headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["kind"]) == (413, "too-large")


def test_who_asks_too_often_is_told_when_to_go_on(serve: Serve) -> None:
    client = serve(each_second=0.5, burst=2)
    assert [client.get("/model").status_code for _ in range(3)] == [200, 200, 429]
    answer = client.get("/model")
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    assert client.get("/health").status_code == 200


async def _ask(guard: Guard, arriving: list[dict[str, Any]], hang: bool = False) -> list[dict[str, Any]]:
    scope = {"type": "http", "path": "/embed", "headers": [], "client": ("10.0.0.1", 1)}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not arriving and hang:
            await asyncio.sleep(60)
        return arriving.pop(0)

    async def send_on(message: Any) -> None:
        sent.append(message)

    await guard(scope, receive, send_on)
    return sent


def test_one_request_more_than_may_run_is_refused_and_a_slow_body_too() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, receive: Any, send_on: Any) -> None:
        assert (await receive())["body"] == b"ab"
        started.set()
        await release.wait()
        await send_on({"type": "http.response.start", "status": 200, "headers": []})

    async def play() -> None:
        guard = Guard(app, token=None, rate=Rate(1e6, 1000), at_once=1, largest=10, patience=0.05)
        body: list[dict[str, Any]] = [{"type": "http.request", "body": b"a", "more_body": True}]
        body.append({"type": "http.request", "body": b"b"})
        first = asyncio.create_task(_ask(guard, body))
        await started.wait()
        second = await _ask(guard, [])
        assert second[0]["status"] == 503
        assert (b"retry-after", b"1") in second[0]["headers"]
        release.set()
        assert (await first)[0]["status"] == 200
        slow = await _ask(guard, [{"type": "http.request", "body": b"a", "more_body": True}], hang=True)
        assert slow[0]["status"] == 408
        gone = await _ask(guard, [{"type": "http.disconnect"}])
        assert gone == []

    asyncio.run(play())


@pytest.mark.parametrize("told", ["-1", "x", "9" * 30])
def test_a_length_that_is_no_number_is_too_large(serve: Serve, told: str) -> None:
    answer = serve().post("/embed", content=photo(1), headers={"content-type": "image/png", "content-length": told})
    assert answer.status_code == 413
