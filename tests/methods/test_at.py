from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.methods.at import AT, at_loss, attention
from proxylesskd.methods.learner import Learner, Term
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.models import create_model
from proxylesskd.models.maps import map_shapes, recording_maps


def _maps(shapes: Sequence[tuple[int, int]], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, s, s, generator=generator, dtype=torch.float64) for c, s in shapes]


def _attention(maps: Tensor, power: int) -> npt.NDArray[np.float64]:
    batch, channels, height, width = maps.shape
    result = np.zeros((batch, height * width))
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                values = [abs(float(maps[b, c, y, x])) ** power for c in range(channels)]
                result[b, y * width + x] = sum(values) / channels
        result[b] /= np.sqrt((result[b] ** 2).sum())
    return result


@pytest.mark.parametrize("power", [1, 2, 3])
def test_attention_in_loops(power: int) -> None:
    (maps,) = _maps([(3, 4)])
    np.testing.assert_allclose(attention(maps, power).numpy(), _attention(maps, power), atol=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_the_loss_in_loops_and_its_gradient(power: int) -> None:
    student, teacher = _maps([(3, 6), (4, 3)]), _maps([(2, 12), (5, 6), (7, 3)], seed=1)
    expected = 0.0
    for own, other in zip(student, teacher[1:], strict=True):
        expected += ((_attention(own, power) - _attention(other, power)) ** 2).mean()
    assert at_loss(student, teacher, power).item() == pytest.approx(expected, abs=1e-12)
    points = [each.requires_grad_() for each in student]
    assert torch.autograd.gradcheck(lambda *maps: at_loss(maps, teacher, power), points)


def test_a_student_of_smaller_images() -> None:
    student, teacher = _maps([(3, 4), (4, 2)]), _maps([(5, 8), (7, 4)], seed=1)
    pooled = [each.reshape(2, each.shape[1], s, 2, s, 2).mean(dim=(3, 5)) for each, s in zip(teacher, (4, 2))]  # noqa: B905
    gaps = [((_attention(a, 2) - _attention(b, 2)) ** 2).mean() for a, b in zip(student, pooled, strict=True)]
    assert at_loss(student, teacher).item() == pytest.approx(sum(gaps), abs=1e-12)


def test_a_student_learns_where_to_look() -> None:
    torch.manual_seed(0)
    student = create_model("mobilefacenet", dim=6, width=0.125, image_size=32).train()
    teacher = create_model("iresnet18", dim=6, width=0.125, image_size=48).eval()
    with torch.no_grad(), recording_maps(teacher) as maps:
        teacher(torch.randn(8, 3, 48, 48))
    method = AT(student_shapes=map_shapes(student, 32), teacher_shapes=map_shapes(teacher, 48))
    learner = Learner(student, [Term("at", method, weight=1000.0)])
    assert learner.needs == {"teacher_maps", "student_maps"}
    labels = torch.arange(8)
    batch = Batch(torch.randn(8, 3, 32, 32), labels, labels, teacher_maps=tuple(maps))
    optimiser = torch.optim.SGD(student.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = learner.step(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        losses.append(loss.item())
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]


def test_what_cannot_be_meant_is_refused() -> None:
    shapes = ((3, 4, 4),)
    with pytest.raises(UserError, match="expected a convolutional teacher for at"):
        AT(student_shapes=shapes, teacher_shapes=())
    with pytest.raises(UserError, match="expected a convolutional student for at"):
        AT(student_shapes=(), teacher_shapes=shapes)
    with pytest.raises(UserError, match="power >= 1 of at, found 0"):
        AT(student_shapes=shapes, teacher_shapes=shapes, power=0)
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.arange(2), torch.arange(2))
    with pytest.raises(RuntimeError, match="batch with teacher_maps"):
        AT(student_shapes=shapes, teacher_shapes=shapes).loss(Seen(torch.zeros(2, 3)), batch)
