"""The demo with everything made tiny: what it leaves and what it claims."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxylesskd import demo
from proxylesskd.errors import UserError
from tests.faces import write_faces

TINY = ("model.dim=16", "model.width=0.125", "model.image_size=48", "train.batch=8", "train.steps=3", "method.scale=16")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough that the teacher knows its images by its own rows: the audit asks for that.
    teacher = (*TINY, "method.name=alone", "model.name=mobilefacenet", "train.steps=60")
    monkeypatch.setattr(demo, "TEACHER", teacher)
    monkeypatch.setattr(demo, "STUDENT", (*TINY, "method.name=proxyless", "model.name=mobilefacenet"))
    monkeypatch.setattr(demo, "GENUINE", 40)
    monkeypatch.setattr(demo, "IMPOSTOR", 200)


def test_the_demo_leaves_everything_it_names(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_faces(tmp_path / "faces" / "train", identities=4, images=6)
    write_faces(tmp_path / "faces" / "test", identities=30, images=4, first=50)
    out = tmp_path / "demo"
    page = demo.run_demo(out, faces=tmp_path / "faces", quiet=True)
    said = capsys.readouterr().out
    for name in ("teacher", "student alone", "ProxylessKD"):
        assert name in said
        assert name in page.read_text(encoding="utf-8")
    claims = json.loads((out / "student" / "differences.json").read_text())["differences"]
    assert [claim["mode"] for claim in claims] == ["single-model", "cross-model"]
    assert all(claim["lower"] <= claim["upper"] for claim in claims)
    steps = {folder: (out / folder / "recipe.toml").read_text().split("[train]")[1] for folder in ("alone", "student")}
    assert steps["alone"] == steps["student"]
    with pytest.raises(UserError, match="new or empty folder"):
        demo.run_demo(out, faces=tmp_path / "faces", quiet=True)
