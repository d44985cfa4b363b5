from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.classifier.fit import fit_rows
from proxylesskd.classifier.inherit import check_rows, inherit, inherit_embedded
from proxylesskd.classifier.robust import robust_centres
from proxylesskd.data.decode import decode
from proxylesskd.errors import UserError
from tests.faces import ColourEmbedder, MemorySource


def test_rows_are_the_centres_of_both_mirror_views() -> None:
    source, teacher = MemorySource(4, 3), ColourEmbedder()
    classifier = inherit(teacher, source, batch=5)
    for identity in range(4):
        total = np.zeros(teacher.dim)
        for index in np.flatnonzero(source.labels == identity):
            image = decode(source.read(int(index))[0])
            both = sum(
                teacher.embed(torch.from_numpy(view)[None])[0].double().numpy()
                for view in (image, image[:, :, ::-1].copy())
            )
            total += both / np.linalg.norm(both)
        np.testing.assert_allclose(classifier.rows[identity].numpy(), total / np.linalg.norm(total), atol=1e-4)
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


def test_few_images_make_a_centre() -> None:
    source, teacher = MemorySource(3, 4), ColourEmbedder()
    classifier = inherit(teacher, source, images_per_identity=1)
    image = torch.from_numpy(decode(source.read(4)[0]))[None]
    centre = teacher.embed(image) + teacher.embed(image.flip(-1))
    torch.testing.assert_close(classifier.rows[1], F.normalize(centre, dim=1)[0], atol=1e-3, rtol=0)
    assert classifier.provenance["images"] == 3
    assert classifier.provenance["images_per_identity"] == 1


@pytest.mark.parametrize("rows", ["mean", "robust", "fitted"])
def test_kept_embeddings_give_the_rows_that_are_asked_for(tmp_path: Path, rows: str) -> None:
    source, teacher = MemorySource(5, 6), ColourEmbedder()
    classifier = inherit(teacher, source, rows=check_rows(rows), embeddings=tmp_path / "kept")
    embedded = embed_source(teacher, source)
    robust = robust_centres(embedded)
    expected = {
        "mean": inherit(teacher, source).rows,
        "robust": robust.rows,
        "fitted": fit_rows(embedded, robust.rows, weights=robust.weights),
    }[rows]
    torch.testing.assert_close(classifier.rows, expected, atol=1e-3, rtol=0)  # kept in float16
    assert classifier.provenance["rows"] == rows
    assert classifier.provenance["images"] == 30
    assert (tmp_path / "kept" / "embedded.json").is_file()
    if rows == "mean":
        assert torch.equal(classifier.rows, expected)  # streamed and kept embeddings are rounded alike
    assert ("wrong_labels_estimated" in classifier.provenance) == (rows != "mean")


def test_corrupt_images_are_counted_in_kept_embeddings() -> None:
    source = MemorySource(3, 4)
    source.spoil(1)
    found = inherit_embedded(embed_source(ColourEmbedder(), source), rows="mean")
    assert (found.provenance["images"], found.provenance["corrupt_images"]) == (11, 1)


def test_unknown_rows() -> None:
    with pytest.raises(UserError, match="found 'robst'; did you mean 'robust'"):
        check_rows("robst")
