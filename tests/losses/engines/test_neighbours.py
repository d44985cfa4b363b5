from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.adaptive_margin import CurricularFace
from proxylesskd.losses.engines import neighbours
from proxylesskd.losses.engines.chunked import Chunked
from proxylesskd.losses.engines.engine import Bend
from proxylesskd.losses.engines.neighbours import Neighbours, gradient_cosine
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import ArcFace
from proxylesskd.losses.nearest_rows import NearestRows, find_nearest
from proxylesskd.losses.rows import Rows, quantise, split
from tests.losses.problems import loss_and_gradient, plain_arcface, problem, relative

COUNT, DIM, K = 211, 16, 6


@pytest.fixture
def world() -> tuple[Tensor, Tensor, Tensor, NearestRows]:
    """Embeddings near their rows, rows, labels and the table; rows 3 and 7 are the same person."""
    _, rows, _ = problem(2, COUNT, DIM)
    rows[7] = F.normalize(rows[3] + 0.1 * rows[4], dim=0)
    labels = torch.tensor([3, 7, 3, 100, 210, 0, 55])
    unit = F.normalize(rows[labels] + torch.randn(7, DIM, generator=torch.Generator().manual_seed(1)) / 8, dim=1)
    return unit, rows, labels, find_nearest(rows, K)


def same_person(rows: Tensor, own: int, threshold: float) -> set[int]:
    """The row itself and its duplicates, from all cosines."""
    return {own} | {other for other in range(len(rows)) if float(rows[own] @ rows[other]) >= threshold}


