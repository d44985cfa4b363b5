"""Homing against its equations in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.losses.margin import ArcFace
from proxylesskd.losses.rows import quantise
from proxylesskd.methods.homing import Homing, homing_targets, share_at
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.proxyless import Proxyless
from tests.reference import softmax as reference

COUNT, DIM, SCALE, MARGIN = 9, 6, 16.0, 0.3


class Rows(torch.nn.Module):
    """Frozen rows without a file, stored as given."""

    def __init__(self, stored: object) -> None:
        super().__init__()
        self.stored = stored


def build(
    progress: float = 0.0, general: int | None = None, engine: str = "auto", **options: float
) -> tuple[Homing, Seen, Batch]:
    generator = torch.Generator().manual_seed(5)
    rows = F.normalize(torch.randn(COUNT, DIM, generator=generator, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 4, 8, 4, 2])
    teacher = F.normalize(rows[labels] + torch.randn(5, DIM, generator=generator, dtype=torch.float64), dim=1)
    student = 2.0 * torch.randn(5, DIM, generator=generator, dtype=torch.float64)
    made = Homing(
        classifier=Rows(rows),  # type: ignore[arg-type]
        dim=DIM,
        teacher_dim=DIM,
        margin=ArcFace(MARGIN),
        scale=SCALE,
        engine=engine,
        **options,  # type: ignore[arg-type]
    )
    batch = Batch(student, labels, labels, progress=progress, general=general, teacher_embeddings=teacher)
    return made, Seen(student.requires_grad_()), batch


def relations(student: np.ndarray, teacher: np.ndarray) -> float:
    """One pair at a time: the mean squared difference of cosines over all ordered pairs."""
    unit = [x / np.sqrt(sum(value * value for value in x)) for x in student]
    squares = [
        (sum(a * b for a, b in zip(x, y, strict=True)) - sum(a * b for a, b in zip(f, g, strict=True))) ** 2
        for x, f in zip(unit, teacher, strict=True)
        for y, g in zip(unit, teacher, strict=True)
    ]
    return float(np.mean(squares))


def plain(student: np.ndarray, method: Homing, batch: Batch, share: float) -> list[float]:
    """One logit at a time: the own row is exchanged for the target, then it is any margin softmax."""
    each = []
    for x, f, label in zip(student, batch.teacher_embeddings.numpy(), batch.labels.tolist(), strict=True):
        rows = method.classifier.stored.numpy().copy()
        target = [(1 - share) * a + share * b for a, b in zip(f, rows[label], strict=True)]
        rows[label] = np.array(target) / np.sqrt(sum(value * value for value in target))
        each.append(reference.losses(x[None], rows, [label], lambda c: reference.arcface(c, MARGIN), SCALE)[0])
    return each


@pytest.mark.parametrize("engine", ["reference", "chunked"])
@pytest.mark.parametrize(
    ("progress", "options", "share"),
    [
        (0.0, {}, 0.0),
        (0.5, {}, 0.25),
        (0.25, {"power": 1.0, "relation": 0.0}, 0.25),
        (0.5, {"start": 0.2, "end": 0.6, "power": 1.0}, 0.4),
        (0.5, {"power": 2.0, "end": 0.8, "relation": 7.0}, 0.2),
        (0.9, {"start": 1.0, "end": 0.0, "power": 0.5}, 1.0 - 0.9**0.5),
    ],
)
def test_loss_and_gradient(engine: str, progress: float, options: dict[str, float], share: float) -> None:
    method, seen, batch = build(progress, engine=engine, **options)
    found = method.loss(seen, batch)
    student, weight = seen.embeddings.detach().numpy(), options.get("relation", 30.0)

    def whole(at: np.ndarray) -> float:
        return float(np.mean(plain(at, method, batch, share))) + weight * relations(
            at, batch.teacher_embeddings.numpy()
        )

    assert found["loss"].item() == pytest.approx(whole(student), rel=1e-9)
    assert found["share"].item() == pytest.approx(share)
    found["loss"].backward()
    numeric = reference.numeric_gradient(whole, student.copy())
    np.testing.assert_allclose(seen.embeddings.grad.numpy(), numeric, atol=2e-6)


def test_at_the_end_of_the_way_it_is_proxyless() -> None:
    method, seen, batch = build(0.3, start=1.0, end=1.0, relation=0.0)
    proxyless = Proxyless(classifier=method.classifier, margin=ArcFace(MARGIN), scale=SCALE)
    assert method.loss(seen, batch)["loss"].item() == pytest.approx(proxyless.loss(seen, batch)["loss"].item())
    assert method.loss(seen, batch)["accuracy"] == proxyless.loss(seen, batch)["accuracy"]


def test_on_the_way_a_student_that_copies_the_teacher_is_right() -> None:
    method, _, batch = build(0.0)
    found = method.loss(Seen(3.0 * batch.teacher_embeddings), batch)
    nearest = (batch.teacher_embeddings @ method.classifier.stored.T).argmax(dim=1) == batch.labels
    assert found["accuracy"].item() == 1.0
    assert not nearest.all()  # through the rows alone it would not be


def test_only_general_images_count() -> None:
    method, seen, batch = build(0.4, general=3, power=1.0)
    found, student = method.loss(seen, batch), seen.embeddings.detach().numpy()
    relation = relations(student, batch.teacher_embeddings.numpy())  # of all images
    assert found["relation"].item() == pytest.approx(relation)
    assert found["loss"].item() == pytest.approx(np.mean(plain(student, method, batch, 0.4)[:3]) + 30 * relation)


def test_rows_of_eight_bits_and_float32_embeddings() -> None:
    method, seen, batch = build(0.4)
    exact = method.loss(seen, batch)["loss"].item()
    method.classifier.stored = quantise(method.classifier.stored.float())  # type: ignore[assignment]
    assert method.loss(Seen(seen.embeddings.float()), batch)["loss"].item() == pytest.approx(exact, rel=0.02)


def test_targets_have_unit_length_and_lie_between() -> None:
    _, _, batch = build()
    rows = F.normalize(torch.ones(5, DIM, dtype=torch.float64), dim=1)
    targets = homing_targets(batch.teacher_embeddings, rows, 0.5)
    np.testing.assert_allclose(targets.norm(dim=1), 1.0)
    np.testing.assert_allclose((targets * rows).sum(1), (targets * batch.teacher_embeddings).sum(1))


def test_shares() -> None:
    assert [share_at(p, 0.2, 0.8, 1.0) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.5, 0.8])
    assert share_at(0.5, 0.0, 1.0, 3.0) == pytest.approx(0.125)


@pytest.mark.parametrize("options", [{"start": -0.1}, {"end": 1.1}, {"power": 0.0}, {"relation": -1.0}])
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="expected start and end"):
        build(**options)  # type: ignore[arg-type]


def test_dimensions_must_agree() -> None:
    with pytest.raises(UserError, match=r"model\.dim"):
        Homing(classifier=Rows(torch.eye(DIM)), dim=DIM, teacher_dim=DIM + 1, margin=ArcFace(0.3))  # type: ignore[arg-type]
