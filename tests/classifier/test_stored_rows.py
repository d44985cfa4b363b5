from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.classifier import stored_rows as room
from proxylesskd.classifier.stored_rows import (
    STORES,
    blocks,
    bytes_of,
    check_rows,
    in_memory,
    joined,
    layout_of,
    parts,
    require_store,
    size_of,
    store_of,
    stored_as,
    unit,
    whole,
)
from proxylesskd.errors import UserError
from proxylesskd.losses.rows import CompactRows, Rows, in_bytes

COUNT, DIM = 19, 24
NAMES = [f"n{row}" for row in range(COUNT)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BLOCK", 4)


def drawn(seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(COUNT, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def by_hand(rows: Rows) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """What rows stand for, number by number, from the definition of each store."""
    found = np.empty((COUNT, DIM))
    for i in range(COUNT):
        for j in range(DIM):
            if in_bytes(rows):
                found[i, j] = (int(rows.codes[i, j]) + int(rows.fine[i, j]) / 254) * float(rows.steps[i])
            elif isinstance(rows, CompactRows):
                found[i, j] = float(rows.codes[i, j]) + int(rows.fine[i, j]) * float(rows.steps[i])
            else:
                found[i, j] = float(rows[i, j])
    return found


@pytest.mark.parametrize("store", STORES)
def test_a_store_keeps_rows_and_says_what_it_takes(store: str) -> None:
    rows = stored_as(drawn(), store)
    assert store_of(rows) == store
    assert np.abs(by_hand(rows) - drawn().double().numpy()).max() < {"float32": 1e-9}.get(store, 3e-5)
    np.testing.assert_allclose(whole(rows).double().numpy(), by_hand(rows), atol=1e-7)
    assert [start for start, _ in blocks(rows)] == [0, 4, 8, 12, 16]
    per_number = {"float32": 4, "bfloat16": 3, "int8": 2}[store]
    per_row = {"float32": 0, "bfloat16": 4, "int8": 4}[store]
    assert bytes_of(rows) == size_of(store, COUNT, DIM) == COUNT * (DIM * per_number + per_row)
    assert {n: (t.dtype, tuple(t.shape)) for n, t in parts(rows).items()} == layout_of(store, COUNT, DIM)


@pytest.mark.parametrize("store", STORES)
def test_rows_are_taken_apart_and_put_together(store: str) -> None:
    rows = stored_as(drawn(), store)
    again = joined(parts(rows) | {"identities": torch.zeros(3)})
    assert again is not None
    assert store_of(again) == store
    assert all(again_part is part for again_part, part in zip(parts(again).values(), parts(rows).values(), strict=True))
    copied = in_memory(rows)
    assert all(torch.equal(a, b) for a, b in zip(parts(copied).values(), parts(rows).values(), strict=True))
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(parts(copied).values(), parts(rows).values(), strict=True))
    assert joined({"identities": torch.zeros(3)}) is None


def test_only_unit_rows_that_are_finite_pass() -> None:
    rows = drawn()
    assert check_rows(rows, NAMES)
    assert check_rows(stored_as(rows, "float32"), NAMES)
    for store in STORES[1:]:
        check_rows(stored_as(rows, store), NAMES)
    assert not check_rows(2 * rows, NAMES)
    for bad in (float("nan"), float("inf"), 0.0):
        spoilt = rows.clone()
        spoilt[9] *= bad
        spoilt[17] *= bad
        with pytest.raises(UserError, match=r"found 2 others, first row 9 \('n9'\)"):
            check_rows(spoilt, NAMES)


@pytest.mark.parametrize("spoil", [lambda s: s * 2, lambda s: s * 0, lambda s: s * float("nan"), lambda s: s * -1e30])
def test_compact_rows_of_another_length_are_refused(spoil: Callable[[torch.Tensor], torch.Tensor]) -> None:
    rows = stored_as(drawn(), "int8")
    assert isinstance(rows, CompactRows)
    with pytest.raises(UserError, match="finite rows of length 1"):
        check_rows(CompactRows(rows.codes, rows.fine, spoil(rows.steps)), NAMES)


def test_normalising_keeps_every_bit_of_rows_that_are_unit() -> None:
    rows = drawn()
    stretched = rows * torch.linspace(0.5, 2, COUNT)[:, None]
    expected = stretched.double().numpy() / np.linalg.norm(stretched.double().numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(unit(stretched).numpy(), expected, atol=1e-6)
    once = unit(rows)
    assert torch.equal(unit(once), once)
    assert unit(once).data_ptr() != once.data_ptr()


def test_rows_that_memory_does_not_hold_are_an_error_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "available_memory", lambda: 100)
    with pytest.raises(UserError, match="free memory"):
        whole(stored_as(drawn(), "int8"))
    assert whole(drawn()).shape == (COUNT, DIM)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": torch.zeros(3)},
        {"codes": torch.zeros(3, 4), "steps": torch.zeros(3), "fine": torch.zeros(3, 4, dtype=torch.int8)},
        {n: t[:2] if n == "steps" else t for n, t in parts(stored_as(drawn(), "int8")).items()},
        {n: t.int() if n == "fine" else t for n, t in parts(stored_as(drawn(), "bfloat16")).items()},
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong: dict[str, torch.Tensor]) -> None:
    with pytest.raises(UserError, match="stored as"):
        joined(wrong)


def test_a_misspelled_store_is_named() -> None:
    with pytest.raises(UserError, match="did you mean 'bfloat16'"):
        require_store("bfloat")
