from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses import nearest_rows
from proxylesskd.losses.nearest_rows import NearestRows, find_nearest, rows_fingerprint
from proxylesskd.losses.rows import Rows, quantise, split

COUNT, DIM, K = 53, 12, 9


@pytest.fixture
def rows() -> Tensor:
    """Rows of which 3 and 7, and 20 and 41, are nearly the same."""
    rows = F.normalize(torch.randn(COUNT, DIM, generator=torch.Generator().manual_seed(0)), dim=1)
    rows[7] = F.normalize(rows[3] + 0.1 * rows[4], dim=0)
    rows[41] = F.normalize(rows[20] + 0.2 * rows[5], dim=0)
    return rows


def by_sorting(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """All cosines in float64, one row at a time, sorted."""
    wide, found, cosines = rows.astype(np.float64), [], []
    for own in range(len(wide)):
        cosine = np.array([float(wide[own] @ other) for other in wide])
        cosine[own] = -9
        found.append(np.argsort(-cosine, kind="stable")[:k])
        cosines.append(cosine[found[-1]])
    return np.array(found), np.array(cosines)


@pytest.mark.parametrize(("queries", "candidates"), [(1024, 16384), (7, 5), (16, 10), (1, 53), (100, 3)])
def test_the_search_finds_what_sorting_all_cosines_finds(rows: Tensor, queries: int, candidates: int) -> None:
    table = find_nearest(rows, K, queries=queries, candidates=candidates)
    found, cosines = by_sorting(rows.numpy(), K)
    assert table.rows.dtype == np.int32
    assert table.cosines.dtype == np.float16
    np.testing.assert_array_equal(table.rows, found)
    np.testing.assert_allclose(table.cosines, cosines, atol=5e-4)


def stored(rows: Tensor, how: str, folder: Path) -> tuple[Rows, np.ndarray]:
    """Rows in some storage, and what a pass over them sees."""
    if how == "int8":
        bytes_ = quantise(rows)
        return bytes_, bytes_.codes.numpy() * bytes_.steps.numpy()[:, None]
    if how == "mapped":
        np.save(folder / "w.npy", rows.numpy())
        return torch.from_numpy(np.load(folder / "w.npy", mmap_mode="c")), rows.numpy()
    half = rows.bfloat16()
    return (split(rows) if how == "split" else half), half.float().numpy()


@pytest.mark.parametrize("how", ["int8", "mapped", "bfloat16", "split"])
def test_rows_in_any_storage(rows: Tensor, how: str, tmp_path: Path) -> None:
    kept, seen = stored(rows, how, tmp_path)
    table = find_nearest(kept, K, queries=10, candidates=20)
    _, cosines = by_sorting(seen, K)
    np.testing.assert_allclose(table.cosines, cosines, atol=5e-4)
    at = (seen.astype(np.float64)[:, None] * seen[table.rows]).sum(axis=2)  # cosines of the rows that were named
    np.testing.assert_allclose(at, cosines, atol=1e-6)


def test_more_neighbours_than_rows_are_all_others(rows: Tensor) -> None:
    table = find_nearest(rows[:5], 100)
    assert table.k == 4
    for own, others in enumerate(table.rows):
        assert sorted([own, *others]) == list(range(5))


def test_duplicates_are_the_pairs_above_the_threshold(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_rows, "CANDIDATES", 8)
    table = find_nearest(rows, 3)
    wide = rows.double().numpy()
    expected = [
        [i, j] for i in range(COUNT) for j in np.argsort(-(wide @ wide[i])) if i != j and wide[i] @ wide[j] > 0.9
    ]
    assert table.duplicates(0.9).tolist() == expected
    assert [3, 7] in expected
    assert [41, 20] in expected
    assert table.duplicates(1.5).shape == (0, 2)


def test_the_first_are_the_nearest(rows: Tensor) -> None:
    table = find_nearest(rows, K)
    few = table.first(2)
    assert (few.count, few.k, few.fingerprint) == (COUNT, 2, table.fingerprint)
    np.testing.assert_array_equal(few.rows, find_nearest(rows, 2).rows)
    assert table.first(1000).k == K


def test_a_table_in_a_folder_is_found_again(
    rows: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run" / "nearest"
    monkeypatch.setattr("proxylesskd.progress.SAID", 0.0)
    made = find_nearest(rows, K, folder, queries=10, progress=True)
    assert "searching the nearest rows" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["cosines.npy", "nearest.json", "rows.npy"]
    assert [path.name for path in folder.parent.iterdir()] == ["nearest"]
    monkeypatch.setattr(nearest_rows._Search, "nearest_of", None)  # another search would fail
    again = find_nearest(rows, 4, folder)
    np.testing.assert_array_equal(again.rows, made.rows[:, :4])
    np.testing.assert_array_equal(again.cosines, by_memory(rows).cosines[:, :4])
    assert isinstance(NearestRows.load(folder).rows, np.memmap)
    assert NearestRows.load(folder, rows_fingerprint(rows)).k == K


def by_memory(rows: Tensor) -> NearestRows:
    found, cosines = by_sorting(rows.numpy(), K)
    return NearestRows(found.astype(np.int32), cosines.astype(np.float32).astype(np.float16), "")


class Interrupted(Exception):
    pass


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Where the blocks begin that are searched; the search breaks off where the list holds -1 first."""
    seen: list[int] = []
    search = nearest_rows._Search.nearest_of

    def watched(self: nearest_rows._Search, start: int, stop: int) -> tuple[Tensor, Tensor]:
        if seen[:1] == [-1] and start >= 20:
            raise Interrupted
        seen.append(start)
        return search(self, start, stop)

    monkeypatch.setattr(nearest_rows._Search, "nearest_of", watched)
    return iter([seen])


@pytest.mark.parametrize("same", [True, False])
def test_an_interrupted_search_goes_on_where_the_rows_are_the_same(
    rows: Tensor, tmp_path: Path, blocks: Iterator[list[int]], same: bool
) -> None:
    seen, folder = next(blocks), tmp_path / "nearest"
    seen.append(-1)
    with pytest.raises(Interrupted):
        find_nearest(rows, K, folder, queries=10)
    assert not folder.exists()
    with pytest.raises(UserError, match="found none"):
        NearestRows.load(tmp_path / "nearest.partial")
    seen.clear()
    wanted = rows if same else rows.flip(0)
    table = find_nearest(wanted, K, folder, queries=10)
    assert seen == ([20, 30, 40, 50] if same else [0, 10, 20, 30, 40, 50])
    np.testing.assert_array_equal(table.rows, by_sorting(wanted.numpy(), K)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["nearest"]


def test_a_table_of_other_rows_or_fewer_neighbours_is_refused(rows: Tensor, tmp_path: Path) -> None:
    find_nearest(rows, 4, tmp_path / "n", fingerprint="abc")
    with pytest.raises(UserError, match="classifier xyz, found those of abc"):
        find_nearest(rows, 4, tmp_path / "n", fingerprint="xyz")
    with pytest.raises(UserError, match="expected 5 neighbours"):
        find_nearest(rows, 5, tmp_path / "n", fingerprint="abc")
    moved = rows.clone()
    moved[-1, -1] += 1e-3
    with pytest.raises(UserError, match="classifier"):
        find_nearest(moved, 4, tmp_path / "n")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b'{"format": "other"}',
        b"\xff",
        b'{"format": "proxylesskd-nearest-1", "fingerprint": "f", "count": 53, "k": 1e9, "done": 53}',
        b'{"format": "proxylesskd-nearest-1", "fingerprint": "f", "count": -1, "k": 4, "done": -1}',
        b'{"format": "proxylesskd-nearest-1", "fingerprint": "f", "count": 53, "k": 4, "done": 52}',
        b'{"format": "proxylesskd-nearest-1", "fingerprint": "f", "count": 53, "k": 0, "done": 53}',
        b'{"format": "proxylesskd-nearest-1", "fingerprint": "f", "count": 53, "k": 53, "done": 53}',
        b'{"format": "proxylesskd-nearest-1", "fingerprint": 1, "count": 53, "k": 4, "done": 53}',
    ],
)
def test_a_folder_that_says_nothing_of_use_is_no_table(rows: Tensor, tmp_path: Path, said: bytes) -> None:
    find_nearest(rows, 4, tmp_path / "n")
    (tmp_path / "n" / "nearest.json").write_bytes(said)
    with pytest.raises(UserError, match="found none"):
        NearestRows.load(tmp_path / "n")


def damages() -> dict[str, object]:
    return {
        "truncated": lambda path: path.write_bytes(path.read_bytes()[:150]),
        "missing": lambda path: path.unlink(),
        "of another type": lambda path: np.save(path, np.zeros((COUNT, 4), np.int64)),
        "of another shape": lambda path: np.save(path, np.zeros((COUNT, 5), np.int32)),
        "pickled": lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
        "no array": lambda path: path.write_bytes(b"hello"),
    }


@pytest.mark.parametrize("how", damages())
def test_a_damaged_array_is_refused(rows: Tensor, tmp_path: Path, how: str) -> None:
    find_nearest(rows, 4, tmp_path / "n")
    damages()[how](tmp_path / "n" / "rows.npy")  # type: ignore[operator]
    with pytest.raises(UserError, match=r"rows\.npy'"):
        NearestRows.load(tmp_path / "n")


def test_a_table_that_claims_more_than_it_has_is_refused(rows: Tensor, tmp_path: Path) -> None:
    find_nearest(rows, 4, tmp_path / "n")
    state = json.loads((tmp_path / "n" / "nearest.json").read_text())
    (tmp_path / "n" / "nearest.json").write_text(json.dumps(state | {"count": 10**9, "done": 10**9}))
    with pytest.raises(UserError, match=r"rows\.npy'"):
        NearestRows.load(tmp_path / "n")


def test_what_cannot_be_searched_is_refused(rows: Tensor) -> None:
    with pytest.raises(UserError, match="k >= 1"):
        find_nearest(rows, 0)
    with pytest.raises(UserError, match="1 rows"):
        find_nearest(rows[:1], 3)


def test_the_fingerprint_is_that_of_what_negatives_meet(rows: Tensor) -> None:
    assert rows_fingerprint(rows) == rows_fingerprint(rows.clone())
    assert rows_fingerprint(rows) != rows_fingerprint(rows.flip(0))
    assert rows_fingerprint(rows) != rows_fingerprint(rows.reshape(DIM, COUNT))
    assert rows_fingerprint(rows) != rows_fingerprint(rows.bfloat16())
    assert rows_fingerprint(split(rows)) == rows_fingerprint(rows.bfloat16())


def test_the_fingerprint_knows_every_row_and_not_the_blocks(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows_fingerprint(rows)
    monkeypatch.setattr(nearest_rows, "CANDIDATES", 7)
    assert rows_fingerprint(rows) == whole
    for changed in (0, len(rows) - 1):
        other = rows.clone()
        other[changed, 0] += 0.5
        assert rows_fingerprint(other) != whole
