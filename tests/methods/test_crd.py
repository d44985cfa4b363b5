from __future__ import annotations

import copy
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.methods.crd import CRD, mean_exponential, nce_loss, similarities
from proxylesskd.methods.method import Batch, Seen
from tests.distributed.ring import run_together

Array = npt.NDArray[np.float64]


def _unit(values: Array) -> Array:
    return values / np.sqrt((values**2).sum(axis=-1, keepdims=True))


def test_the_loss_in_loops_and_its_gradient() -> None:
    torch.manual_seed(0)
    anchors, own, negatives = (F.normalize(torch.randn(n, 4, dtype=torch.float64)) for n in (3, 3, 5))
    others = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [1, 0, 0, 0, 0]]).bool()
    constant, tau, images = 900.0, 0.2, 40
    expected, exponentials = 0.0, []
    for i in range(3):
        m = int(others[i].sum())
        for j in range(-1, 5):
            if j >= 0 and not others[i, j]:
                continue
            other = own[i] if j < 0 else negatives[j]
            power = math.exp(float(anchors[i] @ other) / tau)
            exponentials.append(power)
            chance = power / constant / (power / constant + m / images)
            expected -= math.log(chance if j < 0 else 1 - chance) / 3
    positive, negative = similarities(anchors, own, negatives, tau)
    found = nce_loss(positive, negative, others, torch.tensor(constant, dtype=torch.float64), images)
    assert found.item() == pytest.approx(expected, abs=1e-9)
    assert mean_exponential(positive, negative, others).item() == pytest.approx(np.mean(exponentials), rel=1e-12)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return nce_loss(*similarities(x, own, negatives, tau), others, torch.tensor(constant).double(), images)

    assert torch.autograd.gradcheck(loss, anchors.requires_grad_())


class _Reference:
    """The method in numpy, where all images are candidates."""

    def __init__(self, method: CRD) -> None:
        state = {name: value.detach().numpy().copy() for name, value in method.state_dict().items()}
        self.layers = [(state[f"{who}_layer.weight"], state[f"{who}_layer.bias"]) for who in ("student", "teacher")]
        self.banks = [state["student_bank"], state["teacher_bank"]]
        self.identities = [-1] * len(self.banks[0])
        self.constants = [0.0, 0.0]
        self.tau, self.momentum = method.temperature, method.momentum

    def step(self, embeddings: list[Array], labels: list[int], indices: list[int]) -> list[float]:
        images = len(self.identities)
        vectors = [_unit(x @ w.T + b) for x, (w, b) in zip(embeddings, self.layers, strict=True)]
        losses = []
        for direction in (0, 1):
            bank, terms, exponentials = self.banks[1 - direction], 0.0, []
            chosen = [
                [j for j in range(images) if j != index and self.identities[j] != label]
                for index, label in zip(indices, labels, strict=True)
            ]
            for i, index in enumerate(indices):
                exponentials += [math.exp(vectors[direction][i] @ bank[j] / self.tau) for j in [index, *chosen[i]]]
            self.constants[direction] = self.constants[direction] or float(np.mean(exponentials))
            z = self.constants[direction] * images
            for i, index in enumerate(indices):
                noise = len(chosen[i]) / images
                for j in [index, *chosen[i]]:
                    p = math.exp(vectors[direction][i] @ bank[j] / self.tau) / z
                    terms -= math.log((p if j == index else noise) / (p + noise))
            losses.append(terms / len(indices))
        for bank, fresh in zip(self.banks, vectors, strict=True):
            old = bank.copy()
            for index in set(indices):
                mean = np.mean([fresh[i] for i, other in enumerate(indices) if other == index], axis=0)
                bank[index] = _unit(self.momentum * old[index] + (1 - self.momentum) * mean)
        for label, index in zip(labels, indices, strict=True):
            self.identities[index] = label
        return losses


def _method(**options: object) -> CRD:
    given: dict[str, object] = {"dim": 5, "teacher_dim": 7, "images": 9, "features": 4, "seed": 3}
    return CRD(**(given | options)).double()  # type: ignore[arg-type]


