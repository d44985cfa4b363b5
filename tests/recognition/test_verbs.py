"""The verbs and what they print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from proxylesskd.cli import main
from proxylesskd.recognition.gallery import Gallery
from tests.photos.pictures import write
from tests.recognition.stand_in import aligned

Say = Callable[..., str]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    # what a program does to the C library's memory is not for a process of many tests
    monkeypatch.setattr("proxylesskd.training.allocator.keep_freed_memory", lambda: False)

    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words)])
        told = capsys.readouterr()
        assert ended.value.code in (0, None), told.err
        return told.out

    return run


def test_verify(say: Say, model: Path, tmp_path: Path) -> None:
    a, b, c = (write(tmp_path / f"{k}.png", aligned(*who)) for k, who in enumerate([(0, 0), (0, 5), (1, 0)]))
    asked = ("--model", model, "--aligned")
    assert say("verify", a, b, *asked).startswith("same person: similarity 1.0000")
    assert say("verify", a, c, *asked, "--threshold", "0.9").startswith("different people: similarity ")
    told = json.loads(say("verify", a, b, *asked, "--json", "--far", "1e-2"))
    assert (told["same"], told["threshold"], told["far"]) == (True, 0.5, 1e-2)
    assert 0.99 < told["probability"] < 1


def test_enroll_and_identify(say: Say, model: Path, tmp_path: Path) -> None:
    for identity in range(2):
        write(tmp_path / f"people/id {identity}/1.png", aligned(identity))
    probe = write(tmp_path / "probe.png", aligned(0, 5))
    asked = ("--model", model, "--aligned", "--gallery", tmp_path / "g.pkd")
    assert json.loads(say("enroll", tmp_path / "people", *asked, "--json", "-q"))["enrolled"] == 2
    assert "0 of 2 photos, 2 before" in say("enroll", tmp_path / "people", *asked, "-q")
    assert Gallery(tmp_path / "g.pkd").counts() == {"id 0": 1, "id 1": 1}
    lines = say("identify", probe, *asked, "--engine", "numpy").splitlines()
    assert lines[0].startswith("id 0: similarity 1.0000")
    assert [line.split("  ")[2] for line in lines[1:]] == ["id 0", "id 1"]
    nobody = json.loads(say("identify", probe, *asked, "--threshold", "1", "--json", "-k", 1))
    assert nobody["identity"] is None
    assert [one["identity"] for one in nobody["candidates"]] == ["id 0"]


def test_compatible_leaves_a_page(say: Say, model: Path, tmp_path: Path) -> None:
    rows = ["first,second,same,fold"]
    for k in range(30):
        same = k % 2 == 0
        write(tmp_path / f"{k}/a.png", aligned(2 * k))
        write(tmp_path / f"{k}/b.png", aligned(2 * k if same else 2 * k + 1, 1))
        rows.append(f"{k}/a.png,{k}/b.png,{int(same)},{k // 6}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
    out = tmp_path / "out"
    told = say("compatible", model, model, tmp_path / "pairs.csv", "-o", out, "--replicates", 5, "-q").splitlines()
    assert told[0].startswith("Yes: at FAR 1e-1")
    assert told[-1] == f"page: {out / 'compatible.html'}"
    assert json.loads((out / "compatible.json").read_text(encoding="utf-8"))["answer"] == "yes"
    as_json = say("compatible", model, model, tmp_path / "pairs.csv", "-o", out, "--replicates", 5, "-q", "--json")
    assert json.loads(as_json)["cross"]["tar"][0]["far"] == 0.1
