"""A thousand bodies that are wrong in a thousand ways, and whatever the schema lets a client ask."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.security.mutate import mutate
from tests.serving.conftest import Serve, photo, send

PHOTO_ADDRESSES = ("/embed", "/identify", "/enroll?identity=A")
KINDS = ("image/png", "image/jpeg", "application/octet-stream", "", "text/html; charset=x", "image/png;" * 50)


def wrong_requests(count: int) -> Iterator[tuple[str, bytes, str]]:
    """Yield addresses, bodies and their types."""
    chance = random.Random(7)
    whole = [photo(1), photo(2, 1, "JPEG"), photo(3, 0, "WEBP"), photo(4, 0, "BMP")]
    pair = json.dumps({"first": base64.b64encode(whole[1]).decode(), "second": base64.b64encode(whole[2]).decode()})
    for _ in range(count):
        if chance.random() < 0.3:
            yield "/verify", mutate(pair.encode(), chance, whole), "application/json"
        else:
            body = mutate(chance.choice(whole), chance, [*whole, pair.encode()])
            yield chance.choice(PHOTO_ADDRESSES), body, chance.choice(KINDS)


def test_a_thousand_malformed_bodies_break_nothing(serve: Serve) -> None:
    client = serve(largest=1 << 20)
    statuses: dict[int, int] = {}
    for where, body, kind in wrong_requests(1000):
        answer = send(client, where, body, kind)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        if answer.status_code >= 400:
            found = answer.json()
            assert set(found) == {"kind", "message"}
            assert len(found["message"]) < 3000
            assert "\n" not in found["message"]
    assert statuses.keys() <= {200, 201, 400, 413, 415, 422}
    assert statuses[422] > 200
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("cases", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_answers_are_what_openapi_says(serve: Serve, cases: int) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis import checks as known
    from schemathesis.specs.openapi import checks as openapi

    # Not among them: that whatever fits the schema is accepted. No schema says what a photo is.
    checks = [
        known.not_a_server_error,
        openapi.status_code_conformance,
        openapi.content_type_conformance,
        openapi.response_headers_conformance,
        openapi.response_schema_conformance,
        openapi.allow_header_conformance,
    ]
    schema = schemathesis.openapi.from_asgi("/openapi.json", serve().app)
    asked = [_ask(found.ok(), cases, checks) for found in schema.get_all_operations()]
    assert len(asked) == 7
    assert sum(asked) >= 3 * cases


def _ask(operation: Any, cases: int, checks: Any) -> int:
    """Ask one address what its schema allows; return how many times."""
    asked = 0

    @given(case=operation.as_strategy())
    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def ask(case: Any) -> None:
        nonlocal asked
        asked += 1
        case.call_and_validate(checks=checks)

    ask()
    return asked
