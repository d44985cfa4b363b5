from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from proxylesskd.classifier.ridge import fit_layer, ridge
from proxylesskd.errors import UserError


def data() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    features = random.normal(size=(40, 6)) + 3.0
    return torch.from_numpy(features).float(), torch.from_numpy(random.integers(0, 3, 40))


def test_ridge_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    features, labels = data()
    targets = torch.eye(3)[labels]
    weights, offset = ridge(features, targets, 2.5)
    theirs = linear.Ridge(alpha=2.5).fit(features.numpy().astype(float), targets.numpy())
    assert np.allclose(weights.numpy(), theirs.coef_, atol=1e-5)
    assert np.allclose(offset.numpy(), theirs.intercept_, atol=1e-5)


def test_ridge_is_that_of_reservoirpy() -> None:
    nodes = pytest.importorskip("reservoirpy.nodes", reason="reservoirpy is not installed")
    features, labels = data()
    targets = torch.eye(3)[labels]
    theirs = nodes.Ridge(ridge=2.5).fit(features.numpy().astype(float), targets.numpy().astype(float))
    weights, offset = ridge(features, targets, 2.5)
    assert np.allclose(weights.numpy(), np.asarray(theirs.Wout).T, atol=1e-5)
    assert np.allclose(offset.numpy(), np.ravel(theirs.bias), atol=1e-5)


def test_a_layer_takes_the_readout() -> None:
    features, labels = data()
    layer = nn.Linear(6, 3)
    fit_layer(layer, features, labels, 1.0)
    weights, offset = ridge(features, torch.eye(3)[labels], 1.0)
    assert torch.allclose(layer(features), features @ weights.T + offset, atol=1e-6)
    with pytest.raises(UserError, match="ridge above 0"):
        ridge(features, features, 0.0)
