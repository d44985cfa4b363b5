from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.adaptive_margin import CurricularFace
from proxylesskd.losses.engines import triton_plan
from proxylesskd.losses.engines.choose import engine_for
from proxylesskd.losses.engines.engine import Bend
from proxylesskd.losses.engines.reference import Reference
from proxylesskd.losses.engines.triton import Triton, sums
from proxylesskd.losses.frozen_softmax import frozen_softmax, margin_softmax
from proxylesskd.losses.margin import ArcFace
from proxylesskd.losses.rows import Rows, gather, quantise, split
from tests.losses.engines.plain_sums import as_multiplied, plain_sums
from tests.losses.problems import loss_and_gradient, problem, relative

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed: pip install triton (Linux)")
needs_cuda = pytest.mark.skipif(not CUDA, reason="no CUDA device here; the kernels run under Triton's interpreter")

if HAS_TRITON and not CUDA:
    # Triton decides when its functions are defined, its own included, whether they are compiled or interpreted: the
    # variable must stand before the first import in this process, and is taken away again for all other tests.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        importlib.import_module("proxylesskd.losses.engines.triton_kernels")

STORES: dict[str, Callable[[Tensor], Rows]] = {
    "bfloat16": lambda rows: rows.bfloat16(),
    "split": split,
    "float16": lambda rows: rows.half(),
    "float32": lambda rows: rows.float(),
    "columns": lambda rows: rows.bfloat16().T.contiguous().T,
    "int8": quantise,
}


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    if not CUDA:
        monkeypatch.setenv("TRITON_INTERPRET", "1")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_plan, "_BUDGET", 1 << 15)  # one or a few tiles of 64 rows at a time


def negatives(
    unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None = None
) -> tuple[np.ndarray, ...]:
    leaf = unit.float().to(DEVICE).requires_grad_()
    lse, best = Triton().negatives(leaf, rows.to(DEVICE), labels.to(DEVICE), scale, bend)
    (gradient,) = torch.autograd.grad(lse.sum(), leaf)
    assert not best.requires_grad
    return lse.detach().cpu().numpy(), gradient.cpu().numpy(), best.cpu().numpy()


def agree(found: tuple[np.ndarray, ...], exact: tuple[np.ndarray, ...]) -> bool:
    errors = {
        "lse": np.abs(found[0] - exact[0]).max(),
        "gradient": np.linalg.norm(found[1] - exact[1]) / np.linalg.norm(exact[1]),
        "best": np.abs(found[2] - exact[2]).max(),
    }
    print(errors)
    # what is left of the gradient's error is the rounding of exponentials to bfloat16: at most 2^-9, of either sign
    return bool(errors["lse"] < 5e-5 and errors["gradient"] < 2.5e-3 and errors["best"] < 1e-6)


