import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proxylesskd as pk
from proxylesskd.comparison import compare
from proxylesskd.comparison.result import Comparison
from proxylesskd.evaluation.verification import fold_accuracy
from proxylesskd.export.run_folder import read_json
from tests.comparison.conftest import NETWORK, House, perform_here


def test_only_what_was_missing_is_done(house: House) -> None:
    assert house.said[0].startswith("embedding the gallery")
    assert house.said[1] == "3 of 4 cells are finished"
    assert house.said[2].startswith(f"[4/4] {NETWORK}, proxyless, seed 1: done in ")
    (folder,) = house.out.glob("tests*")
    for method in ("alone", "proxyless"):
        for seed in (0, 1):
            recipe = pk.load_recipe(folder / method / f"seed-{seed}" / "recipe.toml")
            assert (recipe.seed, recipe.method.name, recipe.train.steps) == (seed, method, 6)
    assert "OMP_NUM_THREADS" not in (folder / "proxyless" / "seed-1" / "cell.log").read_text()


def test_the_numbers_are_those_of_the_saved_scores(house: House, found: Comparison) -> None:
    pairs = pk.read_pairs(house.place / "test" / "pairs.csv")
    (folder,) = house.out.glob("tests*")
    for row in found.rows:
        for mode in ("single", "cross"):
            runs = [np.load(folder / row.method / f"seed-{seed}" / "scores.npz")[mode] for seed in (0, 1)]
            values = [fold_accuracy(run, pairs.same, pairs.fold).mean for run in runs]
            number = row.numbers[mode]["accuracy"]
            assert number.estimate.value == pytest.approx(np.mean(values))
            assert number.spread == pytest.approx(np.std(values, ddof=1))
            other = next(one for one in found.rows if one.method != row.method)
            gap = row.numbers[mode]["accuracy"].estimate.value - other.numbers[mode]["accuracy"].estimate.value
            assert number.minus_best is not None
            assert number.minus_best.value == pytest.approx(gap)


def test_a_paired_difference_agrees_with_the_librarys_own(house: House, found: Comparison) -> None:
    pairs = pk.read_pairs(house.place / "test" / "pairs.csv")
    (folder,) = house.out.glob("tests*")
    runs = {
        method: np.stack([np.load(folder / method / f"seed-{seed}" / "scores.npz")["cross"] for seed in (0, 1)])
        for method in ("alone", "proxyless")
    }
    wanted = pk.paired_difference(runs["proxyless"], runs["alone"], pairs, metric="tar@far=1e-2", replicates=40)
    (row,) = [row for row in found.rows if row.method == "proxyless"]
    assert row.numbers["cross"]["tar@far=0.01"].minus_baseline == wanted


def test_a_finished_comparison_is_made_of_files_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "run_tasks", lambda *_, **__: pytest.fail("something was run"))
    again = house.compare()
    assert not again.missing
    told = json.loads((house.out / "comparison.json").read_text())
    assert [row["method"] for row in told["rows"]] == ["alone", "proxyless"]
    assert told["teacher"]["single"]["accuracy"]["estimate"]["value"] > 0.9
    assert told["equal"]["budget"] == "6 steps"
    assert {"table.md", "table.csv", "report.html"} <= {path.name for path in house.out.iterdir()}


def test_other_settings_are_refused_before_anything_is_run(house: House) -> None:
    with pytest.raises(pk.UserError, match=r"found train\.steps = 6 in .* and 7 now"):
        house.compare("train.steps=7")


def test_a_failed_cell_is_reported_and_the_others_go_on(house: House, tmp_path: Path, here: None) -> None:
    found = house.compare(students=[f"{NETWORK}:dim=9"], methods=["proxyless", "alone"], seeds=[0], out=tmp_path)
    (failed,) = found.failed
    assert (failed.method, failed.seed) == ("proxyless", 0)
    assert "dimension 24" in str(failed.reason)
    (row,) = found.rows
    assert row.method == "alone"
    assert set(row.numbers) == {"single"}  # its dimension is not the teacher's
    assert row.numbers["single"]["accuracy"].minus_baseline is None
    assert "dimension 24" in (tmp_path / "table.md").read_text()
    assert "dimension 24" in (tmp_path / "report.html").read_text()
    assert "failed in" in house.said[-2]
    assert "done in" in house.said[-1]


