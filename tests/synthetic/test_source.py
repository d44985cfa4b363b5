from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proxylesskd.data.source import open_source
from proxylesskd.errors import UserError
from proxylesskd.synthetic import faces
from proxylesskd.synthetic.head import Head
from proxylesskd.synthetic.source import SyntheticSource
from proxylesskd.synthetic.synthesize import Task, _start_worker, synthesize, write_identity


def digest(folder: Path) -> dict[str, str]:
    found = sorted(folder.rglob("*.jpg"))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.mark.usefixtures("cached_head")
def test_folders_do_not_depend_on_workers_and_equal_the_source(tmp_path: Path) -> None:
    for workers in (1, 2):
        synthesize(
            tmp_path / str(workers), identities=2, images=2, test_identities=1, seed=3, workers=workers, progress=False
        )
    one, two = digest(tmp_path / "1"), digest(tmp_path / "2")
    assert one == two
    assert sorted(one) == [
        f"{part}/id-{i:05d}/{k:03d}.jpg" for part, i in (("test", 2), ("train", 0), ("train", 1)) for k in (0, 1)
    ]
    assert len(set(one.values())) == 6
    source = open_source("synthetic:identities=2,images=2,seed=3")
    for index in range(4):
        data, label = source.read(index)
        assert hashlib.sha256(data).hexdigest() == one[f"train/{source.name(index)}"]
        assert label == source.labels[index] == index // 2
    held_out = SyntheticSource.parse("identities=1,images=2,seed=3,first=2")
    assert hashlib.sha256(held_out.read(1)[0]).hexdigest() == one["test/id-00002/001.jpg"]
    note = json.loads((tmp_path / "1" / "synthetic.json").read_text())
    assert (note["seed"], note["identities"], note["test_identities"]) == (3, 2, 1)
    assert "CC0" in (tmp_path / "1" / "README.txt").read_text()


@pytest.mark.usefixtures("cached_head")
def test_pictures_are_112_rgb_and_seeds_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [faces.face_jpeg(seed, 0, 0) for seed in (0, 1, 0)]
    image = Image.open(io.BytesIO(pictures[0]))
    assert (image.size, image.mode, image.format) == ((112, 112), "RGB", "JPEG")
    assert pictures[0] == pictures[2] != pictures[1]


@pytest.mark.usefixtures("cached_head")
def test_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _start_worker(str(tmp_path / "cache"))
    assert write_identity(Task(tmp_path / "x", 0, 1, 2)) == 2
    assert len(list((tmp_path / "x").iterdir())) == 2


def test_parsing() -> None:
    source = SyntheticSource.parse(" identities=3, images=4 ,seed=9")
    assert (len(source), source.seed, source.identities) == (12, 9, ["id-00000", "id-00001", "id-00002"])
    assert source.labels.tolist() == np.repeat([0, 1, 2], 4).tolist()
    assert source.name(5) == "id-00001/001.jpg"
    assert len(SyntheticSource.parse("")) == 200 * 20


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("identites=3", "did you mean 'identities'"),
        ("images=many", "whole number for 'images'"),
        ("seed", "whole number for 'seed'"),
        ("seed=-1", "seed of at least 0"),
        ("identities=0", "at least 1 identity"),
    ],
)
def test_parsing_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        open_source(f"synthetic:{text}")


def test_index_outside() -> None:
    with pytest.raises(IndexError):
        SyntheticSource(2, 2).read(4)


def test_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'proxylesskd\[synthetic\]'"):
        SyntheticSource.parse("")


@pytest.mark.usefixtures("cached_head")
def test_synthesize_says_what_is_wrong(tmp_path: Path, head: Head) -> None:
    with pytest.raises(UserError, match="identities of at least 0"):
        synthesize(tmp_path, identities=-1, images=1)
    with pytest.raises(UserError, match="at least 1 identity and 1 image"):
        synthesize(tmp_path, identities=1, images=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="folder to write to"):
        synthesize(tmp_path / "file", identities=1, images=1, progress=False)


@pytest.mark.usefixtures("cached_head")
def test_other_faces_are_not_mixed_in(tmp_path: Path) -> None:
    for _ in range(2):  # making the same faces again is fine, and mends what was interrupted
        synthesize(tmp_path, identities=1, images=1, workers=1)
    before = digest(tmp_path)
    with pytest.raises(UserError, match="no other faces"):
        synthesize(tmp_path, identities=1, images=2, workers=1, progress=False)
    assert digest(tmp_path) == before
    (tmp_path / "synthetic.json").unlink()
    with pytest.raises(UserError, match="no other faces"):
        synthesize(tmp_path, identities=1, images=1, workers=1, progress=False)


def test_a_worker_ends_with_its_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = type("Gone", (), {"is_alive": staticmethod(lambda: False)})()
    monkeypatch.setattr("multiprocessing.parent_process", lambda: gone)
    with pytest.raises(SystemExit):
        write_identity(Task(tmp_path / "id", 0, 0, 1))
    assert not (tmp_path / "id").exists()
