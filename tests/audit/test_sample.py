from __future__ import annotations

import numpy as np
import torch

from proxylesskd.audit.evidence import sample_images
from proxylesskd.audit.sample import embed_sample, read_sample
from proxylesskd.data.decode import decode
from tests.faces import ColourEmbedder, MemorySource


def test_the_sample_is_embedded_with_its_labels_and_without_what_is_corrupt() -> None:
    faces, teacher = MemorySource(5, 4), ColourEmbedder()
    chosen = sample_images(faces.labels, 12, 3)
    faces.spoil(int(chosen[4]))
    found = embed_sample(teacher, faces, sample=12, seed=3)
    whole = np.delete(chosen, 4)
    assert found.labels.tolist() == faces.labels[whole].tolist()
    for position, index in enumerate(whole):
        image = torch.from_numpy(decode(faces.read(int(index))[0]))
        np.testing.assert_allclose(found.views[position, 0], teacher.embed(image[None])[0].numpy(), atol=1e-6)
    assert (found.identities, found.fingerprint) == (faces.identities, "colours-1")


def test_a_few_images_of_a_few_identities_that_have_two() -> None:
    faces = MemorySource(6, 3)
    images, labels = read_sample(faces, identities=4, images=2, seed=1)
    assert images.shape == (8, 3, 112, 112)
    assert np.bincount(labels.numpy()).tolist().count(2) == 4
    whole = {decode(faces.read(index)[0]).tobytes(): int(faces.labels[index]) for index in range(18)}
    assert [whole[image.numpy().tobytes()] for image in images] == labels.tolist()


def test_single_images_make_no_sample() -> None:
    images, labels = read_sample(MemorySource(6, 1), identities=4, images=2)
    assert images.shape == (0, 3, 112, 112)
    assert len(labels) == 0
