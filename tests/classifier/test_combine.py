from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.combine import concatenate, extend, merge, near_names, shared_names
from proxylesskd.data.decode import decode
from proxylesskd.errors import UserError
from proxylesskd.models.joined import JoinedEmbedder
from tests.faces import ColourEmbedder, MemorySource

Array = npt.NDArray[np.float64]


def _part(
    names: str, seed: int, *, dim: int = 8, teacher: str | None = "t-1", projection: Tensor | None = None
) -> InheritedClassifier:
    rows = torch.randn(len(names.split()), dim, generator=torch.Generator().manual_seed(seed))
    provenance: dict[str, Any] = {"how": f"drawn from {seed}"}
    if teacher is not None:
        provenance |= {"teacher": f"name of {teacher}", "teacher_fingerprint": teacher}
    return InheritedClassifier(rows, names.split(), provenance, projection)


def _row(classifier: InheritedClassifier, name: str) -> Array:
    return classifier.rows[classifier.identities.index(name)].double().numpy()


def _bits(classifier: InheritedClassifier, name: str) -> bytes:
    return classifier.rows[classifier.identities.index(name)].numpy().tobytes()


def test_extend_keeps_every_row_and_adds_the_new_ones() -> None:
    first, second = _part("c a b", 1), _part("x a y c", 2)
    both = extend(first, second)
    assert both.identities == ["c", "a", "b", "x", "y"]
    for name in both.identities:
        assert _bits(both, name) == _bits(first if name in "cab" else second, name)


def test_provenance_names_both_parts(tmp_path: Path) -> None:
    first, second = _part("a b", 1), _part("b c", 2)
    for both in (extend(first, second), merge(first, second)):
        assert both.provenance["teacher_fingerprint"] == "t-1"
        assert both.provenance["teacher"] == "name of t-1"
        assert both.provenance["shared_identities"] == both.provenance["added_identities"] == 1
        assert [part["fingerprint"] for part in both.provenance["parts"]] == [first.fingerprint, second.fingerprint]
        assert [part["provenance"]["how"] for part in both.provenance["parts"]] == ["drawn from 1", "drawn from 2"]
        both.save(tmp_path / "both.safetensors")
        read = InheritedClassifier.load(tmp_path / "both.safetensors")
        assert (read.fingerprint, read.provenance) == (both.fingerprint, both.provenance)


def test_extend_by_nobody_new_is_refused() -> None:
    with pytest.raises(UserError, match="all 2 have a row already"):
        extend(_part("a b c", 1), _part("b a", 2))


@pytest.mark.parametrize("images", [None, (torch.tensor([1, 4, 2]), torch.tensor([9, 1, 3]))])
def test_merge_against_loops(images: tuple[Tensor, Tensor] | None) -> None:
    first, second = _part("c a b", 1), _part("x b c", 2)
    both = merge(first, second, images=images)
    assert both.identities == ["c", "a", "b", "x"]
    assert _bits(both, "a") == _bits(first, "a")
    assert _bits(both, "x") == _bits(second, "x")
    for name, left, right in (("c", 1, 3), ("b", 2, 1)):
        total = (left if images else 1) * _row(first, name) + (right if images else 1) * _row(second, name)
        np.testing.assert_allclose(_row(both, name), total / np.linalg.norm(total), atol=1e-6)


def test_merge_of_people_without_overlap_is_their_union() -> None:
    first, second = _part("a b", 1), _part("x y", 2)
    both = merge(first, second)
    assert both.identities == ["a", "b", "x", "y"]
    assert torch.equal(both.rows, torch.cat([first.rows, second.rows]))
    assert both.provenance["shared_identities"] == 0


def test_merge_refuses_rows_that_cancel_and_counts_that_do_not_fit() -> None:
    first = InheritedClassifier(torch.eye(2), ["a", "b"], {"teacher_fingerprint": "t"})
    second = InheritedClassifier(-torch.eye(2), ["x", "b"], {"teacher_fingerprint": "t"})
    with pytest.raises(UserError, match=r"not zero, found 1 others, first row 1 \('b'\)"):
        merge(first, second)
    with pytest.raises(UserError, match=r"\[2\] and \[2\], found \[2\] and \[3\]"):
        merge(first, second, images=(torch.ones(2), torch.ones(3)))
    with pytest.raises(UserError, match="not positive"):
        merge(first, second, images=(torch.ones(2), torch.zeros(2)))


@pytest.mark.parametrize("combine", [extend, merge])
def test_parts_of_two_spaces_are_refused(combine: Any) -> None:
    first = _part("a b", 1)
    with pytest.raises(UserError, match="one teacher, found 't-1' and 't-2'"):
        combine(first, _part("c d", 2, teacher="t-2"))
    with pytest.raises(UserError, match="found 't-1' and an unknown one; pass same_space=True"):
        combine(first, _part("c d", 2, teacher=None))
    with pytest.raises(UserError, match="one dimension, found 8 and 4"):
        combine(first, _part("c d", 2, dim=4), same_space=True)
    with pytest.raises(UserError, match="other projections"):
        combine(first, _part("c d", 2, projection=torch.eye(10, 8)), same_space=True)
    with pytest.raises(UserError, match="other projections"):
        combine(_part("a b", 1, projection=torch.eye(9, 8)), _part("c d", 2, projection=torch.eye(10, 8)))


