from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from proxylesskd.audit import images as module
from proxylesskd.audit import leave_one_out, one_or_two
from proxylesskd.audit.images import find_suspects
from proxylesskd.audit.suspects import Suspects
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.errors import UserError
from tests.audit.worlds import World, unit, world

Matrix = npt.NDArray[np.float64]


def people(seed: int = 0, count: int = 60) -> World:
    """Well-separated people of 2 to 12 images each."""
    return world(count, 64, noise=0.8, images=12, seed=seed)


def merge_views(embedded: EmbeddedSource) -> Matrix:
    return unit(unit(embedded.views.astype(np.float64)).sum(axis=1))


def suspects_of(embedded: EmbeddedSource) -> Suspects:
    """The rows are those of strangers: they must play no part."""
    rows = torch.from_numpy(np.random.default_rng(99).standard_normal((len(embedded.identities), embedded.dim)))
    return find_suspects(InheritedClassifier(rows, list(embedded.identities), {}), embedded)


def relabel(embedded: EmbeddedSource, moves: dict[int, int]) -> EmbeddedSource:
    labels = embedded.labels.copy()
    for image, label in moves.items():
        labels[image] = label
    return replace(embedded, labels=labels)


def look_like(embedded: EmbeddedSource, images: list[int], direction: Matrix, noise: float, seed: int) -> None:
    """Let images show somebody else."""
    random = np.random.default_rng(seed)
    shape = (len(images), 1, embedded.dim)
    looks = direction + noise / np.sqrt(embedded.dim) * random.standard_normal(shape)
    embedded.views[images] = unit(np.repeat(looks, 2, axis=1))


def large(embedded: EmbeddedSource, least: int) -> list[int]:
    counts = np.bincount(embedded.labels)
    return [int(label) for label in np.flatnonzero(counts >= least)]


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_world_is_not_suspected(seed: int) -> None:
    found = suspects_of(people(seed).embedded)
    assert len(found.mislabelled) <= 1  # the tail of the noise
    assert (list(found.merged), list(found.split)) == ([], [])
    assert len(found.inconsistent) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_moved_images_are_found_and_their_true_identity_named(seed: int) -> None:
    embedded = people(seed, count=100).embedded
    random = np.random.default_rng(seed)
    moved = random.choice(np.flatnonzero(np.isin(embedded.labels, large(embedded, 4))), 15, replace=False).tolist()
    moves = {image: int(embedded.labels[image] + 1 + random.integers(98)) % 100 for image in moved}
    found = suspects_of(relabel(embedded, moves))
    suspected = {one.image: one for one in found.mislabelled}
    hits = [suspected[image] for image in moved if image in suspected]
    assert len(hits) >= 13
    assert len(suspected) - len(hits) <= 2
    assert sum(one.other == f"p{embedded.labels[one.image]}" for one in hits) >= 12
    assert sum(one.belongs for one in hits) >= 8  # a quarter of the images of anybody is not similar enough to say so
    assert all(one.identity == f"p{moves[one.image]}" for one in hits)


def test_the_cosines_are_those_of_centres_without_the_image_and_without_suspects() -> None:
    embedded = people(3).embedded
    label = large(embedded, 6)[0]
    target = large(embedded, 6)[1]
    moved = np.flatnonzero(embedded.labels == target)[:2].tolist()
    wrong = relabel(embedded, dict.fromkeys(moved, label))
    found = suspects_of(wrong)
    doubted = {one.image for one in found.mislabelled}
    assert set(moved) <= doubted
    views = merge_views(wrong)
    for one in found.mislabelled:
        cosines = {}
        for identity, name in enumerate(wrong.identities):
            others = [i for i in np.flatnonzero(wrong.labels == identity) if i not in doubted]
            cosines[name] = float(unit(views[others].sum(axis=0)) @ views[one.image])
        assert one.own == pytest.approx(cosines.pop(one.identity), abs=1e-5)
        best = max(cosines, key=lambda name: cosines[name])
        assert (one.other, one.similarity) == (best, pytest.approx(cosines[best], abs=1e-5))


