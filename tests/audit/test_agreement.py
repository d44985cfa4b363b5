from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from proxylesskd.audit.agreement import check_agreement, top_one
from proxylesskd.audit.evidence import gather
from proxylesskd.audit.finding import Finding
from tests.audit.worlds import World, unit, world


def judge(place: World, rows: torch.Tensor, **replaced: object) -> Finding:
    evidence = gather(dataclasses.replace(place.embedded, **replaced))  # type: ignore[arg-type]
    return check_agreement(top_one(evidence, rows, torch.arange(len(rows))), evidence)


def test_top_one_and_its_reference_against_loops() -> None:
    place = world(9, 8, noise=2.0, images=4)
    labels = place.embedded.labels.copy()
    labels[np.flatnonzero(labels == 0)[1:]] = -1  # one image left
    single = unit(place.embedded.views.astype(np.float64).sum(axis=1))
    current = torch.tensor([3, 0, 1, 2, 4, 5, 6, 8, -1])
    tried = top_one(gather(dataclasses.replace(place.embedded, labels=labels)), place.true, current)
    hits, reference = [], []
    for image in range(len(labels)):
        own = labels[image]
        if own < 0 or own == 8:
            continue
        cosines = [float(single[image] @ place.true[int(current[other])].numpy()) for other in range(8)]
        hits.append(int(np.argmax(cosines)) == own)
        if own == 0:
            continue
        looks = [(labels == other) & (np.arange(len(labels)) != image) for other in range(8)]
        centres = [unit(single[look].sum(axis=0)) for look in looks]
        reference.append(int(np.argmax([single[image] @ centre for centre in centres])) == own)
    assert tried.hits.tolist() == hits
    assert tried.reference.tolist() == reference
    assert tried.candidates == 8
    assert 0 < sum(hits) < len(hits)


def test_clean_rows_agree_and_the_worst_identities_are_listed() -> None:
    place = world(30, 32, noise=2.0)
    found = judge(place, place.true)
    assert found.level == "passed"
    single = unit(place.embedded.views.astype(np.float64).sum(axis=1))
    wrong = (single @ place.true.numpy().T).argmax(axis=1) != place.embedded.labels
    missed = np.bincount(place.embedded.labels[wrong], minlength=30)
    worst = found.details["worst"]
    assert [entry["images"] - entry["right"] for entry in worst] == sorted(missed[missed > 0], reverse=True)[:20]
    assert found.details["top1"] == pytest.approx(1 - wrong.mean(), abs=1e-4)


def test_rows_of_others_fail_and_the_chance_level_is_said() -> None:
    place = world(50, 32)
    found = judge(place, world(50, 32, seed=9).true)
    assert found.level == "failed"
    assert "(chance 2.00%)" in found.message
    assert found.details["reference"] > 0.9


def test_a_third_of_the_rows_wrong_is_a_warning() -> None:
    place = world(60, 32)
    rows = torch.cat([place.true[:38], place.true[38:].roll(1, 0)])
    assert judge(place, rows).level == "warning"


def test_labels_shuffled_against_images_are_told_from_wrong_rows() -> None:
    place = world(100, 32, images=8)
    shuffled = np.random.default_rng(0).permutation(place.embedded.labels)
    wrong = World(place.true, dataclasses.replace(place.embedded, labels=shuffled))
    for rows in (place.true, wrong.centres()):
        found = judge(wrong, rows)
        assert found.level == "failed"
        assert "labels are shuffled against images" in found.message


def test_nothing_to_try_is_said() -> None:
    place = world(4, 8)
    evidence = gather(place.embedded)
    found = check_agreement(top_one(evidence, place.true, torch.full((4,), -1)), evidence)
    assert found.level == "warning"
    assert "found 0 of these" in found.message


def test_single_images_leave_only_a_modest_claim() -> None:
    place = world(80, 32)
    first = np.unique(place.embedded.labels, return_index=True)[1]
    labels = np.full_like(place.embedded.labels, -1)
    labels[first] = place.embedded.labels[first]
    assert judge(place, place.true, labels=labels).level == "passed"
    found = judge(place, place.true.roll(1, 0), labels=labels)
    assert found.level == "failed"
    assert "unknown: nobody has two images" in found.message
