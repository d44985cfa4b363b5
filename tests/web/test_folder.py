"""The folder, without npm and without a browser."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")

from proxylesskd.errors import UserError
from proxylesskd.export.contract import open_session
from proxylesskd.web import runtime as runtime_module
from proxylesskd.web.detector import unpacked
from proxylesskd.web.folder import write_page
from proxylesskd.web.runtime import FILES, find_runtime
from tests.recognition.stand_in import write_model
from tests.web.stand_in import write_detector, write_runtime


def test_the_folder_holds_all_that_the_page_names(tmp_path: Path) -> None:
    write_detector(tmp_path / "yunet.onnx")
    model = write_model(tmp_path / "colours.onnx")
    given = {"detector": tmp_path / "yunet.onnx", "runtime": write_runtime(tmp_path / "ort")}
    page = write_page(model, tmp_path / "web", **given)
    assert write_page(model, tmp_path / "web", **given) == page  # again, over itself
    text = page.read_text() + "".join(one.read_text() for one in page.parent.glob("*.js"))
    named = set(re.findall(r'(?:href|src|from|create|fetch)[=( ]*"(?:\./)?([\w./-]+\.\w+)"', text))
    assert {"app.js", "style.css", "student.onnx", "detector.onnx", "contract.json", f"ort/{FILES[0]}"} <= named
    for name in named:
        assert (page.parent / name).is_file(), name
    assert not re.findall(r"https?://", text)  # nobody else is asked for anything
    told = json.loads((page.parent / "contract.json").read_text())
    assert (told["name"], told["dim"], told["thresholds"]["single"]["1e-3"]) == ("colours", 48, 0.7)
    assert (page.parent / "student.onnx").read_bytes() == model.read_bytes()


def test_a_detector_packed_in_blocks_says_the_same_unpacked_at_any_size(tmp_path: Path) -> None:
    meant = write_detector(tmp_path / "yunet.onnx")
    session = open_session(tmp_path / "unused", content=unpacked(tmp_path / "yunet.onnx"))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 3, 64, 96)).astype(np.float32)
    found = dict(zip((one.name for one in session.get_outputs()), session.run(None, {"input": pixels}), strict=True))
    for name, weights in meant.items():
        stride = weights.shape[2]
        wanted = [
            [(weight * pixels[0, :, y : y + stride, x : x + stride]).sum() for weight in weights]
            for y in range(0, 64, stride)
            for x in range(0, 96, stride)
        ]
        assert np.allclose(found[name][0], wanted, rtol=1e-3, atol=1e-3)


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "other.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    for name in ("other.onnx", "text.onnx"):
        with pytest.raises(UserError, match="expected a YuNet of 2023"):
            unpacked(tmp_path / name)


def test_the_engine_is_found_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_runtime(tmp_path / "ort")
    assert find_runtime(folder) == find_runtime(folder / "dist") == folder / "dist"
    (folder / "dist" / FILES[2]).unlink()
    with pytest.raises(UserError, match=FILES[2]):
        find_runtime(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="expected npm"):
        find_runtime()
    failing = tmp_path / "npm"
    failing.write_text("#!/bin/sh\necho no such registry >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(failing))
    with pytest.raises(UserError, match="no such registry"):
        find_runtime()
    failing.write_text(
        '#!/bin/sh\nd="$3/node_modules/onnxruntime-web/dist"; mkdir -p "$d"; for f in '
        + " ".join(FILES)
        + '; do echo > "$d/$f"; done\n'
    )
    dist = find_runtime()
    assert (
        dist
        == tmp_path / "cache" / "proxylesskd" / f"ort-web-{runtime_module.VERSION}/node_modules/onnxruntime-web/dist"
    )
    failing.unlink()
    assert find_runtime() == dist  # npm is asked once
