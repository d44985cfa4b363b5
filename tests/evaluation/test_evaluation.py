from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

from proxylesskd.data.pairs import Pairs, make_pairs, write_pairs_csv
from proxylesskd.errors import UserError
from proxylesskd.evaluation import Evaluation, evaluate
from proxylesskd.evaluation.bootstrap import bootstrap, make_metric
from proxylesskd.evaluation.evaluation import FARS, measure
from proxylesskd.export.measured import read_evaluation
from tests.evaluation.samples import best_tar, people, scores_of, set_of, tied_scores
from tests.faces import ColourEmbedder, MemorySource, tiny_student


class Noisy(ColourEmbedder):
    """A worse model of the same space: its noise belongs to the image, so that it is a function."""

    name = "noisy"

    def __init__(self, amount: float = 0.15) -> None:
        self.amount = amount

    def embed(self, images: Tensor) -> Tensor:
        clean = super().embed(images)
        seeds = images.flatten(1).sum(dim=1, dtype=torch.int64).tolist()
        noise = torch.stack([torch.randn(147, generator=torch.Generator().manual_seed(s)) for s in seeds])
        return torch.nn.functional.normalize(clean + self.amount * noise)


@pytest.fixture(scope="module")
def faces() -> Pairs:
    return make_pairs(MemorySource(24, 4), genuine=30, impostor=60, folds=5)


