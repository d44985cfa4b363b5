from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.project import project, save_projection
from proxylesskd.data.pairs import Pairs, make_pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation import evaluate
from proxylesskd.evaluation.gallery import gallery_in_space_of
from proxylesskd.finish import evaluate_into
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.projected import ProjectedEmbedder
from proxylesskd.models.registry import create_model
from proxylesskd.models.weights import save_model
from tests.faces import ColourEmbedder, MemorySource, tiny_student

DIM = 8


class Small(ColourEmbedder):
    """A student that has learned its lesson: the teacher's colours through the projection, by numpy."""

    dim, name, fingerprint = DIM, "small", "small-1"

    def __init__(self, projection: torch.Tensor) -> None:
        self.projection = projection

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(unit(super().embed(images).numpy() @ self.projection.numpy()))


def unit(array: np.ndarray) -> np.ndarray:
    return array / np.sqrt((array**2).sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def faces() -> Pairs:
    return make_pairs(MemorySource(20, 3), genuine=20, impostor=40, folds=5)


@pytest.fixture(scope="module")
def classifier() -> InheritedClassifier:
    rows = torch.randn(40, 147, generator=torch.Generator().manual_seed(0))
    return project(InheritedClassifier(rows, [str(i) for i in range(40)], {}), DIM, how="principal")


def projection_of(classifier: InheritedClassifier) -> torch.Tensor:
    assert classifier.projection is not None
    return classifier.projection


def run_folder(place: Path, classifier: InheritedClassifier) -> Path:
    """What distilling leaves: a student of the classifier's dimension and the classifier's projection."""
    student = create_model("mobilefacenet", dim=DIM, width=0.25, image_size=56)
    place.mkdir()
    save_model(place / "student.safetensors", student, Preprocessing(size=56))
    save_projection(place, classifier)
    return place


@pytest.mark.parametrize("how", ["tensor", "file", "folder"])
def test_a_gallery_through_a_given_projection(
    faces: Pairs, classifier: InheritedClassifier, tmp_path: Path, how: str
) -> None:
    classifier.save(tmp_path / "c.safetensors")
    save_projection(tmp_path, classifier)
    given = {"tensor": projection_of(classifier), "file": str(tmp_path / "c.safetensors"), "folder": tmp_path}[how]
    found = evaluate(Small(projection_of(classifier)), faces, gallery=ColourEmbedder(), projection=given, replicates=0)
    assert found.gallery == "colours (projected to 8)"
    whole = ColourEmbedder().embed(torch.from_numpy(faces.images)).numpy()
    small = unit(whole @ projection_of(classifier).numpy())
    expected = [float(small[a] @ small[b]) for a, b in zip(faces.first, faces.second, strict=True)]
    assert found.cross is not None
    np.testing.assert_allclose(found.cross.scores, expected, atol=1e-5)
    np.testing.assert_allclose(found.single.scores, expected, atol=1e-5)


@pytest.mark.parametrize("location", ["{run}", "{run}/student.safetensors", "{run}:mean=127.5", "path"])
def test_a_run_folder_brings_its_projection(
    faces: Pairs, classifier: InheritedClassifier, tmp_path: Path, location: str
) -> None:
    run = run_folder(tmp_path / "run", classifier)
    model = run if location == "path" else location.format(run=run)
    found = evaluate_into(tmp_path / "out", model, faces, gallery=ColourEmbedder(), replicates=0)
    assert found.gallery == "colours (projected to 8)"
    assert '"gallery": "colours (projected to 8)"' in (tmp_path / "out" / "evaluation.json").read_text()
    given = evaluate(model, faces, gallery=ColourEmbedder(), projection=projection_of(classifier), replicates=0)
    assert found.cross is not None
    assert given.cross is not None
    np.testing.assert_array_equal(found.cross.scores, given.cross.scores)


def test_a_gallery_of_the_same_dimension_stays_as_it_is(classifier: InheritedClassifier, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", classifier)
    already = ProjectedEmbedder(ColourEmbedder(), projection_of(classifier))
    assert gallery_in_space_of(Small(projection_of(classifier)), run, already) is already


def test_what_leads_nowhere_names_both_ways_out(faces: Pairs, classifier: InheritedClassifier, tmp_path: Path) -> None:
    ways = "evaluate the run folder of a student .* or give that classifier as projection"
    with pytest.raises(UserError, match=f"of the probe's dimension 8, found 147 by colours, and no projection.*{ways}"):
        evaluate(tiny_student(DIM).eval(), faces, gallery=ColourEmbedder())
    wide = InheritedClassifier(torch.eye(200)[:40], [str(i) for i in range(40)], {}, None)
    run = run_folder(tmp_path / "other", project(wide, DIM, how="random"))
    with pytest.raises(UserError, match=f"a projection from 200 to 8 beside the probe.*{ways}"):
        evaluate(run, faces, gallery=ColourEmbedder())


def test_wrong_projections(faces: Pairs, classifier: InheritedClassifier, tmp_path: Path) -> None:
    probe: nn.Module = tiny_student(5).eval()
    with pytest.raises(UserError, match=r"to the dimension 5 of .*, found one to 8"):
        evaluate(probe, faces, gallery=ColourEmbedder(), projection=projection_of(classifier))
    InheritedClassifier(torch.eye(3), ["a", "b", "c"], {}).save(tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="found no projection in it"):
        evaluate(probe, faces, gallery=ColourEmbedder(), projection=tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="expected a gallery model for the projection"):
        evaluate(probe, faces, projection=projection_of(classifier))
