from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.losses.margin import ArcFace
from proxylesskd.methods.learner import Learner, Term
from proxylesskd.methods.method import Batch
from proxylesskd.methods.proxyless import Proxyless
from tests.faces import tiny_student
from tests.reference import softmax as reference


def build(seed: int = 0) -> tuple[Learner, Proxyless, Batch]:
    torch.manual_seed(seed)
    classifier = InheritedClassifier(torch.randn(9, 6), [str(i) for i in range(9)], {})
    method = Proxyless(classifier=classifier, margin=ArcFace(0.3), scale=16.0)
    learner = Learner(tiny_student(6), [Term("proxyless", method)])
    return learner, method, Batch(torch.randn(5, 3, 14, 14), torch.tensor([0, 3, 3, 8, 1]), torch.arange(5))


def test_the_loss_is_the_papers() -> None:
    learner, method, batch = build()
    found = learner.step(batch)
    embeddings = learner.student(batch.images).detach().double().numpy()
    rows = method.classifier.rows.double().numpy()
    each = reference.losses(embeddings, rows, batch.labels.tolist(), lambda c: reference.arcface(c, 0.3), 16.0)
    assert found["loss"].item() == pytest.approx(float(each.mean()), rel=1e-5)
    cosine = embeddings @ rows.T
    assert found["accuracy"].item() == pytest.approx(np.mean(cosine.argmax(axis=1) == batch.labels.numpy()))


def test_only_the_student_learns() -> None:
    learner, method, batch = build()
    names = [name for name, _ in learner.trainable()]
    assert names == [name for name, _ in learner.student.named_parameters()]
    before = method.classifier.rows.clone()
    optimiser = torch.optim.SGD([p for _, p in learner.trainable()], lr=0.5)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = learner.step(batch)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(method.classifier.rows, before)
    assert method.needs == frozenset()


def test_a_checkpoint_of_other_rows_is_refused() -> None:
    method, other = build(0)[0], build(1)[0]
    assert list(method.state_dict()["proxyless"]) == ["classifier._extra_state"]
    method.load_state_dict(method.state_dict())
    with pytest.raises(UserError, match="earlier run"):
        method.load_state_dict(other.state_dict())


def test_only_the_general_part_is_classified() -> None:
    learner, _, batch = build()
    learner.student.eval()
    part = Batch(batch.images[:3], batch.labels[:3], batch.indices[:3])
    whole = Batch(batch.images, batch.labels, batch.indices, general=3)
    torch.testing.assert_close(learner.step(whole)["loss"], learner.step(part)["loss"])
