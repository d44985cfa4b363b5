"""AdaDistill against its equations in plain loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.losses.margin import ArcFace, CosFace
from proxylesskd.methods.adadistill import AdaDistill, momenta, moved_centres
from proxylesskd.methods.method import Batch, Seen
from tests.reference import softmax as reference

Array = npt.NDArray[np.float64]


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


def plain_update(centres: Array, student: Array, teacher: Array, labels: list[int], weighted: bool) -> Array:
    """Each identity's new centre: the mean of what each of its samples would make of the old one."""
    new = centres.copy()
    for identity in set(labels):
        results = []
        for f_s, f_t, label in zip(student, teacher, labels, strict=True):
            if label != identity:
                continue
            alpha = min(1.0, max(0.0, cosine(f_s, f_t)))
            if weighted:
                typical = min(1.0, max(1e-6, cosine(centres[identity], f_t)))
                alpha = min(1.0, max(1e-6, cosine(f_s, f_t) * typical))
            results.append(alpha * centres[identity] + (1 - alpha) * f_t)
        new[identity] = sum(results) / len(results)
    return new


def problem(seed: int, labels: list[int], dim: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student embeddings of any length, some near the teacher's and some opposite, in float64."""
    generator = torch.Generator().manual_seed(seed)
    teacher = F.normalize(torch.randn(len(labels), dim, generator=generator, dtype=torch.float64), dim=1)
    noise = torch.randn(len(labels), dim, generator=generator, dtype=torch.float64)
    sign = torch.where(torch.rand(len(labels), generator=generator) < 0.2, -1.0, 1.0)
    return sign[:, None] * 3.0 * (teacher + 0.3 * noise), teacher, torch.tensor(labels)


def build(weighted: bool = True, count: int = 7, dim: int = 6, margin: object = None, seed: int = 4) -> AdaDistill:
    made = ArcFace(0.45) if margin is None else margin
    method = AdaDistill(
        num_identities=count, dim=dim, teacher_dim=dim, margin=made, scale=16.0, seed=seed, weighted=weighted
    )
    method.double().rows.copy_(F.normalize(method.rows, dim=1))  # unit rows of float32 are not those of float64
    return method


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("margin", "plain"), [(ArcFace(0.45), reference.arcface), (CosFace(0.45), reference.cosface)])
def test_steps_are_the_papers(weighted: bool, margin: object, plain: object) -> None:
    method = build(weighted, margin=margin)
    centres = method.centres.numpy().copy()
    for step, labels in enumerate(([0, 3, 5, 1], [3, 3, 0, 3], [5, 5, 5, 5], [6, 2, 2, 6])):
        student, teacher, targets = problem(step, labels)
        leaf = student.clone().requires_grad_()
        found = method.loss(Seen(leaf), Batch(leaf, targets, targets, teacher_embeddings=teacher))
        centres = plain_update(centres, student.numpy(), teacher.numpy(), labels, weighted)
        np.testing.assert_allclose(method.centres.numpy(), centres, rtol=1e-10, atol=1e-12)
        unit = centres / np.linalg.norm(centres, axis=1, keepdims=True)

        def mean_loss(x: Array, unit: Array = unit, labels: list[int] = labels) -> float:
            each = reference.losses(x, unit, labels, lambda c: plain(c, 0.45), 16.0)  # type: ignore[operator]
            return float(each.mean())

        assert found["loss"].item() == pytest.approx(mean_loss(student.numpy()), rel=1e-9)
        found["loss"].backward()
        numeric = reference.numeric_gradient(mean_loss, student.numpy())
        np.testing.assert_allclose(leaf.grad.numpy(), numeric, atol=1e-6)
        assert found["accuracy"].item() == np.mean((student.numpy() @ unit.T).argmax(axis=1) == labels)
        assert teacher.grad is None