@pytest.fixture(scope="module")
def saved(faces: Pairs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    """An evaluation in both modes and the new folder it was saved into."""
    found = evaluate(Noisy(), faces, gallery=ColourEmbedder(), replicates=20)
    folder = tmp_path_factory.mktemp("run") / "new" / "folder"
    found.save(folder)
    return found, folder


def never(value: str) -> Any:
    raise AssertionError(f"{value} is no JSON")


def strictly(text: str) -> Any:
    """Parse JSON as RFC 8259 has it: neither NaN nor Infinity."""
    return json.loads(text, parse_constant=never)


def test_every_number_another_way() -> None:
    pairs = people(20, 4, 400)
    scores = scores_of(pairs)
    found = measure(scores, pairs, replicates=60, seed=3)
    assert found.auc.value == pytest.approx(roc_auc_score(pairs.same, scores), abs=1e-9)
    accuracies = []
    for fold in range(5):
        others, mine = pairs.fold != fold, pairs.fold == fold
        rights = [((scores[others] >= t) == pairs.same[others]).sum() for t in np.unique(scores)]
        threshold = np.unique(scores)[::-1][int(np.argmax(rights[::-1]))]
        accuracies.append(((scores[mine] >= threshold - 0.005) == pairs.same[mine]).mean())  # scores have two decimals
    assert found.accuracy.value == pytest.approx(np.mean(accuracies), abs=1e-12)
    assert found.accuracy_std == pytest.approx(np.std(accuracies), abs=1e-12)
    for far, rate in found.tar.items():
        if far >= 1 / 400:
            assert rate.tar is not None
            assert rate.tar.value == rate.value == best_tar(scores, pairs.same, far)
            assert rate.allowed == int(400 * far)
            assert (scores[pairs.same] >= rate.threshold).mean() == rate.value
            assert (scores[~pairs.same] >= rate.threshold).sum() <= rate.allowed
    accepted = scores >= found.eer_threshold - 0.01
    assert abs(accepted[~pairs.same].mean() - found.eer) < 0.05
    values = bootstrap({"auc": make_metric("auc")}, scores, pairs, replicates=60, seed=3)["auc"]
    assert (found.auc.lower, found.auc.upper) == pytest.approx(np.nanquantile(values, [0.025, 0.975]))


def test_rates_that_the_pairs_cannot_support_are_none() -> None:
    pairs = people(20, 4, 400)
    found = measure(scores_of(pairs), pairs, replicates=10)
    assert tuple(found.tar) == FARS
    for far in (1e-3, 1e-4, 1e-5, 1e-6):
        rate = found.tar[far]
        assert (rate.tar, rate.threshold, rate.allowed) == (None, None, 0)
        assert np.isnan(rate.value)
    edge = measure(scores_of(pairs), pairs, replicates=0, fars=[1 / 400, np.nextafter(1 / 400, 0)])
    assert [rate.tar is None for rate in edge.tar.values()] == [False, True]


def test_rates_may_be_numbers_of_numpy_or_whole() -> None:
    pairs = people(20, 4, 400)
    found = measure(scores_of(pairs), pairs, replicates=5, fars=np.array([0.1, 0.01]))  # type: ignore[arg-type]
    assert [type(far) for far in found.tar] == [float, float]
    assert measure(scores_of(pairs), pairs, replicates=5, fars=[1]).tar[1.0].value == 1.0


def test_intervals_hold_their_values_and_repeat() -> None:
    pairs = people(20, 4, 400)
    scores = scores_of(pairs)
    found = measure(scores, pairs, replicates=200, seed=1)
    for estimate in (found.accuracy, found.auc, found.tar[0.1].tar):
        assert estimate is not None
        assert estimate.lower is not None
        assert estimate.upper is not None
        assert 0 <= estimate.lower < estimate.value < estimate.upper <= 1
    assert measure(scores, pairs, replicates=200, seed=1).auc == found.auc
    assert measure(scores, pairs, replicates=200, seed=2).auc != found.auc


def test_without_replicates_there_are_no_intervals() -> None:
    pairs = people(20, 4, 400)
    found = measure(scores_of(pairs), pairs, replicates=0)
    assert (found.auc.lower, found.auc.upper) == (None, None)
    assert found.tar[0.1].tar is not None
    assert found.tar[0.1].tar.lower is None


def test_a_single_genuine_pair() -> None:
    """The one replicate drawn here lacks it: there is no interval, and no number that is none."""
    pairs = set_of(np.arange(30) == 4)
    for seed in range(6):
        found = measure(scores_of(pairs), pairs, replicates=1, seed=seed)
        drawn = np.random.default_rng(seed).integers(30, size=30)
        assert (found.auc.lower is None) == (4 not in drawn)
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_one_score_for_all_is_a_coin(value: float) -> None:
    pairs = people(6, 4, 40)
    found = measure(np.full(len(pairs), value), pairs, replicates=30)
    assert (found.auc.value, found.eer, found.tar[0.1].value) == (0.5, 0.5, 0.0)
    assert found.tar[0.1].threshold == np.nextafter(value, 2)
    result = Evaluation("flat", "made", found, None, None, {"unit": "identities", "replicates": 30, "seed": 0})
    told = strictly(json.dumps(result.to_dict()))
    assert told["single"]["tar"][0]["threshold"] == np.nextafter(value, 2)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_saved_is_strict_json(seed: int) -> None:
    scores, same = tied_scores(1 + 3 * seed, 40 - 5 * seed, seed=seed)
    told = measure(scores, set_of(same), replicates=5, fars=(1.0, 0.5, 1e-1, 1e-3)).to_dict()
    assert strictly(json.dumps(told, allow_nan=False)) == told


def plain_scores(gallery: ColourEmbedder, probe: ColourEmbedder, pairs: Pairs) -> np.ndarray:
    one, other = (model.embed(torch.from_numpy(pairs.images)).double().numpy() for model in (gallery, probe))
    return np.array([one[a] @ other[b] for a, b in zip(pairs.first, pairs.second, strict=True)])


def test_both_modes(faces: Pairs) -> None:
    teacher, student = ColourEmbedder(), Noisy()
    found = evaluate(student, faces, gallery=teacher, replicates=20, seed=4)
    assert (found.name, found.pairs, found.gallery) == ("noisy", "pairs", "colours")
    assert found.resampling == {"unit": "identities", "replicates": 20, "seed": 4}
    assert set(found.modes()) == {"single", "cross"}
    assert found.cross is not None
    np.testing.assert_allclose(found.single.scores, plain_scores(student, student, faces), atol=1e-6)
    np.testing.assert_allclose(found.cross.scores, plain_scores(teacher, student, faces), atol=1e-6)
    assert found.single.auc.value == pytest.approx(roc_auc_score(faces.same, found.single.scores), abs=1e-9)


def test_without_a_gallery_there_is_one_mode(faces: Pairs) -> None:
    found = evaluate(Noisy(), replace(faces, identities=None), replicates=0, name="mine", flip=True)
    assert (found.name, found.gallery, found.cross, set(found.modes())) == ("mine", None, None, {"single"})
    assert found.resampling["unit"] == "pairs"
    unflipped = evaluate(Noisy(), faces, replicates=0)
    assert np.abs(found.single.scores - unflipped.single.scores).max() > 1e-3


def test_pairs_by_path_and_a_module(faces: Pairs, tmp_path: Path) -> None:
    for name, image in zip(faces.image_names, faces.images, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{name}.png")
    named = replace(faces, image_names=[f"{name}.png" for name in faces.image_names])
    write_pairs_csv(named, tmp_path / "list.csv")
    module = tiny_student(8).eval()
    found = evaluate(module, tmp_path / "list.csv", replicates=0)
    np.testing.assert_allclose(found.single.scores, evaluate(module, faces, replicates=0).single.scores, atol=1e-6)


def test_models_of_other_dimensions(faces: Pairs) -> None:
    with pytest.raises(UserError, match="of the probe's dimension 8, found 147 by colours"):
        evaluate(tiny_student(8).eval(), faces, gallery=ColourEmbedder())


def test_a_diverged_student_names_an_image(faces: Pairs) -> None:
    module = tiny_student(8).eval()
    torch.nn.init.constant_(module[2].weight, float("nan"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"among the images '{faces.image_names[0]}' to"):
        evaluate(module, faces, replicates=0)
    sound = tiny_student(8).eval()
    with pytest.raises(UserError, match=f"among the images '{faces.image_names[0]}' to"):
        evaluate(sound, faces, gallery=module, replicates=0)


class Untouched(ColourEmbedder):
    def embed(self, images: Tensor) -> Tensor:
        raise AssertionError(f"an hour of embedding {len(images)} images before the message")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pairs: {"pairs": replace(pairs, same=np.ones_like(pairs.same))}, "found no impostor pair"),
        (lambda pairs: {"pairs": replace(pairs, same=np.zeros_like(pairs.same))}, "found no genuine pair"),
        (lambda pairs: {"pairs": replace(pairs, fold=np.zeros_like(pairs.fold))}, "at least two folds"),
        (lambda _: {"replicates": -1}, "found -1"),
        (lambda _: {"fars": (0.1, 0.0)}, "false accept rates in .0, 1., found 0"),
        (lambda _: {"fars": (1.5,)}, "found 1.5"),
        (lambda _: {"fars": (float("nan"),)}, "found nan"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_embedding(
    faces: Pairs, change: Callable[[Pairs], dict[str, Any]], message: str
) -> None:
    arguments = {"pairs": faces, **change(faces)}
    with pytest.raises(UserError, match=message):
        evaluate(Untouched(), **arguments)


def test_saved_files(saved: tuple[Evaluation, Path]) -> None:
    found, folder = saved
    assert sorted(p.name for p in folder.iterdir()) == ["evaluation.json", "histogram.svg", "roc.svg", "scores.npz"]
    told = strictly((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert told == found.to_dict()
    assert told["pairs"] == {"name": "pairs", "genuine": 30, "impostor": 60}
    assert (told["model"], told["gallery"]) == ("noisy", "colours")
    assert told["cross"]["auc"]["value"] == found.modes()["cross"].auc.value
    with np.load(folder / "scores.npz", allow_pickle=False) as stored:
        assert set(stored) == {"same", "single", "cross"}
        for mode in ("single", "cross"):
            assert roc_auc_score(stored["same"], stored[mode]) == pytest.approx(told[mode]["auc"]["value"], abs=1e-9)


def test_saving_again_gives_the_same_bytes(saved: tuple[Evaluation, Path], faces: Pairs, tmp_path: Path) -> None:
    evaluate(Noisy(), faces, gallery=ColourEmbedder(), replicates=20).save(tmp_path)
    for name in ("evaluation.json", "histogram.svg", "roc.svg"):
        assert (tmp_path / name).read_bytes() == (saved[1] / name).read_bytes()


def test_reports_and_cards_read_what_is_saved(saved: tuple[Evaluation, Path]) -> None:
    found, folder = saved
    read = read_evaluation(folder / "evaluation.json")
    assert read is not None
    assert (read.pairs, read.counts, read.gallery) == ("pairs", (30, 60), "colours")
    assert set(read.modes) == {"single", "cross"}
    for name, mode in found.modes().items():
        other = read.modes[name]
        assert (other.accuracy.value, other.auc.value, other.eer.value) == (
            mode.accuracy.value,
            mode.auc.value,
            mode.eer,
        )
        assert other.auc.interval == (mode.auc.lower, mode.auc.upper)
        assert [(r.far, r.threshold) for r in other.rates] == [(r.far, r.threshold) for r in mode.tar.values()]
        assert [r.tar is None for r in other.rates] == [r.tar is None for r in mode.tar.values()]


def test_a_table_of_one(faces: Pairs) -> None:
    table = evaluate(Noisy(), faces, gallery=ColourEmbedder(), replicates=0).table()
    assert table.row_count == 2


def test_thirty_thousand_pairs_take_no_minute() -> None:
    """33,000 pairs of 100 people with 1,000 replicates, of which 50 here: about 50 ms of one core's time."""
    identities = np.repeat(np.arange(100), 20)
    random = np.random.default_rng(0)
    first, second = random.integers(0, 2000, (2, 33000))
    second[:3000] = first[:3000] // 20 * 20 + random.integers(0, 20, 3000)
    pairs = set_of(identities[first] == identities[second], first=first, second=second, identities=identities)
    scores = scores_of(pairs, decimals=9)
    began = time.process_time()
    measure(scores, pairs, replicates=50)
    assert time.process_time() - began < 2.0
