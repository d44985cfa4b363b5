from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.models.reservoir import Reservoir


@pytest.mark.parametrize("density", [1.0, 0.2])
def test_the_spectral_radius_is_exact(density: float) -> None:
    built = Reservoir(60, 4, radius=0.9, density=density, seed=3)
    eigenvalues = np.linalg.eigvals(built.recurrent.numpy().astype(np.float64))
    assert abs(np.abs(eigenvalues).max() - 0.9) < 1e-6
    held = np.count_nonzero(built.recurrent.numpy()) / 3600
    assert abs(held - density) < 0.03
    assert float(built.arriving.abs().max()) <= 0.5


def test_states_are_those_of_the_equation() -> None:
    built = Reservoir(8, 3, leaks=(1.0, 0.25), seed=0)
    tokens = torch.randn(2, 5, 3)
    for b in range(2):
        state = [0.0] * 8
        for t in range(5):
            before = list(state)
            for i in range(8):
                total = sum(float(built.recurrent[i, j]) * before[j] for j in range(8))
                total += sum(float(built.arriving[i, k]) * float(tokens[b, t, k]) for k in range(3))
                leak = 1.0 if i < 4 else 0.25
                state[i] = (1 - leak) * before[i] + leak * np.tanh(total)
        assert np.allclose(built(tokens)[b].numpy(), state, atol=1e-6)


def test_states_are_those_of_reservoirpy() -> None:
    nodes = pytest.importorskip("reservoirpy.nodes", reason="reservoirpy is not installed")
    built = Reservoir(20, 3, leaks=(0.3,), density=0.5, seed=1)
    tokens = np.random.default_rng(0).normal(size=(7, 3))
    node = nodes.Reservoir(
        lr=0.3, W=built.recurrent.numpy().astype(float), Win=built.arriving.numpy().astype(float), bias=np.zeros(20)
    )
    theirs = np.asarray(node.run(tokens))[-1]
    ours = built(torch.from_numpy(tokens).float()[None])[0]
    assert np.allclose(ours.numpy(), theirs, atol=1e-5)


def test_nothing_of_it_is_trained() -> None:
    built = Reservoir(10, 2)
    assert not list(built.parameters())
    assert set(built.state_dict()) == {"recurrent", "arriving", "leak"}
    assert not Reservoir(10, 2, seed=None).recurrent.any()


@pytest.mark.parametrize(
    "wrong", [{"density": 1e-9}, {"radius": 0.0}, {"scale": 0.0}, {"leaks": (0.0,)}, {"leaks": ()}, {"leaks": (1.5,)}]
)
def test_what_cannot_echo_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="expected"):
        Reservoir(10, 2, **wrong)  # type: ignore[arg-type]
