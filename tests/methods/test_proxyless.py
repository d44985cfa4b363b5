from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.losses.margin import ArcFace
from proxylesskd.methods.method import Batch
from proxylesskd.methods.proxyless import Proxyless
from tests.faces import tiny_student
from tests.reference import softmax as reference


def build(seed: int = 0) -> tuple[Proxyless, Batch]:
    torch.manual_seed(seed)
    classifier = InheritedClassifier(torch.randn(9, 6), [str(i) for i in range(9)], {})
    method = Proxyless(tiny_student(6), classifier, margin=ArcFace(0.3), scale=16.0)
    return method, Batch(torch.randn(5, 3, 14, 14), torch.tensor([0, 3, 3, 8, 1]), torch.arange(5))


def test_the_loss_is_the_papers() -> None:
    method, batch = build()
    found = method.step(batch)
    embeddings = method.student(batch.images).detach().double().numpy()
    rows = method.classifier.rows.double().numpy()
    each = reference.losses(embeddings, rows, batch.labels.tolist(), lambda c: reference.arcface(c, 0.3), 16.0)
    assert found["loss"].item() == pytest.approx(float(each.mean()), rel=1e-5)
    cosine = embeddings @ rows.T
    assert found["accuracy"].item() == pytest.approx(np.mean(cosine.argmax(axis=1) == batch.labels.numpy()))


def test_only_the_student_learns() -> None:
    method, batch = build()
    names = [name for name, _ in method.trainable()]
    assert names == [name for name, _ in method.student.named_parameters()]
    before = method.classifier.rows.clone()
    optimiser = torch.optim.SGD([p for _, p in method.trainable()], lr=0.5)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = method.step(batch)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(method.classifier.rows, before)
    assert method.needs == frozenset()


def test_a_checkpoint_of_other_rows_is_refused() -> None:
    method, other = build(0)[0], build(1)[0]
    method.load_state_dict(method.state_dict())
    with pytest.raises(UserError, match="earlier run"):
        method.load_state_dict(other.state_dict())
