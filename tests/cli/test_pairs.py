"""``proxylesskd pairs``: what is written is read by the protocols, and by others' readers."""

from __future__ import annotations

import csv
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from proxylesskd.cli import app, main
from proxylesskd.data.pairs import read_pairs
from proxylesskd.protocols.ijb_meta import read_ijb
from tests.faces import write_faces
from tests.protocols.people import name_of, write_csv, write_people


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("pairs") / "faces", 24, 3)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return str(result.output)


def test_a_list_is_drawn(faces: Path, tmp_path: Path) -> None:
    told = run("pairs", faces, "-o", tmp_path / "p.csv", "--genuine", 20, "--impostor", 30, "--seed", 2)
    assert told.startswith("50 pairs of ")
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert sum(int(row["same"]) for row in rows) == 20
    for row in rows:
        first, second = ((tmp_path / row[key]).resolve() for key in ("first", "second"))
        assert first.is_file()
        assert (first.parent == second.parent) == bool(int(row["same"]))


def test_a_list_of_ones_own_is_packed_and_pickle_reads_it(tmp_path: Path) -> None:
    write_people(tmp_path / "images", 2, 2)
    rows = [(name_of(0, 0), name_of(0, 1), 1), (name_of(0, 1), name_of(1, 0), 0), (name_of(1, 0), name_of(1, 1), 1)]
    listed = write_csv(tmp_path / "mine.csv", "first,second,same", rows)
    assert run("pairs", listed, "--root", tmp_path / "images", "-o", tmp_path / "mine.bin").startswith("3 pairs of 4")
    encoded, same = pickle.loads((tmp_path / "mine.bin").read_bytes())
    assert same == [True, False, True]
    wanted = [name for row in rows for name in row[:2]]
    for data, name in zip(encoded, wanted, strict=True):  # small pictures are read as faces of 112 pixels
        assert Image.open(io.BytesIO(data)).size == (112, 112)
        assert data == encoded[wanted.index(name)]
    whole, read = read_pairs(listed, tmp_path / "images"), read_pairs(tmp_path / "mine.bin")
    np.testing.assert_array_equal(read.images[read.first], whole.images[whole.first])
    np.testing.assert_array_equal(read.images[read.second], whole.images[whole.second])


def test_a_drawn_bin_is_the_drawn_list(faces: Path, tmp_path: Path) -> None:
    for name in ("p.csv", "p.bin"):
        run("pairs", f"folder:{faces}", "-o", tmp_path / name, "--genuine", 20, "--impostor", 20)
    listed, packed = read_pairs(tmp_path / "p.csv"), read_pairs(tmp_path / "p.bin")
    assert sorted(listed.same.tolist()) == sorted(packed.same.tolist())
    assert {image.tobytes() for image in listed.images} == {image.tobytes() for image in packed.images}


@pytest.mark.parametrize("subset", ["ijbb", "ijbc"])
def test_templates_are_written_and_say_how_to_use_them(subset: str, faces: Path, tmp_path: Path) -> None:
    told = run("pairs", faces, "-o", f"{subset}:{tmp_path / 'own'}", "--impostor", 40, "--most", 2, "--quiet")
    assert told.splitlines()[0] == "72 images written, 0 that cannot be read left out"
    assert told.splitlines()[-1] == f"evaluate with it: proxylesskd evaluate MODEL {subset}:{tmp_path / 'own'}"
    found = read_ijb(tmp_path / "own", subset=subset)
    assert found.pairs is not None
    assert int((~found.pairs.same).sum()) == 40
    assert np.bincount(found.template).max() <= 2
    assert found.name == "own"


def test_what_cannot_be_read_is_told(faces: Path, tmp_path: Path) -> None:
    copy = write_faces(tmp_path / "faces", 4, 3)
    (copy / "id-001" / "002.jpg").write_bytes(b"no image")
    told = run("pairs", copy, "-o", f"ijbc:{tmp_path / 'own'}", "--quiet")
    assert "11 images written, 1 that cannot be read left out" in told
    assert "left out: id-001/002.jpg: " in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FACES", "-o", "pairs.bim"], "expected FILE.csv, FILE.bin, ijbb:DIR or ijbc:DIR to write, found 'pairs.bim'"),
        (["FACES", "-o", "ijba:x"], "expected FILE.csv, FILE.bin, ijbb:DIR or ijbc:DIR to write, found 'ijba:x'"),
        (["FACES", "-o", "ijbc:"], "expected a folder to write, found 'ijbc:' alone"),
        (["FACES", "-o", "ijbc:x", "--genuine", "3"], "all of whose pairs count, found --genuine"),
        (["LIST", "-o", "ijbc:x"], "expected a source of labelled faces"),
        (["LIST", "-o", "x.csv"], "expected FILE.bin to pack"),
        (["LIST", "-o", "x.bin", "--genuine", "3"], "found --genuine or --impostor"),
        (["FACES", "-o", "x.bin", "--root", "y"], "expected a list of pairs with --root"),
        (["FACES", "-o", "ijbc:x", "--impostor", "0"], "1 impostor pair, found 8 and 0"),
        (["FACES", "-o", "ijbc:x", "--most", "0"], "at least 1 image a template"),
    ],
)
def test_what_means_nothing_is_refused(
    arguments: list[str], message: str, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = write_csv(tmp_path / "list.csv", "first,second,same", [("a", "b", 1)])
    places = {"FACES": str(faces), "LIST": str(listed)}
    with pytest.raises(SystemExit) as ended:
        main(["pairs", *[places.get(argument, argument) for argument in arguments]])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
