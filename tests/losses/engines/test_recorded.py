from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.losses.engines import recorded
from proxylesskd.losses.engines.chunked import Chunked
from proxylesskd.losses.engines.chunked import sums as chunked_sums
from proxylesskd.losses.engines.engine import Bend, Sums
from proxylesskd.losses.engines.recorded import Recorded
from proxylesskd.losses.engines.triton import Triton
from proxylesskd.losses.frozen_softmax import frozen_softmax
from proxylesskd.losses.margin import ArcFace
from proxylesskd.losses.rows import Rows, quantise
from tests.losses.problems import problem

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")


class Graph:
    """A CUDA graph as far as a CPU has one: the same function on the same tensors, its results written to the same."""

    latest: tuple[Callable[[], Sums], Sums]
    made = 0

    def __init__(self) -> None:
        Graph.made += 1

    def replay(self) -> None:
        run, kept = self.recorded
        for name, value in vars(run()).items():
            getattr(kept, name).copy_(value)


@contextmanager
def recording(graph: Graph, capture_error_mode: str) -> Iterator[None]:
    assert capture_error_mode == "thread_local"
    yield
    graph.recorded = Graph.latest


def tracked(unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None) -> Sums:
    def run() -> Sums:
        return chunked_sums(unit, rows, (torch.arange(len(labels)), labels), scale, bend)

    Graph.latest = (run, run())
    return Graph.latest[1]


class Stream:
    def __init__(self, device: torch.device) -> None: ...

    def wait_stream(self, other: object) -> None: ...


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> type[Graph]:
    monkeypatch.setattr(recorded, "sums", tracked)
    for name, fake in {"CUDAGraph": Graph, "graph": recording, "Stream": Stream, "current_stream": Stream}.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(Graph, "made", 0)
    return Graph


def batch(size: int, seed: int, count: int = 40) -> tuple[Tensor, Tensor]:
    embeddings, _, labels = problem(size, count, 6, seed)
    return F.normalize(embeddings, dim=1).requires_grad_(), labels


@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("store", [lambda rows: rows, quantise])
def test_each_batch_gets_its_own_values_and_one_recording_serves_all(
    graphs: type[Graph], bent: bool, store: Callable[[Tensor], Rows]
) -> None:
    rows, engine = store(problem(1, 40, 6)[1]), Recorded()
    found = []
    for step in range(3):
        unit, labels = batch(5, step)
        bend = Bend(torch.full((5,), 0.1 * step), torch.tensor(0.2 * step)) if bent else None
        # rows.detach() is another object each time, as the loss makes it
        found.append((engine.negatives(unit, rows.detach(), labels, 16.0, bend), (unit, rows, labels, 16.0, bend)))
    assert graphs.made == 1
    for (lse, best), (unit, *rest) in found:
        expected, highest = Chunked().negatives(unit, *rest)
        torch.testing.assert_close(lse, expected)
        torch.testing.assert_close(best, highest)
        (gradient,) = torch.autograd.grad(lse.sum(), unit)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), unit)[0])


def test_a_last_smaller_batch_is_recorded_beside_and_no_third(graphs: type[Graph]) -> None:
    rows, engine = problem(1, 40, 6)[1], Recorded()
    for size in (5, 5, 3, 5, 3):
        engine.negatives(*_with(rows, size), 16.0)
    assert graphs.made == 2
    engine.negatives(*_with(rows, 4), 16.0)
    assert graphs.made == 3
    engine.negatives(*_with(rows, 3), 16.0)
    assert graphs.made == 3
    engine.negatives(*_with(rows, 5), 16.0)
    assert graphs.made == 4


def test_other_rows_and_scales_are_recorded_anew(graphs: type[Graph]) -> None:
    engine = Recorded()
    first, second = (problem(1, 40, 6, seed)[1] for seed in (1, 2))
    engine.negatives(*_with(first, 5), 16.0)
    engine.negatives(*_with(second, 5), 16.0)
    engine.negatives(*_with(second, 5), 8.0)
    assert graphs.made == 3


def _with(rows: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    unit, labels = batch(size, size)
    return unit, rows, labels


def test_the_rest_is_the_triton_engine() -> None:
    _, rows, labels = problem(7, 30, 5)
    engine = Recorded()
    assert engine.count(rows) == 30
    assert torch.equal(engine.own(rows, labels, torch.float64), rows[labels])
    torch.testing.assert_close(engine.mean_row(rows, torch.float64), rows.mean(dim=0))


@needs_cuda
@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("store", [lambda rows: rows.bfloat16(), lambda rows: rows, quantise])
def test_cuda_replays_give_the_bits_of_the_launches(bent: bool, store: Callable[[Tensor], Rows]) -> None:
    pytest.importorskip("triton")
    _, rows, _ = problem(1, 50_000, 128)
    kept, engine = store(rows.float()).to("cuda"), Recorded()
    for step in range(4):
        embeddings, _, labels = problem(96, 50_000, 128, step, target=0.5)
        unit = F.normalize(embeddings.float().cuda()).requires_grad_()
        bend = Bend(torch.full((96,), 0.1 * step).cuda(), torch.tensor(0.2 * step).cuda()) if bent else None
        lse, best = engine.negatives(unit, kept, labels.cuda(), 64.0, bend)
        expected, highest = Triton().negatives(unit, kept, labels.cuda(), 64.0, bend)
        assert torch.equal(lse, expected)
        assert torch.equal(best, highest)
        assert torch.equal(*(torch.autograd.grad(value.sum(), unit)[0] for value in (lse, expected)))


@needs_cuda
def test_cuda_loss_and_its_gradient_in_one_graph_of_the_callers() -> None:
    """The engine makes nothing but launches: no value is read back, also not by the loss around it."""
    pytest.importorskip("triton")
    embeddings, rows, labels = problem(64, 30_000, 512, target=0.5)
    leaf = embeddings.float().cuda().requires_grad_()
    kept, where = rows.bfloat16().cuda(), labels.cuda()

    def step() -> Tensor:
        leaf.grad = None
        loss = frozen_softmax(leaf, kept, where, margin=ArcFace(0.5), engine="triton")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = float(step().detach())
        assert leaf.grad is not None
        gradient = leaf.grad.clone()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    graph.replay()
    torch.cuda.synchronize()
    assert float(loss) == expected
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, gradient)
