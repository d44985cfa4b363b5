from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.audit import leave_one_out
from proxylesskd.audit.leave_one_out import centres, nearest_others, own_similarities, space_of
from tests.audit.worlds import unit, world


def test_no_image_vouches_for_itself() -> None:
    known = world(12, 16, images=5, seed=1)
    embedded = known.embedded
    inside = np.random.default_rng(0).random(len(embedded)) < 0.7
    space = space_of(known.classifier(), embedded)
    own = own_similarities(space, centres(space, inside))
    views = unit(unit(embedded.views.astype(np.float64)).sum(axis=1))
    for image, label in enumerate(embedded.labels):
        rest = [i for i in np.flatnonzero((embedded.labels == label) & inside) if i != image]
        if rest:
            assert own[image] == pytest.approx(unit(views[rest].sum(axis=0)) @ views[image], abs=1e-6)
        else:
            assert np.isnan(own[image])
    assert np.isnan(own).any()


def test_the_nearest_other_is_never_the_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leave_one_out, "COLUMNS", 5)
    monkeypatch.setattr(leave_one_out, "ROWS", 4)
    known = world(12, 16, images=5, seed=1)
    embedded = known.embedded
    space = space_of(known.classifier(), embedded)
    wanted = np.arange(1, len(embedded), 3)
    where, which, cosine = nearest_others(space.at(wanted), known.centres())
    views = unit(unit(embedded.views.astype(np.float64)).sum(axis=1))
    assert where.tolist() == wanted.tolist()
    for image, other, value in zip(where, which, cosine, strict=True):
        all_of_them = known.centres().double().numpy() @ views[image]
        all_of_them[embedded.labels[image]] = -2
        assert other == all_of_them.argmax()
        assert value == pytest.approx(all_of_them.max(), abs=1e-6)


def test_no_images_have_no_nearest() -> None:
    where, which, cosine = nearest_others([], torch.eye(3))
    assert (len(where), len(which), len(cosine)) == (0, 0, 0)
