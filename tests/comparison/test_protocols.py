import csv
import dataclasses
import io
import json
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace
from typing import Any

import pytest

import proxylesskd as pk
from proxylesskd.comparison.protocols import checked, is_taken, outcomes_of, sheets, take_all, way_of
from proxylesskd.comparison.result import Comparison, Mean
from proxylesskd.comparison.sheets import mean_text, spoken
from proxylesskd.comparison.tables import to_csv, to_markdown
from proxylesskd.errors import UserError
from proxylesskd.protocols.outcome import Measure, Outcome
from tests.comparison.conftest import House


def outcome(values: dict[str, float | None], mode: str = "single", title: str = "Set", allowed: int = 50) -> Outcome:
    measures = {name: Measure(value, 0.1, 0.9, allowed=allowed) for name, value in values.items()}
    return Outcome(title, "m", None, {"images": 1}, {mode: measures})


def cell(method: str, seed: int, student: str = "net") -> Any:
    return SimpleNamespace(student=student, method=method, seed=seed)


def test_means_are_over_the_seeds_and_never_over_some_of_them() -> None:
    taken = [
        (cell("a", 0), [outcome({"x": 0.5, "y": 0.2})]),
        (cell("a", 4), [outcome({"x": 0.7, "y": None})]),
        (cell("b", 0), [outcome({"x": 0.9}, allowed=9), outcome({"x": 0.1}, "cross")]),
    ]
    single, cross = sheets(taken, ("teacher", [outcome({"x": 1.0})]))
    assert (single.mode, single.names, single.seeds) == ("single", ("x",), {"a": (0, 4), "b": (0,), "teacher": ()})
    assert single.rows["a"] == {"x": Mean(mean([0.5, 0.7]), stdev([0.5, 0.7]))}
    assert single.rows["b"] == {"x": Mean(0.9, None, 0.1, 0.9, few=True)}
    assert single.rows["teacher"]["x"].value == 1.0
    assert (cross.mode, cross.rows) == ("cross", {"b": {"x": Mean(0.1, None, 0.1, 0.9)}})


def test_students_and_protocols_have_sheets_of_their_own() -> None:
    taken = [
        (cell("a", 0, "one"), [outcome({"x": 0.5}), outcome({"x": 0.6}, title="Other")]),
        (cell("a", 0, "two"), [outcome({"x": 0.7})]),
    ]
    told = [(sheet.student, sheet.protocol, sheet.rows["a"]["x"].value) for sheet in sheets(taken, None)]
    assert told == [("one", "Set", 0.5), ("one", "Other", 0.6), ("two", "Set", 0.7)]


def test_texts() -> None:
    assert mean_text(None) == "-"
    assert mean_text(Mean(0.712, 0.004)) == "71.2 ± 0.4"
    assert mean_text(Mean(0.712, None, 0.69, 0.731, few=True)) == "~71.2 [69.0, 73.1]"
    assert mean_text(Mean(0.712)) == "71.2"
    names = ("African/tar@far=0.001", "tpir@fpir=0.01", "rank-1", "accuracy")
    assert [spoken(name) for name in names] == ["African/TAR@FAR=1e-3", "TPIR@FPIR=1e-2", "rank-1", "accuracy"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pairs.csv", "expected a protocol such as ijbc:FOLDER, found 'pairs.csv'"),
        ("ijcb:/x", "did you mean 'ijbc'"),
        ("own:/nowhere/list.csv", "found nothing there"),
    ],
)
def test_what_is_no_protocol_stops_before_training(text: str, found: str) -> None:
    with pytest.raises(UserError, match=found):
        checked([text])


