"""Both engines against plain loops, with ties, and with more photos than are asked for at once."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.recognition import search as module
from proxylesskd.recognition.search import Entries, search


def entries_of(counts: list[int], dim: int = 8, seed: int = 0) -> Entries:
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((sum(counts), dim)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    names = [f"person {number:04d}" for number in range(len(counts))]
    photos = [f"{name}/{k}.jpg" for name, count in zip(names, counts, strict=True) for k in range(count)]
    return Entries(names, photos, np.cumsum([0, *counts]), embeddings)


def probe_of(dim: int = 8, seed: int = 9) -> np.ndarray:
    probe = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return np.asarray(probe / np.linalg.norm(probe))


def by_loops(entries: Entries, probe: np.ndarray) -> list[tuple[int, int, float]]:
    found = []
    for number in range(len(entries.identities)):
        rows = range(entries.starts[number], entries.starts[number + 1])
        scores = [sum(float(a) * float(b) for a, b in zip(entries.embeddings[row], probe, strict=True)) for row in rows]
        best = max(scores)
        found.append((number, rows[scores.index(best)], best))
    return sorted(found, key=lambda one: (-one[2], one[0]))


@pytest.fixture(params=["numpy", "faiss"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "faiss":
        pytest.importorskip("faiss")
    return str(request.param)


@pytest.mark.parametrize("counts", [[1], [3, 1, 2], [1] * 40, [200, 1, 1, 90, 5]])
@pytest.mark.parametrize("k", [1, 2, 7, 500])
def test_is_what_loops_find(engine: str, counts: list[int], k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)  # blocks end within identities
    entries, probe = entries_of(counts), probe_of()
    found = search(entries, probe, k, engine=engine)
    expected = by_loops(entries, probe)[:k]
    assert [(match.identity, match.photo) for match in found] == [(who, photo) for who, photo, _ in expected]
    np.testing.assert_allclose([match.score for match in found], [score for *_, score in expected], atol=1e-6)


def test_one_person_with_all_the_best_photos_hides_nobody(engine: str) -> None:
    entries = entries_of([300, 1, 1, 1])
    probe = probe_of()
    near = probe + 0.01 * entries.embeddings[:300]
    entries.embeddings[:300] = near / np.linalg.norm(near, axis=1, keepdims=True)
    assert [match.identity for match in search(entries, probe, 3, engine=engine)] == [
        who for who, *_ in by_loops(entries, probe)[:3]
    ]


def test_of_equals_the_first_by_name(engine: str) -> None:
    entries = entries_of([1] * 100)
    probe = probe_of()
    entries.embeddings[:] = probe
    entries.embeddings[17] = -probe
    assert [match.identity for match in search(entries, probe, 4, engine=engine)] == [0, 1, 2, 3]


def test_nothing_enrolled_finds_nobody(engine: str) -> None:
    empty = Entries([], [], np.zeros(1, np.int64), np.empty((0, 8), np.float32))
    assert search(empty, probe_of(), 3, engine=engine) == []


def test_the_index_is_made_once() -> None:
    pytest.importorskip("faiss")
    entries = entries_of([2, 2])
    search(entries, probe_of(), 1, engine="faiss")
    made = entries.index[0]
    search(entries, probe_of(seed=3), 1, engine="faiss")
    assert entries.index == [made]


def test_without_faiss_it_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert len(search(entries_of([1, 1]), probe_of(), 2)) == 2
    with pytest.raises(UserError, match=r"proxylesskd\[faiss\]"):
        search(entries_of([1, 1]), probe_of(), 2, engine="faiss")


def test_refuses_what_is_no_engine_and_no_number() -> None:
    with pytest.raises(UserError, match="did you mean 'faiss'"):
        search(entries_of([1]), probe_of(), 1, engine="fais")
    with pytest.raises(UserError, match="at least one"):
        search(entries_of([1]), probe_of(), 0)
