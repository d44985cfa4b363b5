from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError


def example() -> InheritedClassifier:
    generator = torch.Generator().manual_seed(0)
    return InheritedClassifier(torch.randn(5, 8, generator=generator), ["a", "b", "ç", "d", "e"], {"how": "drawn"})


def test_rows_are_a_unit_buffer_and_never_a_parameter() -> None:
    classifier = example()
    assert list(classifier.parameters()) == []
    assert [name for name, _ in classifier.named_buffers()] == ["stored_rows"]
    assert dict(classifier.state_dict()) == {"_extra_state": classifier.fingerprint}
    torch.testing.assert_close(classifier.rows.norm(dim=1), torch.ones(5))
    assert (classifier.dim, len(classifier.identities)) == (8, 5)


def test_a_file_gives_back_everything(tmp_path: Path) -> None:
    classifier = example()
    classifier.save(tmp_path / "deep" / "c.safetensors")
    again = InheritedClassifier.load(tmp_path / "deep" / "c.safetensors")
    assert torch.equal(again.rows, classifier.rows)
    assert again.identities == classifier.identities
    assert again.provenance == classifier.provenance
    assert again.fingerprint == classifier.fingerprint
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["c.safetensors"]


def test_the_fingerprint_sees_rows_and_names() -> None:
    classifier = example()
    moved = InheritedClassifier(classifier.rows.flip(0), classifier.identities, {})
    renamed = InheritedClassifier(classifier.rows, ["x", *classifier.identities[1:]], {})
    assert len({classifier.fingerprint, moved.fingerprint, renamed.fingerprint}) == 3
    with pytest.raises(UserError, match="earlier run"):
        classifier.expect(moved.fingerprint)


def test_rows_are_found_by_name() -> None:
    assert example().rows_of(["d", "a", "ç"]).tolist() == [3, 0, 2]
    with pytest.raises(UserError, match=r"none for 2 of them, first 'z'"):
        example().rows_of(["a", "z", "y"])


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        (torch.ones(3), ["a"], "expected floating-point rows"),
        (torch.ones(2, 3, dtype=torch.int64), ["a", "b"], "floating-point"),
        (torch.eye(3), ["a", "b"], "3 rows and 2 identities"),
        (torch.eye(3), ["a", "b", "a"], "'a' more than once"),
        (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), ["a", "b"], r"first row 1 \('b'\)"),
        (torch.tensor([[float("nan"), 0.0], [0.0, 1.0]]), ["a", "b"], "finite"),
    ],
)
def test_wrong_rows_are_named(rows: torch.Tensor, names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InheritedClassifier(rows, names, {})


def test_files_that_are_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nothing"):
        InheritedClassifier.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match="damaged or foreign"):
        InheritedClassifier.load(tmp_path / "text.safetensors")
    safetensors.torch.save_file({"weight": torch.eye(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="without identities"):
        InheritedClassifier.load(tmp_path / "other.safetensors")
