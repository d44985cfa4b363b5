from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.methods.fitnet import FitNet, fitnet_loss
from proxylesskd.methods.method import Batch, Seen

STUDENT = ((2, 8, 8), (3, 4, 4), (4, 2, 2))
TEACHER = ((5, 16, 16), (6, 8, 8), (7, 4, 4))


def test_the_loss_in_loops_and_its_gradient() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 5, 8, 8).double()
    weight, bias = torch.randn(5, 3, 1, 1).double(), torch.randn(5).double()
    total = 0.0
    for b, o, y, x in np.ndindex(2, 5, 4, 4):
        guess = float(bias[o]) + sum(float(weight[o, c, 0, 0] * student[b, c, y, x]) for c in range(3))
        hint = sum(float(teacher[b, o, 2 * y + i, 2 * x + j]) for i in (0, 1) for j in (0, 1)) / 4
        total += (guess - hint) ** 2
    assert fitnet_loss(student, teacher, weight, bias).item() == pytest.approx(total / (2 * 5 * 4 * 4), abs=1e-12)
    points = [each.requires_grad_() for each in (student, weight, bias)]
    assert torch.autograd.gradcheck(lambda s, w, b: fitnet_loss(s, teacher, w, b), points)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_stage_counts_from_the_deep_end(stage: int) -> None:
    method = FitNet(student_shapes=STUDENT, teacher_shapes=TEACHER, stage=stage)
    student = tuple(torch.randn(2, *shape) for shape in STUDENT)
    teacher = tuple(torch.randn(2, *shape) for shape in TEACHER)
    batch = Batch(torch.zeros(2, 3, 8, 8), torch.arange(2), torch.arange(2), teacher_maps=teacher)
    found = method.loss(Seen(torch.zeros(2, 4), student), batch)["loss"]
    place = 3 - stage
    weight, bias = (each.detach().double() for each in (method.regressor.weight, method.regressor.bias))
    own = np.einsum("oc,bcyx->boyx", weight[:, :, 0, 0].numpy(), student[place].double().numpy())
    own += bias.numpy()[None, :, None, None]
    side = STUDENT[place][1]
    hint = teacher[place].double().numpy().reshape(2, -1, side, 2, side, 2).mean(axis=(3, 5))
    assert found.item() == pytest.approx(((own - hint) ** 2).mean(), rel=1e-5)
    assert method.needs == {"teacher_maps", "student_maps"}


def test_first_values_depend_on_the_seed_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        return FitNet(student_shapes=STUDENT, teacher_shapes=TEACHER, seed=seed).regressor.weight.detach()

    first = weights(3)
    torch.manual_seed(99)
    assert torch.equal(first, weights(3))
    assert not torch.equal(first, weights(4))
    assert float(first.abs().max()) <= 1 / np.sqrt(3)


def test_what_cannot_be_meant_is_refused() -> None:
    for stage in (0, 4):
        with pytest.raises(UserError, match=rf"stage in 1..3 of fitnet, .* found {stage}"):
            FitNet(student_shapes=STUDENT, teacher_shapes=TEACHER, stage=stage)
    with pytest.raises(UserError, match="convolutional teacher for fitnet"):
        FitNet(student_shapes=STUDENT, teacher_shapes=())
