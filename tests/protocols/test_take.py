from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import torch

import proxylesskd as pk
from proxylesskd.cli import main
from proxylesskd.data.source import open_source
from proxylesskd.errors import UserError
from proxylesskd.protocols.outcome import Outcome, read_outcomes
from proxylesskd.protocols.take import PROTOCOLS, evaluation_folder, protocol_of, save_outcome, take_protocol
from proxylesskd.protocols.write_ijb import write_ijb
from tests.protocols.people import Blind, Tinted, name_of, write_csv, write_people


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people with lists for pairs and for an open set, and a tiny network."""
    place = tmp_path_factory.mktemp("sets")
    faces = write_people(place / "faces", 6, 3)
    images = [(i, k) for i in range(6) for k in range(3)]
    pairs = [(name_of(*a), name_of(*b), int(a[0] == b[0]), n % 3) for n, (a, b) in enumerate(combinations(images, 2))]
    for name in ("pairs", "more"):
        write_csv(faces / f"{name}.csv", "first,second,same,fold", pairs)
    roles = ["gallery", "probe", "probe"]
    listed = [(name_of(i, k), f"p{i}", roles[k] if i < 4 else "distractor" if i == 4 else "probe") for i, k in images]
    write_csv(faces / "open.csv", "path,identity,role", listed)
    torch.manual_seed(0)
    model = pk.create_model("mobilefacenet", dim=16, width=0.125, image_size=48)
    pk.save_model(place / "model.safetensors", model, pk.Preprocessing(size=48))
    return place


def test_every_protocol_that_is_listed_is_there(place: Path) -> None:
    for name in PROTOCOLS:
        with pytest.raises(UserError, match=r"expected .+, found"):
            take_protocol(f"{name}:{place / 'nowhere'}", Blind())


def test_names_and_paths_are_told_apart(tmp_path: Path) -> None:
    assert protocol_of("lfw.bin") is None
    assert protocol_of("C:lfw.bin") is None  # a drive
    found = protocol_of("openset:a:b.csv")
    assert found is not None
    assert found[1] == "a:b.csv"
    with pytest.raises(UserError, match=r"did you mean 'ijbc'\?"):
        protocol_of("ijcb:folder")
    with pytest.raises(UserError, match="expected a protocol"):
        take_protocol("lfw.bin", Blind())


def test_an_option_that_a_protocol_does_not_have_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match="expected no quality"):
        take_protocol(f"openset:{place / 'faces' / 'open.csv'}", Blind(), quality=["norm"])


def test_an_outcome_stands_where_reports_look(place: Path, tmp_path: Path) -> None:
    [outcome] = take_protocol(
        f"openset:{place / 'faces' / 'open.csv'}", Blind(), gallery=Tinted(), replicates=20, cache=None
    )
    folder = save_outcome(outcome, tmp_path)
    assert folder.parent == tmp_path / "protocols"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".svg"}
    assert read_outcomes(tmp_path)[outcome.protocol].to_dict() == outcome.to_dict()


def test_a_name_of_signs_alone_makes_a_folder(tmp_path: Path) -> None:
    assert save_outcome(Outcome("***", "m", None, {}, {"single": {}}), tmp_path).name == "protocol"


def test_the_verb_takes_pairs_and_protocols_together(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2", reason="crops are cut by OpenCV")
    write_ijb(open_source(str(place / "faces")), tmp_path / "ijb", most=1)
    faces, model = place / "faces", str(place / "model.safetensors")
    sets = [
        str(faces / "pairs.csv"),
        str(faces / "more.csv"),
        f"openset:{faces / 'open.csv'}",
        f"ijbc:{tmp_path / 'ijb'}",
    ]
    options = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--replicates", "20", "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", model, *sets, "--gallery", model, *options])
    assert ended.value.code in (0, None)
    printed = capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert told["pairs"]["name"] == "pairs"
    names = set(read_outcomes(tmp_path / "out"))
    assert {"pairs, more", "open-set identification, open"} < names
    assert any("1:1" in name for name in names)
    assert any("1:N" in name for name in names)
    assert "rank-1" in printed
    assert (tmp_path / "cache").is_dir()


def test_a_misspelled_protocol_stops_before_anything_is_measured(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(place / "model.safetensors"), str(place / "faces" / "pairs.csv"), "opnset:x.csv",
              "--out", str(tmp_path / "out")])  # fmt: skip
    assert ended.value.code == 2
    assert "did you mean 'openset'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, arguments), "--quiet"])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["openset:nowhere.csv"], "expected for 'openset:nowhere.csv': CSV path,identity,role; found nothing there"),
        (["ijbc:"], "folder of meta/ and loose_crop/; found nothing there"),
        (["nowhere.bin"], "expected a verification set (.bin, pairs.txt, .csv) or a protocol, found no file"),
    ],
)
def test_what_is_missing_stops_before_anything_is_measured(
    sets: list[str], told: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = str(place / "faces" / "pairs.csv")
    found = refused(capsys, place / "model.safetensors", before, *sets, "--out", tmp_path / "out")
    assert told in found
    assert not (tmp_path / "out").exists()


def test_an_option_is_for_the_sets_that_have_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """BLUFR has no replicates: alone it refuses them, beside a set that has some it is taken without."""
    model, faces = str(place / "model.safetensors"), place / "faces"
    options = ["--out", tmp_path / "out", "--cache", tmp_path / "cache"]
    assert "expected no replicates for blufr:" in refused(capsys, model, f"blufr:{faces}", "--replicates", 5, *options)
    assert "expected no quality for " in refused(capsys, model, faces / "pairs.csv", "--quality", "norm", *options)
    sets = [f"blufr:{faces}", f"allpairs:{faces}"]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", model, *sets, "--replicates", "5", *map(str, options), "--quiet"])
    assert ended.value.code in (0, None)
    found = read_outcomes(tmp_path / "out")
    assert found["all pairs, faces"].drawn["replicates"] == 5
    assert found["BLUFR, faces"].drawn["replicates"] == 0


def test_the_cache_of_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert evaluation_folder().name == "evaluation"