def test_the_momentum_is_clipped() -> None:
    teacher = torch.eye(3, dtype=torch.float64)
    agreement = torch.tensor([0.5, -0.5, 1.0], dtype=torch.float64)
    centres = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, -2.0]], dtype=torch.float64)
    assert momenta(agreement, centres, teacher).tolist() == pytest.approx([0.5, 1e-6, 1e-6])
    assert momenta(agreement, centres, teacher, weighted=False).tolist() == [0.5, 0.0, 1.0]


def test_order_does_not_matter_and_copies_of_a_label_agree() -> None:
    labels = [2, 0, 2, 1, 2, 0]
    _, teacher, targets = problem(1, labels)
    teacher = teacher.float()
    centres = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))[targets]
    momentum = torch.rand(6, generator=torch.Generator().manual_seed(1))
    new = moved_centres(centres, teacher, targets, momentum)
    order = torch.tensor([5, 4, 0, 2, 3, 1])
    moved = moved_centres(centres[order], teacher[order], targets[order], momentum[order])
    torch.testing.assert_close(moved, new[order])
    assert torch.equal(new[0], new[2])
    assert torch.equal(new[0], new[4])
    assert torch.equal(new[1], new[5])


def test_the_last_writer_is_the_mean_on_average() -> None:
    _, teacher, targets = problem(2, [0, 0, 0])
    centre = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).expand(3, -1)
    momentum = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    each = [moved_centres(centre[i : i + 1], teacher[i : i + 1], targets[:1], momentum[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(moved_centres(centre, teacher, targets, momentum)[0], torch.cat(each).mean(dim=0))


def test_a_sample_that_is_not_finite_moves_nothing() -> None:
    method = build()
    student, teacher, targets = problem(0, [1, 2, 2])
    student[0], student[1] = torch.nan, torch.inf
    before = method.centres.clone()
    method.loss(Seen(student), Batch(student, targets, targets, teacher_embeddings=teacher))
    torch.testing.assert_close(method.centres[1], before[1])
    assert method.centres.isfinite().all()
    assert not torch.allclose(method.centres[2], before[2])


def test_only_the_general_part_counts_and_only_its_rows_move() -> None:
    student, teacher, targets = problem(3, [0, 4, 5, 5])
    whole, part = build(), build()
    first = part.rows.clone()
    found = whole.loss(Seen(student), Batch(student, targets, targets, general=2, teacher_embeddings=teacher))
    alone = part.loss(Seen(student[:2]), Batch(student, targets[:2], targets, teacher_embeddings=teacher[:2]))
    assert found["loss"].item() == alone["loss"].item()
    assert torch.equal(whole.rows, part.rows)
    moved = (whole.rows != first).any(dim=1).nonzero().flatten().tolist()
    assert moved == [0, 4]
    torch.testing.assert_close(whole.rows.norm(dim=1), torch.ones(7, dtype=torch.float64))


def test_centres_are_kept_and_never_trained() -> None:
    method = build()
    assert list(method.named_parameters()) == []
    assert sorted(method.state_dict()) == ["lengths", "rows"]
    assert torch.equal(build(seed=4).centres, method.centres)
    assert not torch.equal(build(seed=5).centres, method.centres)
    assert build(count=400, dim=40).centres.std().item() == pytest.approx(0.01, rel=0.05)


def test_student_and_teacher_share_a_dimension() -> None:
    with pytest.raises(UserError, match=r"dimension 8 for adadistill, found 6"):
        AdaDistill(num_identities=3, dim=6, teacher_dim=8, margin=ArcFace())


def test_a_single_identity_costs_nothing() -> None:
    method = build(count=1)
    student, teacher, targets = problem(0, [0, 0])
    student.requires_grad_()
    found = method.loss(Seen(student), Batch(student, targets, targets, teacher_embeddings=teacher))
    found["loss"].backward()
    assert found["loss"].item() == 0.0
    assert torch.equal(student.grad, torch.zeros_like(student))
