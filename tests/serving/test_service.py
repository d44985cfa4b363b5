"""Each address, asked as a client would; what it says is what the library says."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.recognition.gallery import Gallery
from proxylesskd.recognition.recognizer import Recognizer
from proxylesskd.serving.service import make_service
from tests.recognition.stand_in import aligned, colours, write_model
from tests.serving.conftest import Serve, photo, send


def told(answer: object) -> dict[str, str]:
    found = answer.json()  # type: ignore[attr-defined]
    assert set(found) == {"kind", "message"}
    return found  # type: ignore[no-any-return]


def both(first: bytes, second: bytes) -> dict[str, str]:
    return {"first": base64.b64encode(first).decode(), "second": base64.b64encode(second).decode()}


def test_embeddings_are_those_of_the_model(serve: Serve) -> None:
    answer = send(serve(), "/embed", photo(3))
    assert answer.status_code == 200
    wanted = colours(np.array(aligned(3)).transpose(2, 0, 1)[None])[0]
    assert np.allclose(answer.json()["embedding"], wanted, atol=1e-5)


def test_two_photos_are_compared(serve: Serve) -> None:
    client = serve()
    same = client.post("/verify", json=both(photo(1), photo(1, 1)), params={"far": 1e-2}).json()
    other = client.post("/verify", json=both(photo(1), photo(2)), params={"far": 1e-2}).json()
    one, two = (colours(np.array(aligned(1, n)).transpose(2, 0, 1)[None])[0] for n in (0, 1))
    assert same["similarity"] == pytest.approx(float(one @ two), abs=1e-5)
    assert (same["same"], other["same"], same["threshold"]) == (True, False, 0.5)
    rates = client.post("/verify", json=both(photo(1), photo(2)), params={"far": 1e-6})
    assert rates.status_code == 422
    assert "FAR 1e-6" in told(rates)["message"]


def test_enrolled_is_found_and_removed_is_gone(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    for identity in (1, 2):
        first = send(client, f"/enroll?identity=Person {identity}", photo(identity))
        assert (first.status_code, first.json()) == (201, {"identity": f"Person {identity}", "new": True})
    assert send(client, "/enroll?identity=Person 1", photo(1)).json()["new"] is False
    found = send(client, "/identify?k=1&fpir=0.5", photo(2, 1)).json()
    assert found["candidates"][0]["identity"] == "Person 2"
    assert found["photos"] == 2
    assert client.delete("/identities/Person 2").json() == {"identity": "Person 2", "photos": 1}
    assert Gallery(tmp_path / "gallery.db").counts() == {"Person 1": 1}
    assert client.delete("/identities/Person 2").status_code == 404


def test_no_photo_is_kept_unless_asked(serve: Serve, tmp_path: Path) -> None:
    send(serve(), "/enroll?identity=A", photo(1))
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.db"]
    assert photo(1) not in (tmp_path / "gallery.db").read_bytes()
    send(serve(keep_images=tmp_path / "kept"), "/enroll?identity=A", photo(2))
    assert [path.read_bytes() for path in (tmp_path / "kept").iterdir()] == [photo(2)]


def test_the_model_and_its_thresholds_are_told(serve: Serve) -> None:
    client = serve()
    found = client.get("/model").json()
    assert (found["name"], found["dim"], found["thresholds"]["single"]) == ("colours", 48, {"1e-2": 0.5, "1e-3": 0.7})
    assert client.get("/health").json() == {"status": "ok"}


def bomb() -> bytes:
    """Return a PNG whose header promises 30,000 x 30,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


def test_photos_that_are_none_are_refused(serve: Serve) -> None:
    client = serve()
    for body, kind, status in (
        (b"", "image/png", 422),
        (b"no image", "image/jpeg", 422),
        (photo(1)[:200], "image/png", 422),
        (photo(1), "text/plain", 415),
    ):
        answer = send(client, "/embed", body, kind)
        assert answer.status_code == status
        assert "expected" in told(answer)["message"]
    answer = send(client, "/embed", bomb())
    assert answer.status_code == 422
    assert "megapixels" in told(answer)["message"]


def test_bodies_and_values_that_openapi_does_not_know_are_refused(serve: Serve) -> None:
    client = serve()
    for answer in (
        client.post("/verify", content=b"{", headers={"content-type": "application/json"}),
        client.post("/verify", json={"first": "AAAA"}),
        client.post("/verify", json={"first": "not base64!", "second": "AAAA"}),
        client.post("/verify?far=2", json=both(photo(1), photo(2))),
        send(client, "/identify?k=0", photo(1)),
        send(client, "/enroll", photo(1)),
        send(client, "/enroll?identity=" + "x" * 1001, photo(1)),
    ):
        assert answer.status_code == 422
        assert told(answer)["kind"] == "unusable"
    assert told(client.get("/nowhere"))["kind"] == "unknown"
    assert client.get("/embed").status_code == 405


def test_every_refusal_is_documented_in_one_shape(serve: Serve) -> None:
    schema = serve().get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
            assert path == "/health" or {"401", "413", "429", "503"} <= set(operation["responses"])
    assert "HTTPValidationError" not in json.dumps(schema)


def test_a_gallery_of_another_model_is_refused_before_anybody_asks(model: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", weights="c" * 64)
    Gallery.create(tmp_path / "g.db", Recognizer(other, aligned=True).model)
    with pytest.raises(UserError, match="would mean nothing"):
        make_service(Recognizer(model, aligned=True), tmp_path / "g.db")
