"""What stands before the first step."""

from __future__ import annotations

import torch

from proxylesskd.training.set_up import set_up
from tests.training.pieces import convolutional


def test_the_student_lies_as_asked_and_what_is_frozen_stays_out() -> None:
    method = convolutional()
    method.student.eval()
    method.student[0].bias.requires_grad_(False)
    state = set_up(method, None, True, (0, 1), kind="sgd", lr=0.1)
    assert method.student.training
    assert method.student[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert [id(p) for p in state.parameters] == [id(p) for p in method.student.parameters() if p.requires_grad]
    assert len(state.parameters) == len(list(method.student.parameters())) - 1
    assert (state.rank, state.world, state.step, state.device) == (0, 1, 0, torch.device("cpu"))