def test_another_list_or_gallery_is_another_way(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one")
    text = f"own:{tmp_path / 'a.csv'}"
    ways = {way_of(text, ""), way_of(text, "g"), way_of("own:elsewhere", "")}
    (tmp_path / "a.csv").write_text("two")
    assert len(ways | {way_of(text, "")}) == 4


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Embeddings of protocols are kept in the test's folder."""
    monkeypatch.setattr("proxylesskd.comparison.protocols.evaluation_folder", lambda: tmp_path / "kept")
    return tmp_path / "kept"


@pytest.fixture
def listed(house: House) -> str:
    """Every pair of the first identities of the test faces."""
    source = pk.open_source(str(house.place / "test"))
    lines = [f"{source.name(i)},{source.labels[i]}" for i in range(30)]
    path = house.place / "test" / "identities.csv"
    path.write_text("\n".join(["path,identity", *lines]) + "\n")
    return f"allpairs:{path}"


@pytest.mark.usefixtures("here")
def test_a_comparison_takes_protocols_beside_the_pairs(house: House, kept: Path, listed: str) -> None:
    assert not house.compare(train=False).protocols
    found = house.compare(protocols=[listed])
    assert not found.missing
    (teacher,) = [json.loads(path.read_text())["model"] for path in kept.glob("*/embeddings.json")]
    assert teacher == pk.load_teacher(house.recipe.method.teacher).fingerprint  # of cells nothing is kept
    single, cross = found.protocols
    assert set(single.rows) == {"alone", "proxyless", "teacher"}
    for sheet, method in ((single, "alone"), (single, "proxyless"), (cross, "proxyless")):
        each = [
            json.loads(path.read_text())["measures"][sheet.mode]["eer"]["value"]
            for path in house.out.glob(f"*/{method}/seed-*/protocols/*/outcome.json")
        ]
        assert sheet.rows[method]["eer"].value == pytest.approx(mean(each), abs=1e-12)
        assert sheet.rows[method]["eer"].spread == pytest.approx(stdev(each), abs=1e-12)
    _written(found)
    stamps = {path: path.stat().st_mtime_ns for path in house.out.rglob("outcome.json")}
    assert house.compare(train=False, protocols=[listed]).protocols == found.protocols
    assert not house.compare(protocols=[listed]).missing
    assert stamps == {path: path.stat().st_mtime_ns for path in house.out.rglob("outcome.json")}


def _written(found: Comparison) -> None:
    """Every number stands in all files."""
    folder, number = found.folder, found.protocols[0].rows["proxyless"]["eer"]
    told = json.loads((folder / "comparison.json").read_text())["protocols"][0]["rows"]["proxyless"]["eer"]
    assert told["value"] == number.value
    lines = [line for line in csv.DictReader(io.StringIO(to_csv(found))) if line["metric"].endswith(": eer")]
    (line,) = [line for line in lines if (line["mode"], line["method"]) == ("single", "proxyless")]
    assert (float(line["value"]), float(line["seed_deviation"]), line["seeds"]) == (number.value, number.spread, "0 1")
    assert mean_text(number) in to_markdown(found)
    page = (folder / "report.html").read_text()
    assert page.count(f"{found.protocols[0].protocol}, single-model") == 1
    assert mean_text(number) in page


def test_what_was_interrupted_is_taken_again(house: House, kept: Path, listed: str, tmp_path: Path) -> None:
    model = pk.load_teacher(house.recipe.method.teacher)
    take_all(tmp_path / "run", model, [listed])
    assert is_taken(tmp_path / "run", [listed], "")
    assert not is_taken(tmp_path / "run", [listed], "another")
    (one,) = outcomes_of(tmp_path / "run", [listed], "")
    next((tmp_path / "run").rglob("outcome.json")).unlink()
    assert not is_taken(tmp_path / "run", [listed], "")
    assert outcomes_of(tmp_path / "run", [listed], "") == []
    take_all(tmp_path / "run", model, [listed])
    (again,) = outcomes_of(tmp_path / "run", [listed], "")
    assert dataclasses.asdict(again)["measures"] == dataclasses.asdict(one)["measures"]
    assert kept.is_dir()
