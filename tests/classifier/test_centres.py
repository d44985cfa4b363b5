from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier import centres, exact_sums
from proxylesskd.classifier.centres import ClassSums, class_centres
from proxylesskd.classifier.exact_sums import FloatSums, SplitSums
from proxylesskd.errors import UserError

TABLES = {"float": 2**60, "split": 0}  # from how many bytes on the compiled table is used


@pytest.fixture(params=TABLES, autouse=True)
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs with both tables."""
    monkeypatch.setattr(exact_sums, "SPLIT_FROM", TABLES[request.param])
    kind = FloatSums if request.param == "float" else SplitSums
    assert isinstance(exact_sums.exact_sums(2, 3), kind)
    return str(request.param)


def drawn(images: int, count: int, dim: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # Components of very different size: what float32 or float64 sums would round in an order of their own.
    scales = 10.0 ** torch.linspace(-9, 0, dim)
    embeddings = F.normalize(torch.randn(images, dim, generator=generator) * scales, dim=1)
    return embeddings, torch.randint(count, (images,), generator=generator)


def cut(embeddings: Tensor, labels: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return [(embeddings[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


def test_means_against_exact_fractions() -> None:
    embeddings, labels = drawn(60, 4)
    means, seen = class_centres(cut(embeddings, labels, 7), 5)
    assert means.dtype == torch.float64
    assert seen.tolist() == np.bincount(labels.numpy(), minlength=5).tolist()
    for identity in range(4):
        own = embeddings[labels == identity]
        for component in range(embeddings.shape[1]):
            steps = sum(round(Fraction(float(value)) * 2**28) for value in own[:, component])
            assert float(means[identity, component]) == steps / 2**28 / len(own)
    assert not means[4].any()
    np.testing.assert_allclose(means[0], embeddings[labels == 0].double().mean(0), atol=2**-28)


@pytest.mark.parametrize("size", [1, 3, 64, 5000])
def test_neither_order_nor_chunks_change_a_bit(size: int) -> None:
    embeddings, labels = drawn(5000, 30)
    expected, _ = class_centres([(embeddings, labels)], 30)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(size))[: 300 if size == 1 else 5000]
    if size == 1:
        expected, _ = class_centres([(embeddings[order.sort().values], labels[order.sort().values])], 30)
    means, _ = class_centres(cut(embeddings[order], labels[order], size), 30)
    assert torch.equal(means, expected)
    # The example can tell: the ordinary sum does depend on the order.
    plain = [embeddings[i][labels[i] == 3].sum(0) for i in (torch.arange(5000), torch.arange(5000).flip(0))]
    assert not torch.equal(plain[0], plain[1])


def test_merged_parts_equal_the_whole() -> None:
    embeddings, labels = drawn(400, 9)
    whole, left, right = (ClassSums(9, 16) for _ in range(3))
    whole.add(embeddings, labels)
    left.add(embeddings[:130], labels[:130])
    right.add(embeddings[130:], labels[130:])
    right.merge(left)
    right.merge_processes()  # alone: nothing to add
    with pytest.raises(UserError, match="expected sums"):
        right.merge(ClassSums(8, 16))
    assert torch.equal(whole.seen, right.seen)
    assert torch.equal(whole.means(), right.means())
    assert torch.equal(whole.into_rows(), right.into_rows())


def test_rows_are_unit_means(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels = drawn(100, 7)
    sums = ClassSums(8, 16)
    sums.add(embeddings, labels)
    np.testing.assert_allclose(sums.of(torch.tensor([2, 2]))[1], embeddings[labels == 2].double().sum(0), atol=1e-6)
    monkeypatch.setattr(centres, "BLOCK", 3)
    rows = sums.into_rows()
    assert rows.dtype == torch.float32
    for identity in range(7):
        total = [math.fsum(embeddings[labels == identity][:, d].tolist()) for d in range(16)]
        np.testing.assert_allclose(rows[identity], np.array(total) / np.linalg.norm(total), atol=1e-7)
    assert not rows[7].any()


def test_a_group_of_one_process_adds_nothing(tmp_path: Path) -> None:
    embeddings, labels = drawn(50, 5)
    sums = ClassSums(5, 16)
    sums.add(embeddings, labels)
    expected, seen = sums.means(), sums.seen.clone()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        sums.merge_processes()
    finally:
        dist.destroy_process_group()
    assert torch.equal(sums.means(), expected)
    assert torch.equal(sums.seen, seen)


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (torch.full((2, 3), 0.5), [0, 2], r"labels in \[0, 2\), found 0 to 2"),
        (torch.full((2, 3), 0.5), [-1, 0], r"found -1 to 0"),
        (torch.full((2, 3), 0.5), [0], "2, 3"),
        (torch.full((2, 4), 0.5), [0, 1], r"\[n, 3\]"),
        (torch.full((2, 3), 1.5), [0, 1], "normalise"),
        (torch.tensor([[0.0, float("nan"), 0.0]]), [0], "non-finite"),
    ],
)
def test_what_cannot_be_averaged(embeddings: Tensor, labels: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClassSums(2, 3).add(embeddings, torch.tensor(labels))


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is the source empty"):
        class_centres([], 3)
    monkeypatch.setattr(centres, "MOST_IMAGES", 5)
    sums = ClassSums(2, 3)
    sums.add(torch.eye(3), torch.tensor([0, 0, 0]))
    sums.add(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    with pytest.raises(UserError, match="at most 5 images of an identity, found 6"):
        sums.add(torch.eye(3), torch.tensor([0, 0, 0]))


def test_sums_beyond_int32_are_carried() -> None:
    # Two thousand almost equal images: components far beyond 8, the range of an int32 in steps of 2^-28.
    generator = torch.Generator().manual_seed(5)
    direction = torch.tensor([0.9, -0.4, 0.1, 0.0])
    embeddings = F.normalize(direction + 0.01 * torch.randn(2000, 4, generator=generator), dim=1)
    labels = torch.arange(2000) % 2
    means, _ = class_centres(cut(embeddings, labels, 300), 2)
    for identity in range(2):
        expected = np.rint(embeddings[identity::2].double().numpy() * 2**28).sum(0) / 2**28 / 1000
        assert means[identity].tolist() == expected.tolist()


def test_the_compiled_loop_does_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = F.normalize(torch.tensor([[1.0, -0.1, 1e-9]]) + drawn(60, 1, 3)[0] / 9, dim=1)
    labels = torch.arange(60) % 3
    expected, _ = class_centres([(embeddings, labels)], 4)
    monkeypatch.setattr(exact_sums, "_compiled", lambda: exact_sums._add_rows)
    assert torch.equal(class_centres([(embeddings, labels)], 4)[0], expected)
    with pytest.raises(UserError, match="normalise"):
        class_centres([(2 * embeddings[:6], labels[:6])], 4)


def test_without_numba_the_plain_table_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert isinstance(exact_sums.exact_sums(10**4, 1000), FloatSums)