@pytest.mark.parametrize("combine", [extend, merge])
def test_same_space_is_taken_on_trust(combine: Any) -> None:
    own, centres = _part("a b", 1, teacher=None), _part("c d", 2)
    both = combine(own, centres, same_space=True)
    assert both.provenance["teacher_fingerprint"] == "t-1"
    assert "teacher_fingerprint" not in combine(own, _part("c d", 3, teacher=None), same_space=True).provenance


@pytest.mark.parametrize("combine", [extend, merge])
def test_the_projection_stays(combine: Any) -> None:
    parts = [_part(names, 1, projection=torch.eye(10, 8)) for names in ("a b", "b c")]
    assert torch.equal(combine(*parts).projection, torch.eye(10, 8))


def test_concatenated_rows_add_up_to_weighted_cosines() -> None:
    first, second = _part("c a b z", 1, dim=6), _part("b y a c w", 2, dim=5, teacher="t-2")
    both = concatenate(first, second, weights=(1.0, 3.0))
    assert both.identities == ["c", "a", "b"]
    assert both.dim == 11
    for i in both.identities:
        np.testing.assert_allclose(np.linalg.norm(_row(both, i)), 1, atol=1e-6)
        for j in both.identities:
            cosines = [sum(_row(part, i) * _row(part, j)) for part in (first, second)]
            assert sum(_row(both, i) * _row(both, j)) == pytest.approx(0.25 * cosines[0] + 0.75 * cosines[1], abs=1e-6)
    told = both.provenance
    assert (told["shared_identities"], told["left_out_of_first"], told["left_out_of_second"]) == (3, 1, 2)
    assert told["weights"] == [0.25, 0.75]
    assert told["teacher"] == "name of t-1+name of t-2"
    assert [part["fingerprint"] for part in told["parts"]] == [first.fingerprint, second.fingerprint]


def test_the_joined_embedder_lives_in_the_concatenated_space() -> None:
    class Other(ColourEmbedder):
        name, fingerprint = "others", "others-1"

        def embed(self, images: Tensor) -> Tensor:
            return super().embed(images.flip(2)).roll(1, dims=1)

    source, teachers = MemorySource(4, 1), (ColourEmbedder(), Other())
    images = torch.stack([torch.from_numpy(decode(source.read(i)[0])) for i in range(4)])
    parts = [
        InheritedClassifier(
            teacher.embed(images),
            source.identities,
            {"teacher": teacher.name, "teacher_fingerprint": teacher.fingerprint},
        )
        for teacher in teachers
    ]
    both, joined = concatenate(*parts, weights=(2, 1)), JoinedEmbedder(*teachers, (2, 1))
    assert both.provenance["teacher_fingerprint"] == joined.fingerprint
    assert (both.dim, both.provenance["teacher"]) == (joined.dim, joined.name)
    found = joined.embed(images).numpy() @ both.rows.numpy().T
    for image in range(4):
        for row in range(4):
            cosines = [
                float(teacher.embed(images[[image]])[0] @ part.rows[row])
                for teacher, part in zip(teachers, parts, strict=True)
            ]
            assert found[image, row] == pytest.approx((2 * cosines[0] + cosines[1]) / 3, abs=1e-5)


def test_unknown_teachers_give_no_joint_fingerprint() -> None:
    both = concatenate(_part("a b", 1), _part("a b", 2, teacher=None))
    assert not {"teacher", "teacher_fingerprint"} & set(both.provenance)


def test_concatenate_refuses() -> None:
    first = _part("0001 0002", 1)
    with pytest.raises(UserError, match="found 0 among 2 and 2; '0001' in the first looks like 'n0001' in the second"):
        concatenate(first, _part("n0001 n0002", 2, teacher="t-2"))
    with pytest.raises(UserError, match="found 1 among 2 and 2"):
        concatenate(first, _part("0001 0003", 2, teacher="t-2"))
    with pytest.raises(UserError, match="two teachers, found 't-1' twice"):
        concatenate(first, _part("0001 0002", 2))
    with pytest.raises(UserError, match="concatenate first, then project"):
        concatenate(first, _part("0001 0002", 2, teacher="t-2", projection=torch.eye(8)))
    with pytest.raises(UserError, match="two positive weights"):
        concatenate(first, _part("0001 0002", 2, teacher="t-2"), weights=(1.0, 0.0))


def test_names_are_joined_letter_by_letter() -> None:
    assert shared_names(["b", "A", "c "], ["a", "c", "b"]) == ["b"]


@pytest.mark.parametrize(
    ("first", "second", "hint"),
    [
        (["q", "Ann_Lee"], ["ann lee"], "'Ann_Lee' in the first looks like 'ann lee' in the second"),
        (["q", "0007"], ["id-7", "id-8"], "'0007' in the first looks like 'id-7' in the second"),
        (["000"], ["p0"], "'000' in the first looks like 'p0'"),
        (["x", "y"], ["v", "w"], "the first begins with 'x', the second with 'v'"),
        (["...", "a1b2"], ["___", "1 2"], "the first begins with '...', the second with '___'"),
    ],
)
def test_hints_for_near_names(first: list[str], second: list[str], hint: str) -> None:
    assert hint in near_names(first, second)