def test_other_pairs_are_scored_without_training_again(house: House, tmp_path: Path, here: None) -> None:
    house.compare(methods=["proxyless"], seeds=[0], out=tmp_path / "out", train=True)
    (cell,) = (tmp_path / "out").glob("*/proxyless/seed-0")
    stamp = (cell / "student.safetensors").stat().st_mtime_ns
    lines = (house.place / "test" / "pairs.csv").read_text().splitlines()
    (tmp_path / "fewer.csv").write_text("\n".join(lines[:-3]) + "\n")
    options: dict[str, Any] = {"methods": ["proxyless"], "seeds": [0], "out": tmp_path / "out"}
    found = house.compare(pairs=tmp_path / "fewer.csv", root=house.place / "test", **options)
    assert len(np.load(cell / "scores.npz")["single"]) == len(lines) - 4
    assert not found.missing
    assert (cell / "student.safetensors").stat().st_mtime_ns == stamp


def test_without_teacher_there_is_one_mode_and_nothing_is_trained_unasked(
    house: House, tmp_path: Path, here: None
) -> None:
    options: dict[str, Any] = {"methods": ["alone"], "seeds": [0], "out": tmp_path}
    changes = ("method.teacher=''", "method.classifier=''", "train.steps=1")
    empty = house.compare(*changes, train=False, **options)
    assert [one.reason for one in empty.missing] == [None]
    assert not empty.failed
    assert not (tmp_path / "report.html").exists()
    found = house.compare(*changes, **options)
    assert found.teacher is None
    assert set(found.rows[0].numbers) == {"single"}
    assert set(found.to_dict()["equal"]) >= {"data, sha256", "pairs, sha256"}


def test_time_is_shared_out_by_the_speed_of_each_method(house: House, tmp_path: Path, here: None) -> None:
    speeds = {"alone": 0.5, "proxyless": 0.25}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxylesskd.comparison.asked.try_steps", lambda cell, *_: speeds[cell.method])
        found = house.compare("train.steps=2", seeds=[0], budget="time", out=tmp_path)
    assert [row.steps for row in found.rows] == [2, 4]
    assert found.equal["budget"] == "equal time: 2 to 4 steps"
    assert len(read_json(tmp_path / "budget.json") or {}) == 2


def test_a_method_that_hears_the_teacher_finds_its_cache_made(
    house: House, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = house.compare("train.steps=2", methods=["l2"], seeds=[0], out=tmp_path / "out")
    assert not found.missing
    assert any(line.startswith("embedding 36 training faces") for line in house.said)
    assert list((tmp_path / "cache").rglob("*"))


def test_what_would_be_refused_later_is_no_reason_to_embed(house: House) -> None:
    recipe = pk.recipe.override_recipe(house.recipe, "method.name=at")
    assert not compare._hears_cache(pk.recipe.override_recipe(recipe, "method.cache=cached"))
    assert not compare._hears_cache(recipe)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": "tiem"}, "did you mean 'time'"),
        ({"jobs": 0}, "at least one job"),
        ({"baseline": "alnoe"}, "did you mean 'alone'"),
        ({"headline": "tar@far=1e-4"}, "which these pairs support"),
        ({"pairs": "nowhere.csv"}, "found no file"),
        ({"methods": ["proxles"]}, "did you mean 'proxyless'"),
    ],
)
def test_wrong_requests_are_refused(options: dict[str, Any], said: str, house: House) -> None:
    with pytest.raises(pk.UserError, match=said):
        house.compare(**options)


def test_an_audit_stops_before_a_cell_is_run(house: House, tmp_path: Path) -> None:
    right = pk.InheritedClassifier.load(house.place / "c.safetensors")
    pk.InheritedClassifier(right.rows.roll(1, 0), right.identities, {}).save(tmp_path / "moved.safetensors")
    with pytest.raises(pk.UserError, match="the audit failed"):
        house.compare(f"method.classifier={tmp_path / 'moved.safetensors'}", out=tmp_path / "out", audit=True)
    with pytest.raises(pk.UserError, match="training faces"):
        house.compare("data.train=''", out=tmp_path / "out")


def test_long_trainings_say_how_far_they_are(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(tasks: Any, *, ended: Any, beat: Any, **_: Any) -> bool:
        beat(tasks)
        (Path(tasks[0].folder) / "metrics.jsonl").write_text('{"step": 20, "loss": 3.25}\n')
        beat(tasks)
        return perform_here(tasks, ended=ended)

    monkeypatch.setattr(compare, "run_tasks", run)
    house.compare(methods=["proxyless"], seeds=[7], out=tmp_path)
    name = f"  {NETWORK}, proxyless, seed 7: "
    assert [line for line in house.said if line.startswith(name)][-2:] == [f"{name}begun", f"{name}step 20, loss 3.250"]