def test_the_levels_are_quantiles_of_the_data() -> None:
    embedded = people(4).embedded
    found = suspects_of(embedded)
    assert not found.mislabelled
    views = merge_views(embedded)
    own, strangers, nearest = [], [], []
    for image, label in enumerate(embedded.labels):
        cosines = []
        for identity in range(len(embedded.identities)):
            rest = [i for i in np.flatnonzero(embedded.labels == identity) if i != image]
            (own if identity == label else cosines).append(float(unit(views[rest].sum(axis=0)) @ views[image]))
        strangers += cosines
        nearest.append(max(cosines))
    levels = found.levels
    assert levels.stranger == pytest.approx(np.quantile(strangers, 0.9), abs=2e-3)
    assert levels.lookalike == pytest.approx(np.quantile(strangers, 0.999), abs=1e-2)
    assert levels.member == pytest.approx(max(np.quantile(own, 0.25), levels.lookalike), abs=1e-5)
    assert sum(levels.own) == len(own)
    assert sum(levels.nearest) == len(nearest)
    middle = (np.array(levels.edges[:-1]) + np.array(levels.edges[1:])) / 2
    assert np.average(middle, weights=levels.nearest) == pytest.approx(np.mean(nearest), abs=0.02)


def test_a_stray_belongs_to_nobody() -> None:
    embedded = people(5).embedded
    label = large(embedded, 5)[0]
    stray = int(np.flatnonzero(embedded.labels == label)[0])
    center = merge_views(embedded)[embedded.labels == label].sum(axis=0)
    direction = np.random.default_rng(0).standard_normal(embedded.dim)
    direction -= (direction @ unit(center)) * unit(center)
    look_like(embedded, [stray], unit(direction), 0.1, 1)
    found = [one for one in suspects_of(embedded).mislabelled if one.image == stray]
    assert len(found) == 1
    assert not found[0].belongs
    assert found[0].own < 0.2


def test_two_people_under_one_name_are_one_finding_not_many() -> None:
    embedded = people(6).embedded
    label = large(embedded, 7)[0]
    images = np.flatnonzero(embedded.labels == label).tolist()
    center = merge_views(embedded)[images].sum(axis=0)
    direction = np.random.default_rng(2).standard_normal(embedded.dim)
    direction -= (direction @ unit(center)) * unit(center)
    look_like(embedded, images[:3], unit(direction), 0.5, 3)
    found = suspects_of(embedded)
    assert [one.identity for one in found.merged] == [f"p{label}"]
    merged = found.merged[0]
    assert merged.sizes == (len(images) - 3, 3)
    assert set(merged.second) == set(images[:3])
    assert set(merged.first) <= set(images[3:])
    views = merge_views(embedded)
    expected = unit(views[images[:3]].sum(axis=0)) @ unit(views[images[3:]].sum(axis=0))
    assert merged.similarity == pytest.approx(expected, abs=1e-5)
    assert not {one.image for one in found.mislabelled} & set(images)


def test_one_person_under_two_names_is_a_pair_and_its_images_are_rightly_labelled() -> None:
    embedded = people(7).embedded
    label = large(embedded, 9)[0]
    images = np.flatnonzero(embedded.labels == label)
    parted = replace(
        relabel(embedded, dict.fromkeys(images[:4].tolist(), 60)), identities=[*embedded.identities, "again"]
    )
    found = suspects_of(parted)
    assert [(one.first, one.second) for one in found.split] == [(f"p{label}", "again")]
    views = merge_views(parted)
    expected = unit(views[images[:4]].sum(axis=0)) @ unit(views[images[4:]].sum(axis=0))
    assert found.split[0].similarity == pytest.approx(expected, abs=1e-5)
    assert found.split[0].similarity > found.split[0].level > found.levels.lookalike
    assert not {one.image for one in found.mislabelled} & set(images.tolist())


def test_the_side_with_more_images_comes_first() -> None:
    embedded = people(7).embedded
    label = large(embedded, 9)[0]
    images = np.flatnonzero(embedded.labels == label)
    parted = replace(
        relabel(embedded, dict.fromkeys(images[2:].tolist(), 60)), identities=[*embedded.identities, "again"]
    )
    assert [(one.first, one.second) for one in suspects_of(parted).split] == [("again", f"p{label}")]


def test_two_images_that_disagree_are_one_inconsistent_identity() -> None:
    embedded = people(8).embedded
    label = next(int(k) for k in np.flatnonzero(np.bincount(embedded.labels) == 2))
    images = np.flatnonzero(embedded.labels == label).tolist()
    first = merge_views(embedded)[images[0]]
    direction = np.random.default_rng(5).standard_normal(embedded.dim)
    look_like(embedded, images[1:], unit(direction - (direction @ first) * first), 0.0, 6)
    found = suspects_of(embedded)
    assert [(one.identity, one.images) for one in found.inconsistent] == [(f"p{label}", tuple(images))]
    views = merge_views(embedded)
    assert found.inconsistent[0].similarity == pytest.approx(views[images[0]] @ views[images[1]], abs=1e-5)
    assert not {one.image for one in found.mislabelled} & set(images)


