from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.methods.learner import Learner, Term
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.simkd import PROJECTOR, SimKD
from proxylesskd.models import create_model


@pytest.mark.parametrize("normalised", [True, False])
def test_the_distance_before_the_classifier(normalised: bool) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    s, t = student.numpy(), teacher.numpy()
    if normalised:
        s, t = s / np.linalg.norm(s, axis=1, keepdims=True), t / np.linalg.norm(t, axis=1, keepdims=True)
    labels = torch.arange(4)
    batch = Batch(
        torch.zeros(4, 3, 2, 2),
        labels,
        labels,
        teacher_embeddings=F.normalize(teacher),
        teacher_norms=teacher.norm(dim=1),
    )
    method = SimKD(dim=6, teacher_dim=6, normalised=normalised)
    found = method.loss(Seen(student), batch)["loss"].item()
    assert found == pytest.approx(((s - t) ** 2).sum() / 4, abs=1e-9)
    assert method.needs == {"teacher_embeddings"} | (set() if normalised else {"teacher_norms"})


def test_backbone_and_projector_learn_together() -> None:
    torch.manual_seed(0)
    student = create_model("mobilefacenet", dim=6, width=0.125, image_size=32, projector=PROJECTOR).train()
    learner = Learner(student, [Term("simkd", SimKD(dim=6, teacher_dim=6))])
    target = F.normalize(torch.randn(8, 6))
    batch = Batch(torch.randn(8, 3, 32, 32), torch.arange(8), torch.arange(8), teacher_embeddings=target)
    names, parameters = zip(*learner.trainable(), strict=True)
    assert {name.partition(".")[0] for name in names} == {"backbone", "projector"}
    optimiser = torch.optim.SGD(parameters, lr=0.1)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = learner.step(batch)["loss"]
        loss.backward()
        losses.append(loss.item())
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]


def test_another_dimension_is_refused() -> None:
    with pytest.raises(UserError, match="dimension 7 for simkd"):
        SimKD(dim=5, teacher_dim=7)
