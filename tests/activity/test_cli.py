"""The verbs, on a few synthetic people."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.activity import demo as demo_module
from proxylesskd.activity import gaits
from proxylesskd.cli import main


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["activity", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gaits.make_gaits
    monkeypatch.setattr(gaits, "make_gaits", lambda seed=0: whole(people=3, windows=2, seed=seed))


SMALL = ("train.steps=2", "train.batch=8", "model.size=30", "model.dim=8", "model.layers=1", "-q")


def test_train_distill_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--out", tmp_path / "teacher", *SMALL) == 0
    assert call("distill", "--out", tmp_path / "student", "--teacher", tmp_path / "teacher", *SMALL) == 0
    assert "accuracy" in capsys.readouterr().out
    assert 'name = "proxyless"' in (tmp_path / "student" / "recipe.toml").read_text()
    runs = (tmp_path / "teacher", tmp_path / "student")
    assert call("evaluate", *runs, "--out", tmp_path / "page") == 0
    assert (tmp_path / "page" / "report.html").is_file()
    assert call("distill", "--out", tmp_path / "student", *SMALL) == 2
    assert "found a run" in capsys.readouterr().err


def test_the_demo_trains_everything_it_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = list[Path]()
    monkeypatch.setattr(demo_module, "export", exported.append)
    whole = demo_module.laid_over
    monkeypatch.setattr(demo_module, "laid_over", lambda base, path, given: whole(base, path, [*given, *SMALL[:-1]]))
    assert call("demo", "--out", tmp_path / "demo", "-q") == 0
    assert exported == [tmp_path / "demo" / "ProxylessKD"]
    page = (tmp_path / "demo" / "report.html").read_text()
    assert all(name in page for name in ("student alone", "KL", "JS", "ProxylessKD", "DeepConvLSTM", "ridge readout"))
    assert call("demo", "--out", tmp_path / "demo", "-q") == 2


def test_export_prints_its_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("proxylesskd.activity.export.export", lambda run: [run / "model.onnx"])
    assert call("export", "run") == 0
    assert "run/model.onnx" in capsys.readouterr().out
