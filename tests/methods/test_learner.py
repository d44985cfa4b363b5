from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from proxylesskd.methods.formula import rise
from proxylesskd.methods.learner import Learner, Term
from proxylesskd.methods.method import Batch, Seen, needed
from tests.faces import tiny_student


class Length(nn.Module):
    """Half the mean squared length, times something that is learned."""

    def __init__(self, needs: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.needs = needs
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("seen", torch.zeros(()))
        self.types: list[Any] = []

    def loss(self, seen: Seen, _batch: Batch, /) -> dict[str, Tensor]:
        self.seen += 1
        self.types.append((seen.embeddings.dtype, torch.is_autocast_enabled("cpu"), len(seen.maps)))
        return {"loss": self.factor * seen.embeddings.square().sum(1).mean() / 2, "accuracy": self.seen / 10}


def batch(progress: float = 0.0) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 14, 14, generator=generator)
    return Batch(images, torch.arange(4), torch.arange(4), progress=progress)


def test_the_sum_weighs_and_schedules_its_terms() -> None:
    torch.manual_seed(0)
    student = tiny_student(6).eval()
    terms = [Term("a", Length(), 3.0), Term("b", Length(), 5.0, lambda progress: rise(0.0, 1.0, progress))]
    told = Learner(student, terms).step(batch(0.25))
    length = student(batch().images).detach().square().sum(1).mean().item()
    assert told["loss"].item() == pytest.approx((3.0 + 5.0 * 0.25) * length, rel=1e-5)
    assert told["a.loss"].item() == told["b.loss"].item() == pytest.approx(length, rel=1e-5)
    assert set(told) == {"loss", "accuracy", "a.loss", "b.loss"}


def test_one_term_speaks_for_itself() -> None:
    told = Learner(tiny_student(6), [Term("a", Length(), 2.0)]).step(batch())
    assert set(told) == {"loss", "accuracy"}


def test_terms_see_float32_outside_autocast_and_maps_when_they_ask() -> None:
    asks = Length(frozenset({"student_maps"}))
    learner = Learner(tiny_student(6), [Term("a", asks), Term("b", Length())])
    assert learner.needs == {"student_maps"}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        learner.step(batch())
    dtype, autocast, maps = asks.types[0]
    assert (dtype, autocast) == (torch.float32, False)
    assert maps > 0


def test_state_and_parameters_of_all_terms() -> None:
    torch.manual_seed(0)
    first, second = (Learner(tiny_student(6), [Term("a", Length()), Term("b", Length())]) for _ in range(2))
    own = {name for name, _ in first.student.named_parameters()}
    assert {name for name, _ in first.trainable()} == own | {"a.factor", "b.factor"}
    first.step(batch())
    with torch.no_grad():
        dict(first.trainable())["b.factor"].fill_(7.0)
    second.load_state_dict(first.state_dict())
    assert dict(second.trainable())["b.factor"].item() == 7.0
    assert second.state_dict()["a"]["seen"].item() == 1.0


def test_what_a_batch_lacks_is_named() -> None:
    with pytest.raises(RuntimeError, match="teacher_norms"):
        needed(None, "teacher_norms")