def by_formula(
    unit: Tensor, rows: Tensor, labels: Tensor, engine: Neighbours, scale: float, bend: Bend | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """lse, its gradient and the largest cosine, sample by sample, negative by negative."""
    table, leaf, values, best = engine.table, unit.clone().requires_grad_(), [], []
    near = {int(y) for y in labels} | {int(row) for y in labels for row in table.rows[int(y)]}
    chosen = engine.choose(labels)
    weight = (len(rows) - len(near)) / max(len(chosen.drawn), 1)
    for sample, (x, y) in enumerate(zip(leaf, labels.tolist(), strict=True)):
        met = [(j, 1.0) for j in sorted(near - same_person(rows, y, engine.duplicate))]
        met += [(int(j), weight) for j in chosen.drawn]
        logits = []
        for j, factor in met:
            cosine = rows[j] @ x
            if bend is not None and cosine > bend.threshold[sample]:
                cosine = cosine * (bend.t + cosine)
            logits.append(scale * cosine + math.log(factor))
        values.append(torch.logsumexp(torch.stack(logits), dim=0))
        best.append(max(float(rows[j] @ x.detach()) for j, _ in met))
    lse = torch.stack(values)
    (gradient,) = torch.autograd.grad(lse.sum(), leaf)
    return lse.detach(), gradient, torch.tensor(best, dtype=unit.dtype)


def by_engine(
    unit: Tensor, rows: Rows, labels: Tensor, engine: Neighbours, scale: float, bend: Bend | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    leaf = unit.clone().requires_grad_()
    lse, best = engine.negatives(leaf, rows, labels, scale, bend)
    (gradient,) = torch.autograd.grad(lse.sum(), leaf)
    assert not best.requires_grad
    return lse.detach(), gradient, best


@pytest.mark.parametrize("scale", [1.0, 64.0, 300.0])
@pytest.mark.parametrize("sample", [0.0, 0.1, 0.999])
@pytest.mark.parametrize("piece", [5, 8192])
def test_sums_are_those_of_the_formula(
    world: tuple[Tensor, Tensor, Tensor, NearestRows],
    scale: float,
    sample: float,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unit, rows, labels, table = world
    monkeypatch.setattr(neighbours, "PIECE", piece)
    engine = Neighbours(table, sample=sample)
    found, expected = (f(unit, rows, labels, engine, scale) for f in (by_engine, by_formula))
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-10, atol=1e-10)


def test_hard_negatives_bend(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    unit, rows, labels, table = world
    engine = Neighbours(table, sample=0.2)
    bend = Bend(threshold=torch.linspace(-0.2, 0.4, len(labels), dtype=torch.float64), t=torch.tensor(0.3).double())
    found, expected = (f(unit, rows, labels, engine, 20.0, bend) for f in (by_engine, by_formula))
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-10, atol=1e-10)
    losses, _ = margin_softmax(unit, rows, labels, margin=CurricularFace(), scale=20.0, engine=engine)
    assert torch.isfinite(losses).all()


def stored(rows: Tensor, how: str) -> tuple[Rows, Tensor]:
    """Rows in some storage and what negatives then are."""
    if how == "int8":
        bytes_ = quantise(rows)
        return bytes_, bytes_.codes.double() * bytes_.steps[:, None].double()
    half = rows.bfloat16()
    return (split(rows) if how == "split" else half), half.double()


@pytest.mark.parametrize("how", ["int8", "bfloat16", "split"])
def test_rows_in_any_storage(world: tuple[Tensor, Tensor, Tensor, NearestRows], how: str) -> None:
    unit, rows, labels, table = world
    kept, seen = stored(rows, how)
    engine = Neighbours(table, sample=0.1)
    found = by_engine(unit, kept, labels, engine, 30.0)
    expected = by_formula(unit, seen, labels, engine, 30.0)
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-6, atol=1e-6)
    exact = Chunked().own(kept, labels, torch.float64)
    torch.testing.assert_close(engine.own(kept, labels, torch.float64), exact)
    torch.testing.assert_close(engine.mean_row(kept, torch.float64), seen.mean(dim=0), rtol=1e-6, atol=1e-8)
    assert engine.count(kept) == COUNT


def test_with_all_neighbours_it_is_the_exact_loss(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    unit, rows, labels, _ = world
    engine = Neighbours(find_nearest(rows, COUNT), sample=0.01, duplicate=2.0)
    for embeddings in (unit, 3 * unit):
        found = loss_and_gradient(embeddings, rows, labels, ArcFace(0.5), engine)
        expected = plain_arcface(embeddings, rows, labels, 0.5, 64.0)
        for value, truth in zip(found, expected, strict=True):
            assert relative(value, truth) < 1e-9


def test_a_whole_sample_is_exact_but_for_duplicates(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    unit, rows, labels, table = world
    found = by_engine(unit, rows, labels, Neighbours(table, sample=1.0, duplicate=2.0), 64.0)
    leaf = unit.clone().requires_grad_()
    lse, best = Chunked().negatives(leaf, rows, labels, 64.0)
    torch.testing.assert_close(found[0], lse.detach())
    torch.testing.assert_close(found[2], best)
    apart = by_engine(unit, rows, labels, Neighbours(table, sample=1.0), 64.0)
    assert (apart[0] < found[0])[:3].all()  # rows 3 and 7
    torch.testing.assert_close(apart[0][3:], found[0][3:])


def test_duplicates_never_push_each_other(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    table = world[3]
    both = torch.tensor([3, 7])
    chosen = Neighbours(table, sample=0.1).choose(both)
    pairs = {(int(s), int(chosen.near[p])) for s, p in zip(*chosen.masked, strict=True)}
    assert pairs == {(0, 3), (1, 7), (0, 7), (1, 3)}


@pytest.mark.parametrize("scale", [64.0, 300.0])
def test_a_sample_that_meets_nobody_stays_where_it_is(
    world: tuple[Tensor, Tensor, Tensor, NearestRows], scale: float
) -> None:
    unit, rows, _, table = world
    engine = Neighbours(table.first(1), sample=0.0)
    assert {int(row) for row in engine.choose(torch.tensor([3])).near} == {3, 7}
    for dtype in (torch.float32, torch.float64):
        losses, gradient = loss_and_gradient(
            unit[:1].to(dtype), rows.to(dtype), torch.tensor([3]), ArcFace(), engine, scale
        )
        assert float(losses) < 1e-6
        assert not gradient.any()


def test_what_is_chosen(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    _, _, labels, table = world
    chosen = Neighbours(table, sample=0.1).choose(labels)
    near = {int(y) for y in labels} | {int(row) for y in labels for row in table.rows[int(y)]}
    assert chosen.near.tolist() == sorted(near)
    assert len(chosen.drawn) == math.ceil(0.1 * (COUNT - len(near)))
    assert not near & set(chosen.drawn.tolist())
    assert chosen.drawn.tolist() == sorted(chosen.drawn.tolist())
    assert chosen.weight == pytest.approx((COUNT - len(near)) / len(chosen.drawn))


def test_draws_depend_on_labels_and_seed_alone(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    _, _, labels, table = world
    drawn = Neighbours(table, sample=0.2).choose(labels).drawn
    assert torch.equal(Neighbours(table, sample=0.2).choose(labels.flip(0)).drawn, drawn)
    assert not torch.equal(Neighbours(table, sample=0.2, seed=1).choose(labels).drawn, drawn)
    other = labels.clone()
    other[1] = 3  # 7 leaves the labels but not the near rows: those of 3 and 7 hold each other
    assert not torch.equal(Neighbours(table, sample=0.2).choose(other).drawn, drawn)


@pytest.mark.parametrize("share", [0.03, 0.5, 0.97, 1.0])
def test_every_other_row_is_drawn_equally_often(share: float) -> None:
    near, count, rounds = np.array([0, 3, 4, 17, 39]), 40, 2000
    random, seen = np.random.default_rng(0), np.zeros(40)
    for _ in range(rounds):
        drawn = neighbours._draw(near, count, share, random)
        np.add.at(seen, drawn, 1)
    assert not seen[near].any()
    others = np.delete(seen, near) / rounds
    expected = math.ceil(share * 35) / 35
    assert np.abs(others - expected).max() < 5 * math.sqrt(expected / rounds)
    if share == 1.0:
        assert (others == 1.0).all()


def test_the_sum_is_right_on_average(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    unit, rows, labels, table = world
    exact = by_engine(unit, rows, labels, Neighbours(table, sample=1.0), 8.0)[0].exp()
    sums = [
        by_engine(unit, rows, labels, Neighbours(table, sample=0.05, seed=seed), 8.0)[0].exp() for seed in range(150)
    ]
    mean, error = torch.stack(sums).mean(dim=0), torch.stack(sums).std(dim=0) / math.sqrt(150)
    assert ((mean - exact).abs() < 4.5 * error).all()
    assert (error > 0).all()


def test_the_gap_is_that_of_losses_and_gradients(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    unit, rows, labels, table = world
    engine, embeddings = Neighbours(table, sample=0.1), 2 * unit

    def losses(leaf: Tensor, each: object) -> Tensor:
        return margin_softmax(leaf, rows, labels, margin=ArcFace(0.3), scale=20.0, engine=each)[0]  # type: ignore[arg-type]

    with torch.no_grad():
        gap = engine.gap(embeddings, losses)
    found, gradient = loss_and_gradient(embeddings, rows, labels, ArcFace(0.3), engine, 20.0)
    leaf, exact = embeddings.clone().requires_grad_(), []
    for x, y in zip(leaf, labels.tolist(), strict=True):  # cross-entropy over all rows but duplicates
        kept = [j for j in range(COUNT) if j == y or j not in same_person(rows, y, 0.7)]
        cosine = rows[kept] @ F.normalize(x, dim=0)
        own = kept.index(y)
        target = torch.cos(torch.acos(cosine[own]) + 0.3)
        exact.append(F.cross_entropy(20.0 * cosine.index_put((torch.tensor(own),), target), torch.tensor(own)))
    (truth,) = torch.autograd.grad(torch.stack(exact).sum(), leaf)
    difference = (found - torch.stack(exact).detach()).mean()
    cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(gradient, truth, strict=True)]
    assert float(gap["neighbours_loss_gap"]) == pytest.approx(float(difference), rel=1e-6)
    assert float(gap["neighbours_gradient_cosine"]) == pytest.approx(float(np.mean(cosines)), rel=1e-6)
    assert 0.5 < float(gap["neighbours_gradient_cosine"]) < 0.99999


def test_the_gap_closes_with_all_neighbours(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    unit, rows, labels, _ = world
    gap = Neighbours(find_nearest(rows, COUNT)).gap(
        unit, lambda leaf, each: margin_softmax(leaf, rows, labels, margin=ArcFace(), scale=64.0, engine=each)[0]
    )
    assert float(gap["neighbours_loss_gap"]) == pytest.approx(0.0, abs=1e-9)
    assert float(gap["neighbours_gradient_cosine"]) == pytest.approx(1.0)


def test_the_cosine_of_short_gradients() -> None:
    short = torch.tensor([[1e-30, 0.0], [0.0, 0.0], [3e-20, 4e-20]])
    other = torch.tensor([[1e-25, 1e-25], [1.0, 0.0], [-4e-20, 3e-20]])
    torch.testing.assert_close(
        gradient_cosine(short, other), torch.tensor([0.5**0.5, 0.0, 0.0]).double(), rtol=1e-6, atol=1e-6
    )


def test_what_does_not_fit_is_refused(world: tuple[Tensor, Tensor, Tensor, NearestRows]) -> None:
    unit, rows, labels, table = world
    with pytest.raises(UserError, match=r"found 1\.5"):
        Neighbours(table, sample=1.5)
    with pytest.raises(UserError, match="the 211 rows"):
        Neighbours(table).negatives(unit, rows[:-1], labels, 64.0)
    with pytest.raises(UserError, match="frozen rows"):
        Neighbours(table).negatives(unit, rows.clone().requires_grad_(), labels, 64.0)
    for wrong in (-1, COUNT):
        damaged = NearestRows(np.full_like(table.rows, wrong), table.cosines, "")
        with pytest.raises(UserError, match="damaged"):
            Neighbours(damaged).negatives(unit, rows, labels, 64.0)
