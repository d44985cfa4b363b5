from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.losses.rows import quantise
from proxylesskd.methods import coupleface
from proxylesskd.methods.coupleface import CoupleFace, nearest_prototypes, relation_loss
from proxylesskd.methods.method import Seen
from tests.methods.relational import batch_of, drawn, turned, unit, value_of

COUNT, DIM = 9, 5
LABELS = torch.tensor([0, 8, 3, 3, 1, 7, 2])


class Prototypes(nn.Module):
    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("stored", F.normalize(rows, dim=1))


def rows_of(seed: int = 9) -> Tensor:
    return torch.randn(COUNT, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(rows: Tensor | None = None, **options: object) -> CoupleFace:
    classifier = Prototypes(rows_of() if rows is None else rows)
    return CoupleFace(classifier=classifier, dim=DIM, teacher_dim=DIM, **options)  # type: ignore[arg-type]


def plain(student: Tensor, teacher: Tensor, count: int, one_sided: bool) -> tuple[float, float]:
    s, t, rows = unit(student), unit(teacher), unit(rows_of())
    feature = relation = 0.0
    for i, label in enumerate(LABELS.tolist()):
        feature += float(((s[i] - t[i]) ** 2).sum())
        others = sorted((j for j in range(COUNT) if j != label), key=lambda j: -float(t[i] @ rows[j]))[:count]
        for j in others:
            excess = float(s[i] @ rows[j]) - float(t[i] @ rows[j])
            relation += excess**2 if excess > 0 or not one_sided else 0.0
    return feature / len(LABELS), relation / len(LABELS)


@pytest.mark.parametrize("one_sided", [True, False])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_the_loss_in_loops_and_its_gradient(count: int, one_sided: bool) -> None:
    student, teacher = drawn(teacher_dim=DIM)
    method = made(prototypes=count, one_sided=one_sided, relation=0.3)
    terms = method.loss(Seen(student), batch_of(teacher, LABELS))
    feature, relation = plain(student, teacher, count, one_sided)
    assert terms["feature"].item() == pytest.approx(feature, abs=1e-9)
    assert terms["relation"].item() == pytest.approx(relation, abs=1e-9)
    assert terms["loss"].item() == pytest.approx(feature + 0.3 * relation, abs=1e-9)
    batch = batch_of(teacher, LABELS)
    assert torch.autograd.gradcheck(lambda x: method.loss(Seen(x), batch)["loss"], student.requires_grad_())


def test_prototypes_are_found_block_by_block_in_any_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    _, teacher = drawn(1, teacher_dim=DIM)
    teacher, rows = F.normalize(teacher, dim=1), F.normalize(rows_of(), dim=1)
    expected = nearest_prototypes(teacher, rows, LABELS, 4)
    monkeypatch.setattr(coupleface, "_ROWS", 2)
    assert torch.equal(nearest_prototypes(teacher, rows, LABELS, 4), expected)
    assert not (expected == LABELS[:, None]).any()
    stored = quantise(rows)
    rounded = (stored.codes * stored.steps[:, None]).double()
    expected = nearest_prototypes(teacher, rounded, LABELS, 4)
    assert torch.equal(nearest_prototypes(teacher, stored, LABELS, 4), expected)


def test_what_student_and_teacher_agree_on_costs_nothing() -> None:
    _, teacher = drawn(2, teacher_dim=DIM)
    assert value_of(made(), 3 * teacher, teacher, LABELS) == pytest.approx(0.0, abs=1e-20)


def test_turning_everything_costs_nothing() -> None:
    student, teacher = drawn(3, teacher_dim=DIM)
    expected = value_of(made(), student, teacher, LABELS)
    assert value_of(made(turned(rows_of())), turned(student) * 2, turned(teacher), LABELS) == pytest.approx(expected)
    assert value_of(made(), turned(student), teacher, LABELS) != pytest.approx(
        expected
    )  # it learns the teacher's space


def test_less_similar_to_others_is_no_error() -> None:
    teacher = torch.tensor([[0.5, 0.1]])
    assert relation_loss(teacher - 0.2, teacher).item() == 0.0
    assert relation_loss(teacher + 0.2, teacher).item() == pytest.approx(0.08)
    assert relation_loss(teacher - 0.2, teacher, one_sided=False).item() == pytest.approx(0.08)


def test_one_identity_has_no_relations() -> None:
    student, teacher = drawn(4, teacher_dim=DIM)
    labels = torch.zeros_like(LABELS)
    terms = made(rows_of()[:1]).loss(Seen(student), batch_of(teacher, labels))
    assert terms["relation"].item() == 0.0
    assert terms["loss"].isfinite()


def test_it_trains_nothing_itself() -> None:
    assert list(made().named_parameters()) == []
    assert CoupleFace.needs == {"teacher_embeddings"}


def test_options_and_dimensions_that_do_not_fit_are_refused() -> None:
    for wrong in ({"prototypes": 0}, {"relation": -1.0}, {"relation": float("nan")}):
        with pytest.raises(UserError, match="of coupleface, found"):
            made(**wrong)  # type: ignore[arg-type]
    for dim, teacher_dim in ((4, DIM), (DIM, 4)):
        with pytest.raises(UserError, match="dimension 5 for coupleface"):
            CoupleFace(classifier=Prototypes(rows_of()), dim=dim, teacher_dim=teacher_dim)