def _batch(seed: int, labels: list[int], indices: list[int], step: int = 0) -> tuple[Seen, Batch]:
    generator = torch.Generator().manual_seed(seed)
    count = len(labels)
    student = torch.randn(count, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = F.normalize(torch.randn(count, 7, generator=generator, dtype=torch.float64))
    images = torch.zeros(count, 3, 2, 2)
    return Seen(student), Batch(
        images, torch.tensor(labels), torch.tensor(indices), step=step, teacher_embeddings=teacher
    )


STEPS = (([0, 0, 1], [2, 5, 7]), ([1, 0, 2, 2], [7, 2, 8, 8]), ([2, 0, 1], [0, 5, 3]))


def test_steps_with_their_memory_in_loops() -> None:
    method = _method(temperature=0.3, momentum=0.6)
    reference = _Reference(method)
    for step, (labels, indices) in enumerate(STEPS):
        seen, batch = _batch(step, labels, indices, step)
        told = method.loss(seen, batch)
        assert batch.teacher_embeddings is not None
        pair = [seen.embeddings.detach().numpy(), batch.teacher_embeddings.numpy()]
        student, teacher = reference.step(pair, labels, indices)
        assert told["student"].item() == pytest.approx(student, abs=1e-6)
        assert told["teacher"].item() == pytest.approx(teacher, abs=1e-6)
        assert told["loss"].item() == pytest.approx(student + teacher, abs=1e-6)
        np.testing.assert_allclose(method.student_bank.numpy(), reference.banks[0], atol=1e-9)
        np.testing.assert_allclose(method.teacher_bank.numpy(), reference.banks[1], atol=1e-9)
    assert method.identities.tolist() == reference.identities
    assert method.needs == {"teacher_embeddings"}


def test_the_gradient_reaches_student_and_both_layers_and_no_memory() -> None:
    method = _method()
    seen, batch = _batch(0, *STEPS[0])
    method.loss(seen, batch)["loss"].backward()
    assert seen.embeddings.grad is not None
    assert seen.embeddings.grad.abs().sum() > 0
    names = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert names == {f"{who}_layer.{part}" for who in ("student", "teacher") for part in ("weight", "bias")}
    assert {name for name, _ in method.named_buffers()} == {"student_bank", "teacher_bank", "identities", "constants"}


def test_few_of_many_are_drawn_by_seed_and_step() -> None:
    method = _method(images=5000, negatives=300)
    first = method._draw(7)
    assert len(first) == 300
    assert 0 <= int(first.min()) <= int(first.max()) < 5000
    torch.manual_seed(5)
    assert torch.equal(first, _method(images=5000, negatives=300)._draw(7))
    assert not torch.equal(first, method._draw(8))
    assert not torch.equal(first, _method(images=5000, negatives=300, seed=4)._draw(7))
    assert sorted(method._draw(1).tolist())[150] == pytest.approx(2500, abs=600)
    assert _method(images=9, negatives=300)._draw(7).tolist() == list(range(9))
    told = method.loss(*_batch(0, *STEPS[0], step=7))
    assert told["loss"].isfinite()


def test_a_step_that_is_not_finite_leaves_no_trace() -> None:
    method = _method()
    before = copy.deepcopy(method.state_dict())
    seen, batch = _batch(0, *STEPS[0])
    broken = Seen(seen.embeddings.detach() * math.nan)
    assert not method.loss(broken, batch)["loss"].isfinite()
    after = method.state_dict()
    assert torch.equal(after["student_bank"], before["student_bank"])
    assert float(after["constants"][0]) == 0.0
    assert method.loss(seen, batch)["loss"].isfinite()


def test_first_values_and_state() -> None:
    torch.manual_seed(0)
    method = _method()
    torch.manual_seed(1)
    again = _method()
    for name, value in method.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(method.student_bank, _method(seed=4).student_bank)
    method.loss(*_batch(0, *STEPS[0]))
    again.load_state_dict(method.state_dict())
    told = [each.loss(*_batch(1, *STEPS[1]))["loss"] for each in (method, again)]
    assert torch.equal(told[0], told[1])


def test_matching_embeddings_are_told_apart() -> None:
    torch.manual_seed(0)
    method = _method(images=32, features=8, dim=5, temperature=0.1)
    faces = torch.randn(32, 5, dtype=torch.float64)
    teacher = F.normalize(faces @ torch.randn(5, 7, dtype=torch.float64))
    student = torch.randn(32, 5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([student, *method.parameters()], lr=0.03)
    losses = []
    for step in range(40):
        part = torch.randperm(32)[:16]
        batch = Batch(torch.zeros(16, 3, 2, 2), part, part, step=step, teacher_embeddings=teacher[part])
        loss = method.loss(Seen(student[part]), batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def _half(rank: int, world: int) -> None:
    """What one of two processes sees, against one that sees all."""
    labels, indices = [0, 0, 1, 2], [2, 5, 7, 2]
    whole, part = _method(), _method()
    seen, batch = _batch(0, labels, indices)
    assert batch.teacher_embeddings is not None
    own = slice(2 * rank, 2 * rank + 2)
    mine = Batch(
        batch.images[own], batch.labels[own], batch.indices[own], teacher_embeddings=batch.teacher_embeddings[own]
    )
    part.loss(Seen(seen.embeddings[own]), mine)
    import proxylesskd.methods.crd as module

    module.from_all_ranks = lambda values: values  # type: ignore[assignment]
    module.sum_over_ranks, module.world_size = (lambda values: values), (lambda: 1)  # type: ignore[assignment]
    whole.loss(seen, batch)
    torch.testing.assert_close(part.student_bank, whole.student_bank)
    torch.testing.assert_close(part.teacher_bank, whole.teacher_bank)
    torch.testing.assert_close(part.constants, whole.constants)
    assert part.identities[5] == 0
    assert part.identities[7] == 1


def test_two_processes_remember_the_same() -> None:
    assert run_together(2, _half) == [0, 0]


@pytest.mark.parametrize(
    "options", [{"negatives": 0}, {"temperature": 0.0}, {"momentum": 1.0}, {"momentum": -0.1}, {"features": 0}]
)
def test_what_cannot_be_meant_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="expected negatives >= 1, features >= 1"):
        _method(**options)
