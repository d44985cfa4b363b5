from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.project import (
    FLOOR,
    HOWS,
    cosine_error,
    fit_projection,
    load_projection,
    lost_cosines,
    project,
    save_projection,
)
from proxylesskd.errors import UserError
from proxylesskd.models.projected import ProjectedEmbedder


def unit_rows(count: int, width: int, seed: int = 0, decay: float = 0.8, noise: float = 0.0) -> torch.Tensor:
    """Rows whose directions matter less and less, ``decay ** k``, turned so that no axis is special."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(width, width)))[0]
    rows = random.normal(size=(count, width)) * decay ** np.arange(width) @ turn
    rows += noise * random.normal(size=rows.shape)
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).float()


def named(rows: torch.Tensor) -> InheritedClassifier:
    return InheritedClassifier(rows, [f"person {i}" for i in range(len(rows))], {"how": "drawn"})


def cosines(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return unit @ unit.T


def error_by_loops(rows: torch.Tensor, projection: torch.Tensor) -> float:
    plain = rows.double().numpy()
    before, after = cosines(plain), cosines(plain @ projection.double().numpy())
    lost = [(after[i, j] - before[i, j]) ** 2 for i in range(len(rows)) for j in range(len(rows)) if i != j]
    return float(np.sqrt(np.mean(lost)))


def test_the_cosine_error_against_loops() -> None:
    rows = unit_rows(30, 12)
    projection = torch.randn(12, 4, generator=torch.Generator().manual_seed(3))
    assert cosine_error(rows, projection) == pytest.approx(error_by_loops(rows, projection), abs=1e-6)
    plain, others = rows[:7].double().numpy(), rows[7:].double().numpy()
    small = cosines(np.concatenate([plain, others]) @ projection.double().numpy())[:7, 7:]
    expected = np.sqrt(np.mean((small - plain @ others.T) ** 2))
    assert cosine_error(rows[:7], projection, rows[7:]) == pytest.approx(expected, abs=1e-6)


def test_the_weighted_error_against_loops() -> None:
    rows = unit_rows(20, 10, decay=0.6)
    projection = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    plain = rows.double().numpy()
    before, after = cosines(plain), cosines(plain @ projection.double().numpy())
    above = below = 0.0
    for i in range(20):
        for j in range(20):
            if i != j:
                weight = max(before[i, j], FLOOR) ** 2
                above += weight * (after[i, j] - before[i, j]) ** 2
                below += weight
    assert float(lost_cosines(rows, rows, projection)) == pytest.approx(above / below, rel=1e-4)


def test_principal_directions_against_scikit_learn() -> None:
    from sklearn.decomposition import TruncatedSVD

    rows = unit_rows(60, 16)
    found = fit_projection(rows, 5, how="principal").double().numpy()
    other = TruncatedSVD(5, algorithm="arpack").fit(rows.double().numpy()).components_.T
    np.testing.assert_allclose(found @ found.T, other @ other.T, atol=1e-5)
    np.testing.assert_allclose(found.T @ found, np.eye(5), atol=1e-5)


def test_the_baselines() -> None:
    rows = unit_rows(20, 8)
    np.testing.assert_array_equal((rows @ fit_projection(rows, 3, how="truncation")).numpy(), rows[:, :3].numpy())
    drawn = [fit_projection(rows, 3, how="random", seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    np.testing.assert_allclose((drawn[2].T @ drawn[2]).numpy(), np.eye(3), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_fitted_map_keeps_unseen_cosines_best(seed: int) -> None:
    """Rows of one law, half of them never shown to the fit."""
    rows = unit_rows(900, 24, seed=seed, noise=0.02)
    known, unseen = rows[:450], rows[450:]
    weighted, plain = {}, {}
    for how in HOWS:
        found = fit_projection(known, 8, how=how, seed=seed)
        weighted[how], plain[how] = float(lost_cosines(unseen, unseen, found)), error_by_loops(unseen[:60], found)
    assert weighted["cosine"] < 0.8 * weighted["principal"]
    assert plain["cosine"] < 1.05 * plain["principal"]  # all pairs alike, which is not what was minimised
    assert plain["principal"] < 0.7 * min(plain["truncation"], plain["random"])


def test_equal_seeds_give_equal_maps() -> None:
    rows = unit_rows(200, 12)
    first, again, other = (fit_projection(rows, 4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_refinement_that_is_no_better_is_not_kept() -> None:
    """One random direction each: what a block teaches does not hold for the next row."""
    rows = unit_rows(40, 30, decay=1.0)
    far_off = fit_projection(rows, 6, lr=3.0, steps=3)
    assert torch.equal(far_off, fit_projection(rows, 6, how="principal"))
    few = unit_rows(12, 8)
    assert torch.equal(fit_projection(few, 4), fit_projection(few, 4, how="principal"))


def test_rows_in_a_subspace_lose_nothing() -> None:
    random = np.random.default_rng(5)
    basis = random.normal(size=(6, 40))  # not orthogonal, and no axis of the space
    rows = torch.from_numpy(random.normal(size=(90, 6)) @ basis).float()
    images = torch.from_numpy(random.normal(size=(30, 6)) @ basis).float()
    small = project(named(rows), 6)
    assert small.projection is not None
    np.testing.assert_allclose(cosines(small.rows.numpy()), cosines(rows.double().numpy()), atol=1e-5)
    gallery = F.normalize(images @ small.projection, dim=1)  # what the teacher enrols, for a student of 6 dimensions
    expected = cosines(np.concatenate([images.double().numpy(), rows.double().numpy()]))[:30, 30:]
    np.testing.assert_allclose((gallery @ small.rows.T).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(cosines(gallery.numpy()), cosines(images.double().numpy()), atol=1e-5)
    assert small.provenance["projected"][0]["cosine_rms_error"] == 0.0


@pytest.mark.parametrize("how", HOWS)
def test_a_projected_classifier_says_what_was_done(how: str, tmp_path: Path) -> None:
    rows = unit_rows(120, 16)
    small = project(named(rows), 6, how=how)
    assert small.projection is not None
    assert (small.dim, small.teacher_dim, small.identities) == (6, 16, named(rows).identities)
    expected = rows.double().numpy() @ small.projection.double().numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(small.rows.numpy(), expected, atol=1e-5)
    (step,) = small.provenance["projected"]
    assert (small.provenance["how"], step["from_dim"], step["to_dim"], step["how"]) == ("drawn", 16, 6, how)
    assert step["cosine_rms_error"] == pytest.approx(error_by_loops(rows, small.projection), abs=2e-5)
    small.save(tmp_path / "c.safetensors")
    again = InheritedClassifier.load(tmp_path / "c.safetensors")
    assert again.fingerprint == small.fingerprint
    assert again.provenance == small.provenance


def test_projecting_twice_composes_the_maps() -> None:
    rows = unit_rows(120, 16)
    once = project(named(rows), 10, how="principal")
    twice = project(once, 5, how="principal")
    assert twice.projection is not None
    assert (twice.dim, twice.teacher_dim, len(once.provenance["projected"])) == (5, 16, 1)
    assert [step["to_dim"] for step in twice.provenance["projected"]] == [10, 5]
    expected = rows.double().numpy() @ twice.projection.double().numpy()
    np.testing.assert_allclose(cosines(twice.rows.numpy()), cosines(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "dim", "how", "message"),
    [
        (torch.eye(8), 8, "cosine", "from 1 to 7, below that of the rows, found 8; .* needs no projection"),
        (torch.eye(8), 9, "cosine", "found 9"),
        (torch.eye(8), 0, "random", "found 0"),
        (torch.eye(8), 3, "cosin", "found 'cosin'; did you mean 'cosine'"),
        (torch.eye(9)[:4], 5, "cosine", "found 4 rows that fill 4; project to 4 dimensions at most, or inherit from"),
        (torch.ones(30, 8), 2, "principal", "found 30 rows that fill 1"),
        (torch.ones(8), 3, "cosine", r"floating-point rows \[C, T\], found \[8\]"),
        (torch.eye(8).long(), 3, "cosine", "int64"),
    ],
)
def test_what_cannot_be_projected(rows: torch.Tensor, dim: int, how: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_projection(rows, dim, how=how)


def test_a_run_folder_keeps_the_projection(tmp_path: Path) -> None:
    small = project(named(unit_rows(40, 12)), 4)
    assert small.projection is not None
    assert save_projection(tmp_path, small) == tmp_path / "projection.safetensors"
    small.save(tmp_path / "classifier.safetensors")
    for place in (tmp_path, tmp_path / "projection.safetensors", tmp_path / "classifier.safetensors"):
        found = load_projection(place)
        assert found is not None
        assert torch.equal(found, small.projection)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["classifier.safetensors", "projection.safetensors"]
    assert save_projection(tmp_path, named(torch.eye(3))) is None
    assert load_projection(tmp_path) is None


def test_files_that_hold_no_projection(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nothing"):
        load_projection(tmp_path / "none.safetensors")
    path = tmp_path / "projection.safetensors"
    path.write_text("hello")
    with pytest.raises(UserError, match="expected a safetensors file"):
        load_projection(tmp_path)
    for wrong in (torch.ones(3), torch.ones(3, 2, dtype=torch.int32)):
        safetensors.torch.save_file({"projection": wrong}, path)
        with pytest.raises(UserError, match=r"expected a projection \[T, D\]"):
            load_projection(tmp_path)


def test_the_stored_map_serves_the_gallery() -> None:
    """The same map on rows and on the teacher: both name the same person."""
    rows = unit_rows(60, 20)

    class Teacher:
        dim, name, fingerprint = 20, "teacher", "t"

        def embed(self, images: torch.Tensor) -> torch.Tensor:
            return rows[images[:, 0, 0, 0].long()]

    small = project(named(rows), 8)
    assert small.projection is not None
    images = torch.arange(60, dtype=torch.uint8)[:, None, None, None].expand(60, 3, 2, 2)
    found = ProjectedEmbedder(Teacher(), small.projection).embed(images)
    np.testing.assert_allclose(found.numpy(), small.rows.numpy(), atol=1e-6)