def near(batch: int, count: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings that have found their own rows, unit rows, and labels of which some occur twice.

    The embeddings are bfloat16 numbers, so that the kernels multiply them as they are.
    """
    embeddings, rows, labels = problem(batch, count, dim, seed, target=0.6)
    return F.normalize(embeddings, dim=1).bfloat16().double(), rows, labels


@needs_triton
@pytest.mark.parametrize("store", STORES)
def test_however_rows_are_stored(store: str, small_chunks: None) -> None:
    unit, rows, labels = near(33, 301, 70)
    assert len(labels.unique()) < 33
    kept = STORES[store](rows)
    assert agree(negatives(unit, kept, labels, 64.0), plain_sums(unit, kept, labels, 64.0, None))


@needs_triton
@pytest.mark.parametrize(
    ("batch", "count", "dim"), [(1, 2, 3), (2, 64, 32), (40, 65, 64), (32, 128, 96), (37, 700, 31), (5, 191, 33)]
)
def test_shapes_that_fit_no_tile(batch: int, count: int, dim: int, small_chunks: None) -> None:
    unit, rows, labels = near(batch, count, dim, seed=count)
    kept = rows.bfloat16()
    assert agree(negatives(unit, kept, labels, 32.0), plain_sums(unit, kept, labels, 32.0, None))


@needs_triton
@pytest.mark.parametrize("store", ["bfloat16", "int8"])
@pytest.mark.parametrize("scale", [24.0, 64.0])
def test_bent_negatives(store: str, scale: float, small_chunks: None) -> None:
    unit, rows, labels = near(21, 203, 24, seed=4)
    kept = STORES[store](rows)
    bend = Bend(torch.linspace(-0.2, 0.3, 21).to(DEVICE), torch.tensor(0.375, device=DEVICE))
    assert agree(negatives(unit, kept, labels, scale, bend), plain_sums(unit, kept, labels, scale, bend))


@needs_triton
@pytest.mark.parametrize("scale", [76.0, 90.0, 300.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_large_scale_neither_overflows_nor_loses_the_negatives(scale: float, sign: float, small_chunks: None) -> None:
    """76 takes a fixed shift, the others one of each sample; all cosines of the second samples are far below 0."""
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(180, 16, generator=generator) + 2.0, dim=1).double()
    unit = (
        F.normalize(sign * torch.ones(6, 16) + 0.1 * torch.randn(6, 16, generator=generator), dim=1).bfloat16().double()
    )
    labels, kept = torch.arange(6) * 7, rows.bfloat16()
    exact = plain_sums(unit, kept, labels, scale, None)
    assert np.all(sign * exact[0] > 0.4 * scale)
    assert agree(negatives(unit, kept, labels, scale), exact)


@needs_triton
def test_what_logits_are_relative_to() -> None:
    unit, rows, labels = near(4, 70, 8)
    kept, bend = rows.bfloat16(), Bend(torch.ones(4), torch.tensor(0.5))
    cosines = (unit @ kept.double().T).scatter(1, labels[:, None], -1.0)
    for scale, bent, expected in (
        (64.0, None, torch.zeros(4)),  # nothing can overflow
        (76.0, None, torch.full((4,), 76.0 + math.log(70) - 80.0)),  # one for all loses nothing
        (90.0, None, 90.0 * cosines.amax(dim=1)),
        (64.0, bend, 64.0 * cosines.amax(dim=1)),  # could be bent to 128
    ):
        on_device = None if bent is None else Bend(bent.threshold.to(DEVICE), bent.t.to(DEVICE))
        found = sums(unit.to(DEVICE), kept.to(DEVICE), labels.to(DEVICE), scale, on_device).shift.cpu()
        torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-5)


@needs_triton
@pytest.mark.parametrize(
    ("store", "target", "bound"),
    [("split", target, 6e-3) for target in (0.05, 0.3, 0.6, 0.8, 0.9)] + [("int8", 0.05, 1e-2), ("int8", 0.6, 1e-2)],
)
def test_loss_and_gradient_within_the_promise(store: str, target: float, bound: float) -> None:
    embeddings, rows, labels = problem(12, 450, 512, seed=3, target=target)
    exact = loss_and_gradient(embeddings, rows, labels, ArcFace(0.5), "reference")
    kept = STORES[store](rows).to(DEVICE)
    found = loss_and_gradient(embeddings.float().to(DEVICE), kept, labels.to(DEVICE), ArcFace(0.5), "triton")
    assert relative(found[0].cpu(), exact[0]) < bound
    assert relative(found[1].cpu(), exact[1]) < bound


@needs_triton
def test_the_loss_knows_what_rounding_the_embeddings_left() -> None:
    embeddings, rows, labels = problem(12, 190, 512, seed=6, target=0.6)
    unit, kept = F.normalize(embeddings, dim=1), rows.bfloat16()
    exact, _ = Reference().negatives(unit, kept, labels, 64.0)
    blind, _ = Reference().negatives(unit.bfloat16().double(), kept, labels, 64.0)
    found, _, _ = negatives(unit, kept, labels, 64.0)
    assert float((blind - exact).abs().max()) > 1e-3
    np.testing.assert_allclose(found, exact.numpy(), atol=3e-5)


@needs_triton
def test_correct_is_the_nearest_row() -> None:
    embeddings, rows, labels = problem(32, 50, 8, target=0.6)
    embeddings, kept = embeddings.float().to(DEVICE), rows.bfloat16().to(DEVICE)
    expected = (F.normalize(embeddings.double()) @ kept.double().T).argmax(dim=1).cpu() == labels
    _, correct = margin_softmax(
        embeddings, kept, labels.to(DEVICE), margin=CurricularFace(0.5).to(DEVICE), scale=64.0, engine="triton"
    )
    assert torch.equal(correct.cpu(), expected)
    assert 0 < int(expected.sum()) < 32


@needs_triton
def test_parts_of_the_rows_add_up(small_chunks: None) -> None:
    unit, rows, labels = (part.to(DEVICE) for part in near(9, 333, 20))
    kept = rows.bfloat16()
    whole = sums(unit, kept, labels, 48.0)
    parts = [
        sums(unit, kept[start:stop], labels - start, 48.0, count=333)
        for start, stop in ((0, 100), (100, 101), (101, 333))
    ]
    torch.testing.assert_close(sum(part.total for part in parts), whole.total, rtol=1e-5, atol=0)
    torch.testing.assert_close(sum(part.weighted for part in parts), whole.weighted, rtol=2e-3, atol=1e-3)
    torch.testing.assert_close(torch.stack([part.best for part in parts]).amax(dim=0), whole.best, rtol=0, atol=1e-6)


@needs_triton
def test_the_same_input_gives_the_same_bits_in_the_type_that_came(small_chunks: None) -> None:
    unit, rows, labels = (part.to(DEVICE) for part in near(9, 333, 20))
    first, second = (sums(unit, rows.bfloat16(), labels, 64.0) for _ in range(2))
    assert torch.equal(first.weighted, second.weighted)
    assert torch.equal(first.total, second.total)
    assert {first.weighted.dtype, first.total.dtype, first.best.dtype, first.shift.dtype} == {torch.float64}


@needs_triton
def test_a_classifier_of_one_row_has_no_negatives() -> None:
    unit, rows, labels = (part.to(DEVICE) for part in near(3, 1, 4))
    for scale in (8.0, 300.0):
        found = sums(unit, rows.bfloat16(), labels, scale)
        assert not found.total.any()
        assert not found.weighted.any()
        assert torch.all(found.best == -math.inf)


@needs_triton
def test_own_rows_and_their_mean_are_as_exact_as_stored() -> None:
    _, rows, labels = near(9, 33, 20)
    engine, kept = engine_for("triton", rows, rows), quantise(rows)
    assert torch.equal(engine.own(kept, labels, torch.float64), gather(kept, labels, torch.float64))
    assert engine.count(kept) == 33
    torch.testing.assert_close(engine.mean_row(rows, torch.float64), rows.mean(dim=0))


def test_what_cannot_run_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, rows, labels = near(2, 5, 4)
    with pytest.raises(UserError, match="engine='reference'"):
        Triton().negatives(unit, rows.clone().requires_grad_(), labels, 8.0)
    with pytest.raises(UserError, match=r"one device, found cpu and meta"):
        Triton().negatives(unit, rows.to("meta"), labels, 8.0)
    monkeypatch.setitem(sys.modules, "proxylesskd.losses.engines.triton_kernels", None)
    with pytest.raises(UserError, match=r"needs the package 'triton'.*pip install triton"):
        Triton().negatives(unit, rows, labels, 8.0)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match=r"CUDA device.*found them on cpu.*engine='chunked'"):
        frozen_softmax(unit, rows, labels, margin=ArcFace(0.5), engine="triton")


@needs_triton
@needs_cuda
@pytest.mark.parametrize("store", ["bfloat16", "int8"])
def test_cuda_large(store: str) -> None:
    """Whole tiles, many chunks, all the multiprocessors."""
    embeddings, rows, labels = problem(512, 100_000, 512, seed=1, target=0.4)
    kept = STORES[store](rows).to(DEVICE)
    unit = F.normalize(embeddings).bfloat16().double().to(DEVICE)
    leaf, plain = (unit.clone().requires_grad_() for _ in range(2))
    lse, best = Triton().negatives(leaf.float(), kept, labels.to(DEVICE), 64.0)
    exact, highest = Reference().negatives(plain, as_multiplied(kept), labels.to(DEVICE), 64.0)
    torch.testing.assert_close(lse.double(), exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(best.double(), highest, rtol=0, atol=2e-6)
    (found,), (truth,) = torch.autograd.grad(lse.sum(), leaf), torch.autograd.grad(exact.sum(), plain)
    assert relative(found, truth) < 2.5e-3


@needs_triton
@needs_cuda
@pytest.mark.parametrize(("count", "dtype"), [(360_000, torch.float32), (2_000_000, torch.bfloat16)])
def test_cuda_memory_beyond_the_rows(count: int, dtype: torch.dtype) -> None:
    rows = torch.randn(count, 512, dtype=dtype, device=DEVICE).div_(math.sqrt(512))
    unit = F.normalize(torch.randn(512, 512, device=DEVICE))
    labels = torch.randint(count, (512,), device=DEVICE)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    leaf = unit.clone().requires_grad_()
    lse, _ = Triton().negatives(leaf, rows, labels, 64.0)
    lse.sum().backward()
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before < 64e6
