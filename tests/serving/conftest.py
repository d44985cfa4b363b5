"""The stand-in model, served."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")
pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient
from PIL import Image

from proxylesskd.recognition.recognizer import Recognizer
from proxylesskd.serving.service import make_service
from tests.recognition.stand_in import aligned, write_model

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture
def serve(model: Path, tmp_path: Path) -> Serve:
    def make(gallery: str = "gallery.db", **options: Any) -> TestClient:
        settings = {"each_second": 1e6, "burst": 1_000_000} | options
        return TestClient(make_service(Recognizer(model, aligned=True), tmp_path / gallery, **settings))

    return make


def photo(identity: int, number: int = 0, kind: str = "PNG") -> bytes:
    """Return an encoded face of 112x112 pixels."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(aligned(identity, number))).save(file, kind)
    return file.getvalue()


def send(client: TestClient, where: str, body: bytes, kind: str = "image/png", **headers: str) -> Any:
    return client.post(where, content=body, headers={"content-type": kind, **headers})
