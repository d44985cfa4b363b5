from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.losses.margin import CosFace
from proxylesskd.methods.alone import Alone
from proxylesskd.methods.learner import Learner, Term
from proxylesskd.methods.method import Batch
from tests.faces import tiny_student
from tests.reference import softmax as reference


def build() -> tuple[Learner, Alone, Batch]:
    torch.manual_seed(0)
    method = Alone(num_identities=9, dim=6, margin=CosFace(0.2), scale=16.0, seed=4)
    return (
        Learner(tiny_student(6), [Term("alone", method)]),
        method,
        Batch(torch.randn(5, 3, 14, 14), torch.tensor([0, 3, 3, 8, 1]), torch.arange(5)),
    )


def test_the_loss_normalises_the_rows() -> None:
    learner, method, batch = build()
    embeddings = learner.student(batch.images).detach().double().numpy()
    rows = method.rows.detach().double().numpy()
    rows = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    each = reference.losses(embeddings, rows, batch.labels.tolist(), lambda c: c - 0.2, 16.0)
    assert learner.step(batch)["loss"].item() == pytest.approx(float(each.mean()), rel=1e-5)


def test_student_and_rows_learn() -> None:
    learner, _, batch = build()
    trainable = dict(learner.trainable())
    assert set(trainable) == {name for name, _ in learner.student.named_parameters()} | {"alone.rows"}
    learner.step(batch)["loss"].backward()
    assert all(parameter.grad is not None for parameter in trainable.values())


def test_rows_are_seeded_and_restored() -> None:
    method, again = build()[1], build()[1]
    assert torch.equal(method.rows, again.rows)
    assert 0.005 < float(method.rows.detach().std()) < 0.015
    with torch.no_grad():
        again.rows.add_(1.0)
    method.load_state_dict(again.state_dict())
    assert torch.equal(method.rows, again.rows)
