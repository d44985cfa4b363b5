"""MarginDistillation against its equations in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.losses.rows import quantise
from proxylesskd.methods.margin_distillation import MarginDistillation
from proxylesskd.methods.method import Batch, Seen
from tests.reference import softmax as reference

COUNT, DIM = 9, 6


class Rows(torch.nn.Module):
    """Frozen rows without a file, stored as given."""

    def __init__(self, stored: object) -> None:
        super().__init__()
        self.stored = stored


def build(seed: int = 0, **options: float) -> tuple[MarginDistillation, Seen, Batch]:
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(COUNT, DIM, generator=generator, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 4, 8, 4, 2])
    teacher = F.normalize(rows[labels] + torch.randn(5, DIM, generator=generator, dtype=torch.float64), dim=1)
    teacher[3] = -rows[4]  # a label that the teacher finds wrong
    student = 2.0 * torch.randn(5, DIM, generator=generator, dtype=torch.float64)
    method = MarginDistillation(classifier=Rows(rows), dim=DIM, teacher_dim=DIM, scale=16.0, **options)  # type: ignore[arg-type]
    return method, Seen(student.requires_grad_()), Batch(student, labels, labels, teacher_embeddings=teacher)


@pytest.mark.parametrize("options", [{}, {"low": 0.1, "high": 0.9}, {"low": 0.3, "high": 0.3}])
def test_the_loss_is_the_papers(options: dict[str, float]) -> None:
    method, seen, batch = build(**options)
    low, high = options.get("low", 0.2), options.get("high", 0.5)
    rows, teacher, labels = method.classifier.stored.numpy(), batch.teacher_embeddings.numpy(), batch.labels.tolist()
    cosines = [max(0.0, float(teacher[i] @ rows[label])) for i, label in enumerate(labels)]
    margins = [(high - low) / max(cosines) * c + low for c in cosines]

    def mean_loss(student: np.ndarray) -> float:
        each = [
            reference.losses(student[i : i + 1], rows, [label], lambda c, m=m: reference.arcface(c, m), 16.0)[0]
            for i, (label, m) in enumerate(zip(labels, margins, strict=True))
        ]
        return float(np.mean(each))

    found = method.loss(seen, batch)
    student = seen.embeddings.detach().numpy()
    assert found["loss"].item() == pytest.approx(mean_loss(student), rel=1e-9)
    assert found["margin"].item() == pytest.approx(np.mean(margins))
    assert found["accuracy"].item() == np.mean((student @ rows.T).argmax(axis=1) == labels)
    found["loss"].backward()
    numeric = reference.numeric_gradient(mean_loss, student.copy())
    np.testing.assert_allclose(seen.embeddings.grad.numpy(), numeric, atol=1e-6)


def test_a_teacher_that_finds_every_label_wrong_leaves_the_low_margin() -> None:
    method, seen, batch = build()
    against = Batch(
        batch.images, batch.labels, batch.indices, teacher_embeddings=-method.classifier.stored[batch.labels]
    )
    assert method.loss(seen, against)["margin"].item() == pytest.approx(0.2)


def test_compact_rows_serve_as_well() -> None:
    method, seen, batch = build()
    exact = method.loss(seen, batch)["loss"].item()
    compact = MarginDistillation(
        classifier=Rows(quantise(method.classifier.stored)), dim=DIM, teacher_dim=DIM, scale=16.0
    )  # type: ignore[arg-type]
    assert compact.loss(seen, batch)["loss"].item() == pytest.approx(exact, rel=1e-2)


def test_only_the_general_part_counts() -> None:
    method, seen, batch = build()
    teacher = batch.teacher_embeddings
    part = Batch(batch.images, batch.labels, batch.indices, general=2, teacher_embeddings=teacher)
    alone = Batch(batch.images, batch.labels[:2], batch.indices[:2], teacher_embeddings=teacher[:2])
    expected = method.loss(Seen(seen.embeddings[:2]), alone)
    assert {key: value.item() for key, value in method.loss(seen, part).items()} == {
        key: value.item() for key, value in expected.items()
    }


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(UserError, match="0 <= low <= high"):
        build(low=0.6)
    rows = Rows(torch.eye(DIM))
    for dim, teacher_dim in ((DIM + 1, DIM), (DIM, DIM + 1)):
        with pytest.raises(UserError, match="dimension 6 for margin_distillation"):
            MarginDistillation(classifier=rows, dim=dim, teacher_dim=teacher_dim)  # type: ignore[arg-type]
