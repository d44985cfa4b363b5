from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from proxylesskd.audit import audit
from proxylesskd.audit.audit import audit_classifier, check_space, usual_similarity
from proxylesskd.audit.evidence import gather
from proxylesskd.audit.finding import Audit
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.data.decode import decode
from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.teacher import Teacher
from tests.audit.worlds import world
from tests.faces import ColourEmbedder, MemorySource


def levels(audit: Audit) -> dict[str, str]:
    json.dumps(audit.to_dict())
    return {finding.check: finding.level for finding in audit.findings}


def inherited(teacher: Embedder, source: MemorySource) -> InheritedClassifier:
    """Class centres of single views, one image at a time."""
    rows = torch.zeros(len(source.identities), teacher.dim)
    for index in range(len(source)):
        image = torch.from_numpy(decode(source.read(index)[0]))
        rows[source.labels[index]] += teacher.embed(image[None])[0]
    return InheritedClassifier(rows, source.identities, {"teacher_fingerprint": teacher.fingerprint})


ALONE = ["norms", "copies", "duplicates", "spread"]
NAMED = ["number of rows", "names"]


@pytest.mark.parametrize("seed", range(20))
def test_clean_data_raises_no_alarm(seed: int) -> None:
    """Twenty seeds; sizes, dimensions and noise change from seed to seed, so that all of them meet."""
    for people, dim, images in ((5, 16, 2), (20, 64, 6), (100, 16, 2), (100, 128, 8), (500, (16, 64)[seed % 2], 3)):
        for noise in (0.3, 1.0, 2.0):
            place = world(people, dim, noise=noise, images=images, seed=seed)
            # Rows of the same images, and those of a perfect last layer.
            for rows in (place.centres(), place.true):
                audit = audit_classifier(place.classifier(rows), embedded=place.embedded)
                assert [f.message for f in audit.findings if f.level != "passed"] == []


def test_what_is_at_hand_decides_what_runs() -> None:
    place, faces = world(6, 147), MemorySource(6, 4)
    classifier = inherited(ColourEmbedder(), faces)
    assert list(levels(audit_classifier(classifier))) == ALONE
    assert list(levels(audit_classifier(classifier, faces))) == [*NAMED, *ALONE]
    own = place.classifier()
    with_embeddings = [*NAMED, *ALONE, "teacher", "agreement", "label order"]
    assert list(levels(audit_classifier(own, embedded=place.embedded))) == with_embeddings
    with_teacher = levels(audit_classifier(classifier, faces, teacher=ColourEmbedder(), sample=20))
    assert list(with_teacher) == with_embeddings
    assert set(with_teacher.values()) == {"passed"}


def test_a_teacher_with_exchangeable_preprocessing_is_tried_under_others() -> None:
    faces = MemorySource(8, 4)

    def network(pixels: torch.Tensor) -> torch.Tensor:
        return torch.tanh(3 * pixels[:, 0]).flatten(1)

    right = Teacher(network, Preprocessing(size=7), 49, "right", "right")
    wrong = Teacher(network, Preprocessing(size=7, order="bgr"), 49, "wrong", "wrong")
    classifier = inherited(right, faces)
    passed = audit_classifier(classifier, faces, teacher=right)
    assert set(levels(passed).values()) == {"passed"}
    assert levels(passed)["preprocessing"] == "passed"
    failed = audit_classifier(classifier, faces, teacher=wrong)
    assert [finding.check for finding in failed.warnings] == ["teacher"]
    with pytest.raises(UserError, match="give the teacher as PATH:order=rgb"):
        failed.require()


def test_rows_in_a_projected_space() -> None:
    place = world(40, 32)
    basis = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).standard_normal((32, 24)))[0]).float()
    projected = InheritedClassifier(place.true @ basis, place.names, {}, basis)
    assert set(levels(audit_classifier(projected, embedded=place.embedded)).values()) == {"passed"}
    faces = MemorySource(8, 4)
    teacher = Teacher(lambda x: x.flatten(1), Preprocessing(size=7), 147, "t", "t")
    rows, onto = inherited(teacher, faces).rows, torch.eye(147)[:, :60]
    found = audit_classifier(InheritedClassifier(rows @ onto, faces.identities, {}, onto), faces, teacher=teacher)
    assert not found.failed


def test_another_teacher_is_refused_by_its_dimension_and_suspected_by_its_fingerprint() -> None:
    place = world(6, 16)
    shorter = place.classifier(world(6, 8).true)
    found = audit_classifier(shorter, embedded=place.embedded)
    assert levels(found)["teacher"] == "failed"
    assert "expected a teacher of dimension 8, from which the rows come, found one of 16" in found.failed[0].message
    assert "agreement" not in levels(found)
    other = InheritedClassifier(place.true, place.names, {"teacher_fingerprint": "abc"})
    assert [finding.level for finding in check_space(other, place.embedded)] == ["warning"]
    assert check_space(other, None) == []


def test_wrong_rows_stop_a_distillation_and_the_same_seed_says_the_same() -> None:
    place = world(60, 32)
    shifted = place.classifier(place.true.roll(2, 0))
    audit = audit_classifier(shifted, embedded=place.embedded, sample=50, seed=3)
    with pytest.raises(UserError, match=r"the audit failed: .*top-1 0.0%.*shifted by \+2"):
        audit.require()
    again = audit_classifier(shifted, embedded=place.embedded, sample=50, seed=3)
    assert audit.to_dict() == again.to_dict()


def test_meaningless_labels_are_the_only_word_on_agreement_and_order() -> None:
    place = world(100, 32, images=8)
    shuffled = np.random.default_rng(0).permutation(place.embedded.labels)
    found = audit_classifier(place.classifier(), embedded=dataclasses.replace(place.embedded, labels=shuffled))
    assert [finding.check for finding in found.failed] == ["agreement"]
    assert "label order" not in levels(found)


def test_the_threshold_for_duplicates_follows_the_data() -> None:
    easy, hard = (gather(world(60, 64, noise=noise, images=8).embedded) for noise in (0.2, 3.0))
    assert usual_similarity(easy) == 0.95
    assert usual_similarity(hard) == 0.8
    between = gather(world(60, 64, noise=0.7, images=8).embedded)
    assert 0.8 < usual_similarity(between) < 0.95
    nothing = dataclasses.replace(easy, counts=torch.ones_like(easy.counts))
    assert usual_similarity(nothing) == 0.95


def test_rows_whose_copies_memory_does_not_hold_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    place = world(60, 32, seed=3)
    classifier = place.classifier()
    assert audit.memory_needed(60, 32) == audit._SCRATCH + audit._COPIES * 4 * 32 * 60
    monkeypatch.setattr(audit, "SAMPLED", 20)
    monkeypatch.setattr(audit, "available_memory", lambda: 0)
    assert audit.memory_needed(60, 32) == audit._SCRATCH + audit._COPIES * 4 * 32 * 20
    found = audit_classifier(classifier, embedded=place.embedded)
    assert levels(found)["sample of rows"] == "passed"
    assert "20 of 60" in next(f.message for f in found.findings if f.check == "sample of rows")
    assert audit_classifier(classifier).to_dict() == audit_classifier(classifier).to_dict()
    doubled = InheritedClassifier(classifier.rows[[0] * 60], classifier.identities, {})
    assert levels(audit_classifier(doubled))["copies"] == "failed"
