"""The benchmark of methods on a validation split: its split, its rates, and that it runs and remembers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import ranked
import research
import torch
import torch.nn.functional as F
from PIL import Image
from research import Part

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 4])


def plain_tar(scores: np.ndarray, images: list[int], far: float, once: bool) -> float:
    """Every pair in a loop, over images that may have been drawn more than once."""
    genuine, impostor = list[float](), list[float]()
    for a, i in enumerate(images):
        for b, j in enumerate(images):
            if (a < b if once else a != b) and LABELS[i] != LABELS[j]:
                impostor.append(scores[i, j])
    for i, left in enumerate(LABELS):
        for j, right in enumerate(LABELS):
            if left == right and (i < j if once else i != j):
                genuine += [scores[i, j]] * (images.count(i))
    threshold = sorted(impostor, reverse=True)[int(far * len(impostor))]
    return float(np.mean(np.array(genuine) > threshold))


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("times", [[1, 1, 1, 1, 1], [0, 2, 1, 3, 1]])
def test_rates_are_those_of_plain_loops(monkeypatch: pytest.MonkeyPatch, once: bool, times: list[int]) -> None:
    monkeypatch.setattr(ranked, "FARS", (0.2, 0.1, 0.01))
    generator = np.random.default_rng(3)
    scores = generator.normal(size=(14, 14)).astype(np.float32) + (LABELS[:, None] == LABELS[None])
    scores = (scores + scores.T) / 2 if once else scores
    found = ranked.rank(scores, LABELS, once).tar(np.array(times))
    images = [i for i, label in enumerate(LABELS) for _ in range(times[label])]
    assert found == pytest.approx([plain_tar(scores, images, far, once) for far in (0.2, 0.1, 0.01)])


def test_only_identities_of_four_images_validate() -> None:
    assert research.split(LABELS, 5, 0).tolist() == (LABELS == 2).tolist()
    many = np.repeat(np.arange(20), 5)
    chosen = research.split(many, 6, 1)
    assert len(set(many[chosen])) == 6
    assert not set(many[chosen]) & set(many[~chosen])


def test_rows_are_the_centres_of_both_views() -> None:
    views = F.normalize(torch.randn(14, 2, 6, generator=torch.Generator().manual_seed(0)), dim=2)
    part = Part(torch.zeros(14, 3, 8, 8, dtype=torch.uint8), torch.from_numpy(LABELS), views)
    centre = views.numpy()[LABELS == 3].mean(axis=(0, 1))
    np.testing.assert_allclose(part.rows[3].numpy(), centre / np.linalg.norm(centre), rtol=1e-5)


def test_it_trains_what_is_missing_and_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = torch.Generator().manual_seed(1)
    parts = []
    for count in (20, 10):
        labels = torch.arange(count).repeat_interleave(5)
        faces = torch.randint(0, 256, (count, 3, 16, 16), generator=generator)
        noise = torch.randint(-20, 21, (len(labels), 3, 16, 16), generator=generator)
        views = torch.randn(count, 1, 8, generator=generator)[labels] + 0.3 * torch.randn(
            len(labels), 2, 8, generator=generator
        )
        images = (faces[labels] + noise).clamp(0, 255).to(torch.uint8)
        parts.append(Part(images, labels, F.normalize(views, dim=2)))
    monkeypatch.setattr(research, "open_parts", lambda _: (parts[0], parts[1]))
    options = (
        "--faces x --teacher y --size 16 --width 0.25 --batch 16 --epochs 3 --replicates 5 --methods proxyless alone"
    )
    monkeypatch.setattr("sys.argv", ["research.py", *options.split(), "--out", str(tmp_path)])
    research.main()
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2
    first = capsys.readouterr().out
    assert "| proxyless | " in first
    assert "+0.00 [+0.00, +0.00]" in first
    research.main()
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2
    assert capsys.readouterr().out.splitlines() == first.splitlines()[-4:]


class Means:
    """A teacher that sees the mean colour of both halves."""

    dim, name, fingerprint = 6, "means", "0"

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(F.adaptive_avg_pool2d(images.float() + 1, (1, 2)).flatten(1), dim=1)


def test_faces_are_cut_embedded_and_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    for identity, count in {"a": 5, "b": 3, "c": 4, "d": 2}.items():
        (tmp_path / "faces" / identity).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (112, 112, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "faces" / identity / f"{number}.png")
    monkeypatch.setattr(research.pk, "load_teacher", lambda *_, **__: Means())
    options = f"--faces {tmp_path / 'faces'} --teacher means --out {tmp_path / 'out'} --size 10 --validation 1"
    monkeypatch.setattr("sys.argv", ["research.py", *options.split()])
    training, validating = research.open_parts(research.parse())
    assert sorted((len(training.labels), len(validating.labels))) in ([4, 10], [5, 9])
    assert training.labels.max() == 2
    assert training.images.shape[1:] == (3, 10, 10)
    np.testing.assert_allclose(training.views[:, 0, 0], training.views[:, 1, 1], atol=1e-3)  # mirrored
    face = np.asarray(Image.open(tmp_path / "faces" / "b" / "0.png"), np.float64)[11:-11, 11:-11]
    block = face[:9, :9].mean(axis=(0, 1))  # the middle 90 pixels, shrunk to 10
    assert np.abs(training.images[:, :, 0, 0].double().numpy() - block).max(axis=1).min() <= 1.0
