from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from proxylesskd.errors import UserError
from proxylesskd.protocols.ijb import crops, enrolled_images, evaluate_ijb
from proxylesskd.protocols.ijb_meta import read_ijb
from proxylesskd.protocols.ijb_outcomes import Asked, Modes, search, subjects_of
from proxylesskd.protocols.outcome import read_outcome
from tests.protocols.ijb_files import GALLERIES, IMAGES, PAIRS, PROBES, SUBJECT, pixels, score, write_set

pytest.importorskip("cv2", reason="crops are cut by OpenCV")


class Grid:
    """The mean colours of 4 x 4 fields, their lower left field weighed, so that mirror images differ."""

    dim = 48

    def __init__(self, name: str = "grid", tilt: float = 0.0) -> None:
        self.name, self.fingerprint, self.tilt, self.seen = name, f"{name}-{tilt}", tilt, 0

    def raw(self, images: torch.Tensor) -> torch.Tensor:
        fields = F.adaptive_avg_pool2d(images.float(), 4).flatten(1) / 40 - 3
        return fields + self.tilt * fields.roll(1, dims=1)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        return F.normalize(self.raw(images), dim=1)


class Measuring(Grid):
    def measure(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.embed(images), self.raw(images).norm(dim=1)


def templates(grid: Grid, quality: tuple[str, ...], flip: bool) -> dict[int, np.ndarray]:
    """By loops, from the pixels that lie inside the margin: there the aligned face is to the pixel."""
    media: dict[int, dict[int, list[np.ndarray]]] = {}
    for image, (_, template, medium) in enumerate(IMAGES):
        inner = torch.from_numpy(pixels(image)[14:126, 14:126].copy()).permute(2, 0, 1)[None]
        views = [inner, inner.flip(-1)] if flip else [inner]
        measure = "norm" in quality or isinstance(grid, Measuring)
        raw = [grid.raw(view)[0] if measure else F.normalize(grid.raw(view))[0] for view in views]
        feature = sum(view.double().numpy() for view in raw)
        if "norm" not in quality:
            feature = feature / np.linalg.norm(feature)
        if "detector" in quality:
            feature = feature * score(image)
        media.setdefault(template, {}).setdefault(medium, []).append(feature)
    sums = {t: sum(np.mean(frames, axis=0) for frames in by.values()) for t, by in media.items()}
    return {t: total / np.linalg.norm(total) for t, total in sums.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("ijb") / "set")


@pytest.mark.parametrize(
    ("quality", "flip"), [(("detector", "norm"), True), (("detector",), False), (("norm",), True), ((), True)]
)
def test_single_and_cross_follow_the_rules_from_pixels_on(root: Path, quality: tuple[str, ...], flip: bool) -> None:
    model, other = Measuring(), Measuring("other", tilt=0.7)
    found = evaluate_ijb(model, root, gallery=other, quality=quality, flip=flip, replicates=0, fars=[0.1, 0.5, 1e-6])
    mine, enrolled = templates(model, quality, flip), {"single": model, "cross": other}
    same = np.array([label for _, _, label in PAIRS], dtype=bool)
    for mode, embedder in enrolled.items():
        gallery = templates(embedder, quality, flip)
        scores = np.array([float(gallery[a] @ mine[b]) for a, b, _ in PAIRS])
        measures = found["1:1"].measures[mode]
        assert measures["auc"].value == pytest.approx(roc_auc_score(same, scores), abs=1e-9)
        for far in (0.1, 0.5):
            sound = [t for t in scores if (scores[~same] >= t).mean() <= far]
            assert measures[f"tar@far={far}"].value == (scores[same] >= min(sound)).mean()
            assert measures[f"tar@far={far}"].threshold == pytest.approx(min(sound), abs=2e-6)
        assert measures["tar@far=1e-06"].value is None
        for name, listed in GALLERIES.items():
            ranks = []
            for probe in PROBES:
                by_subject = {SUBJECT[g]: float(gallery[g] @ mine[probe]) for g in listed}
                if SUBJECT[probe] in by_subject:
                    ranks.append(sum(s >= by_subject[SUBJECT[probe]] for s in by_subject.values()))
            assert found["1:N"].measures[mode][f"{name}/rank-1"].value == np.mean(np.array(ranks) <= 1)
    rules = ", ".join([*(["flip"] if flip else []), *quality]) or "plain"
    assert found["1:1"].protocol == f"IJB-C 1:1 ({rules})"
    assert found["1:N"].protocol == f"IJB-C 1:N ({rules})"
    assert (found["1:1"].model, found["1:1"].gallery) == ("grid", "other")
    assert found["1:1"].drawn == {}


def test_counts_say_what_was_compared(root: Path) -> None:
    found = evaluate_ijb(Grid(), root, replicates=0)
    genuine = sum(label for _, _, label in PAIRS)
    assert found["1:1"].counts == {
        "templates": 11, "images": 17, "genuine": genuine, "impostor": len(PAIRS) - genuine,
    }  # fmt: skip
    assert found["1:N"].counts == {
        "templates": 11, "images": 17, "probes": 6, "G1 templates": 3, "G2 templates": 2,
        "G1 mated probes": 4, "G2 mated probes": 2,
    }  # fmt: skip


def test_weights_are_both_where_norms_are_told_and_the_detector_alone_elsewhere(root: Path) -> None:
    assert evaluate_ijb(Measuring(), root, replicates=0)["1:1"].protocol == "IJB-C 1:1 (flip, detector, norm)"
    assert evaluate_ijb(Grid(), root, replicates=0)["1:1"].protocol == "IJB-C 1:1 (flip, detector)"
    mixed = evaluate_ijb(Measuring(), root, gallery=Grid("silent"), replicates=0)
    assert mixed["1:1"].protocol == "IJB-C 1:1 (flip, detector)"


def test_crops_are_the_faces_in_the_margin(root: Path) -> None:
    ijb = read_ijb(root)
    images = crops(ijb, np.array([4, 9]))
    assert images.names == ["5.png", "10.png"]
    np.testing.assert_array_equal(images.read(1), pixels(9)[14:126, 14:126].transpose(2, 0, 1))


def test_the_gallerys_model_sees_enrolled_images_alone_and_the_cache_keeps_both(root: Path, tmp_path: Path) -> None:
    ijb = read_ijb(root)
    enrolled = {t for listed in GALLERIES.values() for t in listed}
    assert enrolled_images(ijb).tolist() == [i for i, (_, t, _) in enumerate(IMAGES) if t in enrolled]
    model, other = Grid(), Grid("other", 0.5)
    first = evaluate_ijb(model, ijb, gallery=other, cache=tmp_path, replicates=0)
    assert (model.seen, other.seen) == (34, 16)
    again = evaluate_ijb(model, ijb, gallery=other, cache=tmp_path, replicates=0)
    assert (model.seen, other.seen) == (34, 16)
    assert again["1:1"].measures == first["1:1"].measures


def test_outcomes_have_intervals_and_are_read_as_they_were_saved(root: Path, tmp_path: Path) -> None:
    for task, outcome in evaluate_ijb(Grid(), root, replicates=50, fars=[0.5], name="mine", progress=True).items():
        outcome.save(tmp_path / task)
        read = read_outcome(tmp_path / task)
        assert read.measures == outcome.measures
        assert read.model == "mine"
        assert outcome.drawn["replicates"] == 50
    one = evaluate_ijb(Grid(), root, replicates=50, fars=[0.5])["1:1"].measures["single"]
    for name in ("auc", "tar@far=0.5"):
        measure = one[name]
        assert measure.lower is not None
        assert measure.upper is not None
        assert measure.lower <= measure.upper
    assert one["eer"].lower is None


def test_subjects_come_from_the_lists_of_the_search(root: Path, tmp_path: Path) -> None:
    ijb = read_ijb(root)
    subjects = subjects_of(ijb)
    assert subjects is not None
    assert subjects.tolist() == [SUBJECT[int(t)] for t in ijb.ids]
    shutil.copytree(root, tmp_path / "set")
    for path in (tmp_path / "set/meta").glob("*1N*"):
        path.unlink()
    alone = read_ijb(tmp_path / "set")
    assert subjects_of(alone) is None
    assert set(evaluate_ijb(Grid(), alone, replicates=5)) == {"1:1"}
    with pytest.raises(UserError, match="no lists of 1:N"):
        search(alone, Modes(np.ones((1, 2)), {}), Asked())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"quality": ["norm"]}, "tell the norms"),
        ({"quality": ["detektor"]}, "did you mean 'detector'"),
        ({"fars": [0]}, r"\(0, 1\]"),
        ({"fpirs": [2]}, r"\(0, 1\]"),
        ({"ranks": [0]}, "ranks from 1"),
        ({"replicates": -1}, "replicates"),
        ({"subset": "ijba"}, "did you mean"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_embedded(
    root: Path, wrong: dict[str, object], says: str
) -> None:
    model = Grid()
    with pytest.raises(UserError, match=says):
        evaluate_ijb(model, root, **wrong)  # type: ignore[arg-type]
    assert model.seen == 0


def test_missing_broken_and_faceless_images_are_named(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    path = root / "loose_crop/4.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"'4.png' corrupt"):
        evaluate_ijb(Grid(), root)
    path.unlink()
    with pytest.raises(UserError, match=r"1 of 17 missing, first '4.png'"):
        evaluate_ijb(Grid(), root)
    other = write_set(tmp_path / "other")
    listed = other / "meta/ijbc_name_5pts_score.txt"
    lines = listed.read_text().splitlines()
    lines[5] = "6.png" + " 20" * 10 + " 0.9"
    listed.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"'6.png': expected five landmarks"):
        evaluate_ijb(Grid(), other)
    shutil.rmtree(other / "loose_crop")
    with pytest.raises(UserError, match="17 of 17 missing"):
        evaluate_ijb(Grid(), other)
