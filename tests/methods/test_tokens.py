from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import nn

from proxylesskd.errors import UserError
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.tokens import TokenDistillation, js_loss


class Rows(nn.Module):
    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("stored", rows)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    grown = np.exp((logits - logits.max()) / temperature)
    return grown / grown.sum()


def made(kind: str, heads: int = 2) -> tuple[TokenDistillation, Seen, Batch, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    rows = nn.functional.normalize(torch.randn(3, 5, generator=generator), dim=1)
    taught = nn.functional.normalize(torch.randn(4, 5, generator=generator), dim=1)
    method = TokenDistillation(
        classes=3, kind=kind, classifier=Rows(rows), scale=8.0, share=0.3, temperature=2.0, smoothing=0.1
    )
    said = torch.randn(4, heads * 3, generator=generator, requires_grad=True)
    batch = Batch(torch.zeros(4), torch.tensor([0, 2, 1, 1]), torch.arange(4), teacher_embeddings=taught)
    return method, Seen(said), batch, 8.0 * (taught @ rows.T).numpy()


def cross_entropy(logits: np.ndarray, label: int) -> float:
    """With labels smoothed by 0.1: 0.9 and a thirtieth on the own class, a thirtieth on each other one."""
    logs = np.log(softmax(logits))
    return -sum((0.9 * (k == label) + 0.1 / 3) * logs[k] for k in range(3))


@pytest.mark.parametrize("kind", ["labels", "kl", "js"])
@pytest.mark.parametrize("heads", [2, 1])
def test_the_loss_is_the_papers_equation_1(kind: str, heads: int) -> None:
    method, seen, batch, teacher = made(kind, heads)
    said = seen.embeddings.detach().double().numpy()
    hard = soft = 0.0
    for row, label, taught in zip(said, batch.labels.tolist(), teacher, strict=True):
        named, heard = row[:3], row[-3:]
        hard += cross_entropy(named, label) / 4
        if kind == "labels":
            soft += cross_entropy(heard, label) / 4
        else:
            told, guess = softmax(taught, 2.0), softmax(heard, 2.0)
            kl = sum(told[k] * math.log(told[k] / guess[k]) for k in range(3))
            soft += 4.0 * (kl if kind == "kl" else jensenshannon(told, guess) ** 2) / 4
    found = {name: value.detach() for name, value in method.loss(seen, batch).items()}
    assert float(found["hard"]) == pytest.approx(hard, rel=1e-5)
    assert float(found["soft"]) == pytest.approx(soft, rel=1e-5)
    assert float(found["loss"]) == pytest.approx(0.7 * hard + 0.3 * soft, rel=1e-5)
    right = [(row[:3] + row[-3:]).argmax() == label for row, label in zip(said, batch.labels.tolist(), strict=True)]
    assert float(found["accuracy"]) == pytest.approx(np.mean(right))


def test_js_is_zero_between_equals_symmetric_and_at_most_log_2() -> None:
    one, other = torch.randn(5, 4), torch.randn(5, 4)
    assert float(js_loss(one, one)) == pytest.approx(0.0, abs=1e-6)
    assert float(js_loss(one, other)) == pytest.approx(float(js_loss(other, one)))
    far = torch.tensor([[60.0, 0.0]])
    assert float(js_loss(far, far.flip(1))) == pytest.approx(math.log(2))


def test_needs_follow_the_kind() -> None:
    assert TokenDistillation(classes=3, kind="labels").needs == frozenset()
    assert made("kl")[0].needs == {"teacher_embeddings"}


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"kind": "jss"}, "did you mean 'js'"),
        ({"kind": "kl"}, "teacher"),
        ({"kind": "labels", "share": 1.5}, "share"),
        ({"kind": "labels", "temperature": 0.0}, "temperature"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], found: str) -> None:
    with pytest.raises(UserError, match=found):
        TokenDistillation(classes=3, **wrong)  # type: ignore[arg-type]
