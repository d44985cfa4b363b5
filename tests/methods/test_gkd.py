"""GKD against its equations in plain loops."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.losses.adaptive_margin import AdaFace, CurricularFace, MagFace
from proxylesskd.losses.margin import ArcFace, CosFace
from proxylesskd.methods.gkd import GKD, gkd_losses, primary_group, primary_size
from proxylesskd.methods.method import Batch, Seen
from tests.reference import softmax as reference

Array = npt.NDArray[np.float64]
COUNT, DIM, SCALE = 11, 6, 16.0


class Rows(torch.nn.Module):
    """Frozen rows without a file."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("stored", F.normalize(rows, dim=1))


def probabilities(logits: list[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(value - top) for value in logits]
    return [weight / sum(weights) for weight in weights]


def divergence(teacher: list[float], student: list[float]) -> float:
    return sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True))


def plain_losses(student: Array, teacher: Array, groups: list[list[int]], temperature: float) -> tuple[float, ...]:
    """The three divergences, one sample at a time, of probabilities and their sums."""
    sums = [0.0, 0.0, 0.0]
    for s, t, group in zip((student / temperature).tolist(), (teacher / temperature).tolist(), groups, strict=True):
        p_s, p_t = probabilities(s), probabilities(t)
        rest = [j for j in range(len(s)) if j not in group]
        masses = [[sum(p[j] for j in part) for part in (group, rest)] for p in (p_t, p_s)]
        if rest:
            sums[0] += divergence(*masses)
        for number, part in ((1, group), (2, rest)):
            if part:
                sums[number] += divergence(probabilities([t[j] for j in part]), probabilities([s[j] for j in part]))
    return tuple(temperature**2 * value / len(groups) for value in sums)


def plain_group(logits: list[float], label: int, size: int) -> list[int]:
    others = sorted((j for j in range(len(logits)) if j != label), key=lambda j: -logits[j])
    return [label, *others[: size - 1]]


def plain_size(student: Array, coverage: float, stride: int) -> int:
    mass = sorted(np.sum([probabilities(row) for row in student.tolist()], axis=0), reverse=True)
    for size in range(1, len(mass) + 1, stride):
        if sum(mass[:size]) >= coverage * len(student):
            return size
    return len(mass)


def logits_of(seed: int, batch: int = 5, count: int = COUNT) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 4.0 * torch.randn(2, batch, count, generator=generator, dtype=torch.float64)
    return student, teacher, torch.randint(count, (batch,), generator=generator)


@pytest.mark.parametrize("size", [1, 2, 5, 10, 11])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergences_are_the_papers(size: int, temperature: float) -> None:
    student, teacher, labels = logits_of(size)
    group = primary_group(student, labels, size)
    groups = [plain_group(row, int(label), size) for row, label in zip(student.tolist(), labels, strict=True)]
    assert [sorted(row) for row in group.tolist()] == [sorted(row) for row in groups]
    expected = plain_losses(student.numpy(), teacher.numpy(), groups, temperature)
    found = gkd_losses(student, teacher, group, temperature)
    assert [each.item() for each in found] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    without = gkd_losses(student, teacher, group, temperature, secondary=False)
    assert [each.item() for each in without] == pytest.approx([*expected[:2], 0.0], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_gradient_is_that_of_the_divergences(size: int) -> None:
    student, teacher, labels = logits_of(3, batch=2, count=5)
    group = primary_group(student, labels, size)
    leaf = student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: torch.stack(gkd_losses(x, teacher, group)).sum(), (leaf,))


@pytest.mark.parametrize("stride", [1, 3, 100])
@pytest.mark.parametrize("coverage", [0.01, 0.5, 0.93, 1.0])
def test_the_group_is_the_smallest_that_holds_the_coverage(stride: int, coverage: float) -> None:
    for seed in range(5):
        student, _, _ = logits_of(seed, batch=4, count=37)
        mass = F.softmax(student, dim=1).sum(dim=0)
        expected = plain_size(student.numpy(), coverage, stride)
        if coverage < 1.0:  # the whole mass is a matter of rounding
            assert primary_size(mass, coverage * 4, stride) == expected
    assert primary_size(torch.tensor([0.2, 0.5, 0.3]), 2.0) == 3
    assert primary_size(torch.tensor([0.2, 0.5, 0.3]), 0.5) == 1


def build(**options: object) -> tuple[GKD, Seen, Batch]:
    generator = torch.Generator().manual_seed(0)
    rows = Rows(torch.randn(COUNT, DIM, generator=generator, dtype=torch.float64))
    student = 2.0 * torch.randn(5, DIM, generator=generator, dtype=torch.float64)
    teacher = F.normalize(torch.randn(5, DIM, generator=generator, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 3, 10, 3, 7])
    given: dict[str, object] = {"margin": CosFace(0.4), "scale": SCALE} | options
    method = GKD(classifier=rows, num_identities=COUNT, dim=DIM, teacher_dim=DIM, **given)  # type: ignore[arg-type]
    batch = Batch(student, labels, labels, progress=0.2, teacher_embeddings=teacher)
    return method.double(), Seen(student.requires_grad_()), batch


def margined(unit: Array, rows: Array, labels: list[int], margin: object, m: float) -> Array:
    logits = unit / np.linalg.norm(unit, axis=1, keepdims=True) @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
    for sample, label in enumerate(labels):
        logits[sample, label] = margin(logits[sample, label], m)  # type: ignore[operator]
    return SCALE * logits


