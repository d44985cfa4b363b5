from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.inherit import class_centres, inherit, inherit_best, inherit_from_checkpoint
from proxylesskd.data.decode import decode
from proxylesskd.errors import UserError
from tests.faces import ColourEmbedder, MemorySource


def test_class_centres_against_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = F.normalize(torch.randn(20, 4, generator=generator), dim=1)
    labels = torch.randint(3, (20,), generator=generator)
    means, seen = class_centres([(embeddings[:7], labels[:7]), (embeddings[7:], labels[7:])], 4)
    for identity in range(4):
        own = [embeddings[i].double().numpy() for i in range(20) if labels[i] == identity]
        assert int(seen[identity]) == len(own)
        expected = np.mean(own, axis=0) if own else np.zeros(4)
        np.testing.assert_allclose(means[identity].numpy(), expected, atol=1e-12)


def test_rows_are_the_centres_of_both_mirror_views() -> None:
    source, teacher = MemorySource(4, 3), ColourEmbedder()
    classifier = inherit(teacher, source, batch=5)
    for identity in range(4):
        total = np.zeros(teacher.dim)
        for index in np.flatnonzero(source.labels == identity):
            image = decode(source.read(int(index))[0])
            for view in (image, image[:, :, ::-1].copy()):
                total += teacher.embed(torch.from_numpy(view)[None])[0].double().numpy()
        np.testing.assert_allclose(classifier.rows[identity].numpy(), total / np.linalg.norm(total), atol=1e-6)
    assert classifier.identities == source.identities
    assert classifier.provenance["images"] == 12
    assert classifier.provenance["teacher_fingerprint"] == "colours-1"


def test_a_corrupt_image_is_counted_and_an_identity_without_images_refused() -> None:
    source = MemorySource(4, 3)
    source.spoil(5)
    assert inherit(ColourEmbedder(), source).provenance["corrupt_images"] == 1
    source.spoil(3)
    source.spoil(4)
    with pytest.raises(UserError, match="none of 1, first 'id-001'"):
        inherit(ColourEmbedder(), source)


def test_the_own_last_layer_of_a_run(tmp_path: Path) -> None:
    own = InheritedClassifier(torch.eye(3), ["a", "b", "c"], {"how": "trained"})
    own.save(tmp_path / "classifier.safetensors")
    assert inherit_best(tmp_path).fingerprint == own.fingerprint
    assert inherit_from_checkpoint(tmp_path).fingerprint == own.fingerprint
    other = MemorySource(2, 1)
    with pytest.raises(UserError, match="expected a row for each"):
        inherit_best(tmp_path, other)


def test_the_last_layer_of_a_foreign_checkpoint(tmp_path: Path) -> None:
    rows = torch.randn(4, 6)
    torch.save(
        {"conv.weight": torch.randn(2, 2, 1, 1), "fc.weight": torch.randn(6, 9), "head.weight": rows}, tmp_path / "t.pt"
    )
    classifier = inherit_from_checkpoint(tmp_path / "t.pt")
    torch.testing.assert_close(classifier.rows, F.normalize(rows, dim=1))
    assert classifier.identities == ["0", "1", "2", "3"]
    named = inherit_best(tmp_path / "t.pt", MemorySource(4, 1))
    assert named.identities == ["id-000", "id-001", "id-002", "id-003"]


def test_a_kernel_stands_transposed(tmp_path: Path) -> None:
    kernel = torch.randn(6, 4)
    torch.save({"kernel": kernel}, tmp_path / "t.pt")
    torch.testing.assert_close(inherit_from_checkpoint(tmp_path / "t.pt").rows, F.normalize(kernel.T, dim=1))


@pytest.mark.parametrize(
    ("state", "options", "message"),
    [
        ({"a": torch.eye(3), "b": torch.eye(3)}, {"identities": ["x", "y", "z"]}, "several that fit: a, b"),
        ({"a": torch.eye(3)}, {}, "expected the last layer"),
        ({"a": torch.eye(3)}, {"identities": ["x", "y"]}, "2 rows"),
        ({"a": torch.eye(3)}, {"key": "b"}, "expected a tensor 'b'"),
    ],
)
def test_what_is_ambiguous_is_asked_for(
    tmp_path: Path, state: dict[str, torch.Tensor], options: dict[str, object], message: str
) -> None:
    torch.save(state, tmp_path / "t.pt")
    with pytest.raises(UserError, match=message):
        inherit_from_checkpoint(tmp_path / "t.pt", **options)  # type: ignore[arg-type]


def test_nothing_to_inherit_from(tmp_path: Path) -> None:
    (tmp_path / "t.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="give --data"):
        inherit_best(tmp_path / "t.onnx")


def test_few_images_make_a_centre() -> None:
    source, teacher = MemorySource(3, 4), ColourEmbedder()
    classifier = inherit(teacher, source, images_per_identity=1)
    image = torch.from_numpy(decode(source.read(4)[0]))[None]
    centre = teacher.embed(image) + teacher.embed(image.flip(-1))
    torch.testing.assert_close(classifier.rows[1], F.normalize(centre, dim=1)[0])
    assert classifier.provenance["images"] == 3
    assert classifier.provenance["images_per_identity"] == 1