def test_an_identity_with_a_row_and_no_images_can_be_the_nearest() -> None:
    known = people(9)
    embedded = known.embedded
    absent = large(embedded, 6)[0]
    host = large(embedded, 6)[1]
    images = np.flatnonzero(embedded.labels == absent)
    stays, gone = int(images[0]), images[1:]
    labels = embedded.labels.copy()
    labels[stays], labels[gone] = host, -1
    names = [name for name in embedded.identities if name != f"p{absent}"]
    numbers = np.array([names.index(n) if n in names else -1 for n in embedded.identities])
    fewer = replace(embedded, labels=np.where(labels >= 0, numbers[labels], -1), identities=names)
    found = {one.image: one for one in find_suspects(known.classifier(known.true), fewer).mislabelled}
    assert (found[stays].other, found[stays].belongs) == (f"p{absent}", True)
    expected = float(merge_views(embedded)[stays] @ known.true[absent].double().numpy())
    assert found[stays].similarity == pytest.approx(expected, abs=1e-5)


def test_unreadable_images_and_single_ones_are_not_judged() -> None:
    embedded = people(10).embedded
    label = large(embedded, 5)[0]
    images = np.flatnonzero(embedded.labels == label)
    broken = relabel(embedded, dict.fromkeys(images[1:].tolist(), -1))
    broken.views[images[1:]] = 0
    found = suspects_of(broken)
    assert found.images == len(embedded) - len(images) + 1
    assert found.identities == 60
    judged = {one.image for one in found.mislabelled} | {i for one in found.inconsistent for i in one.images}
    assert not judged & set(images.tolist())


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = people(11).embedded
    target, host = large(embedded, 6)[:2]
    wrong = relabel(embedded, {int(np.flatnonzero(embedded.labels == target)[0]): host})
    whole = suspects_of(wrong)
    for one in (module, leave_one_out, one_or_two):
        monkeypatch.setattr(one, "COLUMNS", 7)
    for one in (leave_one_out, one_or_two):
        monkeypatch.setattr(one, "ROWS", 5)
    parts = suspects_of(wrong)
    assert [one.image for one in parts.mislabelled] == [one.image for one in whole.mislabelled]
    assert [(one.first, one.second) for one in parts.split] == [(one.first, one.second) for one in whole.split]
    assert parts.levels.lookalike == pytest.approx(whole.levels.lookalike, abs=1e-3)
    assert parts.levels.nearest == whole.levels.nearest


def test_projected_rows_are_met_in_their_space() -> None:
    known = people(12)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 48)))[0]
    projection = torch.from_numpy(basis).float()
    target, host = large(known.embedded, 6)[:2]
    moved = int(np.flatnonzero(known.embedded.labels == target)[0])
    wrong = relabel(known.embedded, {moved: host})
    classifier = InheritedClassifier(known.true @ projection, known.names, {}, projection)
    projected = replace(wrong, views=merge_views(wrong)[:, None] @ basis)
    by_hand = find_suspects(InheritedClassifier(known.true @ projection, known.names, {}), projected)
    found = find_suspects(classifier, wrong)
    assert moved in {one.image for one in found.mislabelled}
    assert [one.image for one in found.mislabelled] == [one.image for one in by_hand.mislabelled]
    assert [one.own for one in found.mislabelled] == pytest.approx([one.own for one in by_hand.mislabelled], abs=1e-5)


def test_embeddings_of_another_teacher_are_refused() -> None:
    known = people(0)
    with pytest.raises(UserError, match=r"dimension 8, that of the classifier's teacher, found 64 from 'world'"):
        find_suspects(InheritedClassifier(torch.eye(8), [str(k) for k in range(8)], {}), known.embedded)


def test_nothing_readable_is_refused() -> None:
    known = people(0)
    blank = replace(known.embedded, labels=np.full(len(known.embedded), -1))
    with pytest.raises(UserError, match=r"readable images to judge, found none among \d+"):
        find_suspects(known.classifier(), blank)


def test_the_source_is_not_changed_and_twice_gives_the_same() -> None:
    embedded = people(13).embedded
    views, labels = embedded.views.copy(), embedded.labels.copy()
    assert suspects_of(embedded) == suspects_of(embedded)
    assert (embedded.views == views).all()
    assert (embedded.labels == labels).all()
