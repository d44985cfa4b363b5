"""Products in bytes and bfloat16 against float64, on any CPU: what lacks the instructions computes them slowly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from proxylesskd.losses.engines import products
from proxylesskd.losses.engines.chunked import CHUNK, sums
from proxylesskd.losses.engines.products import Hardware, Products, hardware_of
from proxylesskd.losses.rows import CompactRows, Rows, block, quantise, split

ALL = [Hardware(*can) for can in itertools.product([False, True], repeat=2)]
STORES = {"bytes": quantise, "bfloat16": split}


def _problem(batch: int, count: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(count, dim, generator=drawn), dim=1)
    return rows, 64 * F.normalize(torch.randn(batch, dim, generator=drawn), dim=1).T.contiguous()


def _use(hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "hardware_of", lambda _device: hardware)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("hardware", ALL, ids=str)
def test_chunks_of_any_shape(store: str, hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    _use(hardware, monkeypatch)

    @settings(max_examples=15, deadline=None)
    @given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000))
    def check(batch: int, count: int, dim: int, chunk: int, seed: int) -> None:
        rows, scaled = _problem(batch, count, dim, seed)
        stored: CompactRows = STORES[store](rows)
        weights = torch.rand(count, batch, generator=torch.Generator().manual_seed(seed))
        seen = block(stored, 0, count, torch.float64)  # the rows as they are stored, and no closer
        pair = Products(stored, scaled, chunk)
        total = torch.zeros(dim, batch)
        for start in range(0, count, chunk):
            stop = min(start + chunk, count)
            found = pair.logits(start, stop, torch.empty(stop - start, batch))
            wanted = seen[start:stop] @ scaled.double()
            assert float((found - wanted).abs().max()) < 64 * 1e-4
            pair.add(start, stop, weights[start:stop].clone(), total)
        exact = seen.T @ weights.double()
        assert float((total - exact).abs().max()) <= 0.01 * float((seen.abs().T @ weights.double()).max())

    check()


def test_bytes_are_the_sums_of_whole_numbers() -> None:
    """Number by number: codes of rows times codes of embeddings, and the steps of both."""
    rows, scaled = _problem(3, 5, 7, 0)
    stored = quantise(rows)
    numbers = scaled.numpy().astype(np.float64)
    with pytest.MonkeyPatch.context() as patch:
        _use(Hardware(bytes=True), patch)
        found = Products(stored, scaled, 5).logits(0, 5, torch.empty(5, 3))
    for sample in range(3):
        step = max(abs(number) for number in numbers[:, sample]) / 127
        coarse = [round(number / step) for number in numbers[:, sample]]
        fine = [round((number / step - code) * 254) for number, code in zip(numbers[:, sample], coarse, strict=True)]
        for row in range(5):
            codes = [int(code) for code in stored.codes[row]]
            whole = sum(a * (b + c / 254) for a, b, c in zip(codes, coarse, fine, strict=True))
            wanted = whole * step * float(stored.steps[row])
            assert float(found[row, sample]) == pytest.approx(wanted, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("target", [0.05, 0.5, 0.9])
def test_a_pass_loses_little_beside_what_the_rows_lost(
    store: str, target: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = _problem(1, CHUNK + 900, 512, 1)
    labels = torch.arange(40)
    noise = F.normalize(torch.randn(40, 512, generator=torch.Generator().manual_seed(2)), dim=1)
    unit = F.normalize(target * rows[:40] + (1 - target**2) ** 0.5 * noise, dim=1)
    stored: Rows = STORES[store](rows)
    masked = (torch.arange(40), labels)
    exact = sums(unit.double(), rows.double(), masked, 64.0)
    errors = {}
    for hardware in (Hardware(), Hardware(bytes=True, halves=True)):
        _use(hardware, monkeypatch)
        found = sums(unit, stored, masked, 64.0)
        gradients = (found.weighted / found.total[:, None], exact.weighted / exact.total[:, None])
        errors[hardware.halves] = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    assert errors[True] < 1.1 * errors[False] + 2e-3


def test_float_rows_and_double_embeddings_are_multiplied_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(Hardware(bytes=True, halves=True), monkeypatch)
    rows, scaled = _problem(4, 6, 8, 3)
    for stored, seen in ((rows, scaled), (quantise(rows), scaled.double()), (split(rows), scaled.double())):
        pair = Products(stored, seen, 6)
        whole = block(stored, 0, 6, seen.dtype)
        found = pair.logits(0, 6, seen.new_empty(6, 4))
        torch.testing.assert_close(found, whole @ seen, rtol=0, atol=0)
        total = seen.new_zeros(8, 4)
        pair.add(0, 6, found.clone(), total)
        torch.testing.assert_close(total, whole.T @ found)


def test_only_cpus_are_asked() -> None:
    assert hardware_of(torch.device("meta")) == Hardware()
    found = hardware_of(torch.device("cpu"))
    assert isinstance(found.bytes, bool)
    assert isinstance(found.halves, bool)