@pytest.mark.parametrize("head", ["own", "inherited"])
@pytest.mark.parametrize("group", [0, 4, 1000])
@pytest.mark.parametrize(("margin", "plain", "m"), [(CosFace(0.4), "cosface", 0.4), (ArcFace(0.3), "arcface", 0.3)])
def test_the_loss_is_the_papers(head: str, group: int, margin: object, plain: str, m: float) -> None:
    method, seen, batch = build(head=head, group=group, margin=margin, secondary=0.5)
    frozen = method.heads.classifier.stored.numpy()
    own = frozen if method.heads.own is None else method.heads.own.rows.detach().numpy()
    labels, shift = batch.labels.tolist(), getattr(reference, plain)
    student = margined(seen.embeddings.detach().numpy(), own, labels, shift, m)
    teacher = margined(batch.teacher_embeddings.numpy(), frozen, labels, shift, m)
    size = min(group, COUNT) if group else plain_size(student, 0.93, 1)
    groups = [plain_group(row, label, size) for row, label in zip(student.tolist(), labels, strict=True)]
    binary, primary, secondary = plain_losses(student, teacher, groups, 4.0)
    entropy = np.mean(
        [-math.log(probabilities(row)[label]) for row, label in zip(student.tolist(), labels, strict=True)]
    )
    found = method.loss(seen, batch)
    assert found["group"].item() == size
    assert found["hard"].item() == pytest.approx(entropy, rel=1e-9)
    assert found["binary"].item() == pytest.approx(binary, rel=1e-8, abs=1e-12)
    expected = entropy + 0.2 / 0.5 * (binary + 8.0 * primary + 0.5 * secondary)
    assert found["loss"].item() == pytest.approx(expected, rel=1e-8)


def test_the_own_head_learns_and_the_inherited_one_does_not() -> None:
    method, seen, batch = build()
    method.loss(seen, batch)["loss"].backward()
    assert [name for name, _ in method.named_parameters()] == ["heads.own.rows"]
    assert method.heads.own.rows.grad.norm() > 0
    assert seen.embeddings.grad.norm() > 0
    method, seen, batch = build(head="inherited")
    assert list(method.named_parameters()) == []
    first = build(seed=1)[0].heads.own.rows
    assert torch.equal(first, build(seed=1)[0].heads.own.rows)
    assert not torch.equal(first, build(seed=2)[0].heads.own.rows)


def test_the_divergences_rise_with_the_training() -> None:
    method, seen, batch = build(warmup=0.5)
    always, _, _ = build(warmup=0.0)
    shares = []
    for progress in (0.0, 0.25, 0.5, 0.9):
        now = Batch(
            batch.images, batch.labels, batch.indices, progress=progress, teacher_embeddings=batch.teacher_embeddings
        )
        told, full = method.loss(seen, now), always.loss(seen, now)
        shares.append(((told["loss"] - told["hard"]) / (full["loss"] - full["hard"])).item())
    assert shares == pytest.approx([0.0, 0.5, 1.0, 1.0])


def test_only_the_general_part_counts() -> None:
    method, seen, batch = build(head="inherited")
    teacher = batch.teacher_embeddings
    part = Batch(batch.images, batch.labels, batch.indices, general=3, teacher_embeddings=teacher)
    alone = Batch(batch.images[:3], batch.labels[:3], batch.indices[:3], teacher_embeddings=teacher[:3])
    found, expected = method.loss(seen, part), method.loss(Seen(seen.embeddings[:3]), alone)
    assert {key: value.item() for key, value in found.items()} == {key: value.item() for key, value in expected.items()}


def test_margins_that_follow_lengths_hear_the_students_alone() -> None:
    method, seen, batch = build(margin=AdaFace(0.4), head="inherited")
    method.float().loss(seen, batch)
    follow = AdaFace(0.4)
    follow(torch.zeros(5, dtype=torch.float64), seen.embeddings.norm(dim=1))
    torch.testing.assert_close(method.margin.mean, follow.mean)
    plain = build(margin=CosFace(0.0), head="inherited")[0].loss(seen, batch)["loss"]
    assert build(margin=MagFace(0.0, 0.0), head="inherited")[0].loss(seen, batch)["loss"] > plain + 1.0  # its penalty
    method, seen, batch = build(margin=CurricularFace(0.5))
    with pytest.raises(UserError, match="margin on the own identity alone for gkd"):
        method.float().loss(seen, batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": -1}, "expected group >= 0"),
        ({"stride": 0}, "stride >= 1"),
        ({"coverage": 0.0}, r"coverage in \(0, 1\]"),
        ({"warmup": 1.5}, "warmup in"),
        ({"primary": -1.0}, "weights >= 0"),
        ({"temperature": 0.0}, "positive temperature of gkd"),
        ({"head": "owm"}, "expected head inherited or own of gkd"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**options)


def test_a_part_of_the_classifier_is_refused() -> None:
    rows = Rows(torch.randn(4, DIM))
    with pytest.raises(UserError, match="expected all 5 rows of the classifier for gkd, found 4"):
        GKD(classifier=rows, num_identities=5, dim=DIM, teacher_dim=DIM, margin=CosFace(0.4))
