"""What a checkpoint remembers, and which checkpoints do not fit."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from proxylesskd.errors import UserError
from proxylesskd.training.optimiser import make_optimiser
from proxylesskd.training.state import Meter, TrainState, capture, restore
from tests.training.pieces import LeastSquares, convolutional, linear


def _state(method: LeastSquares, device: str = "cpu") -> TrainState:
    method.student.to(device)
    named = list(method.trainable())
    return TrainState(method, make_optimiser(named, lr=0.1), [p for _, p in named], torch.device(device))


def _through_a_file(payload: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(payload, file)
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _advance(state: TrainState) -> None:
    for parameter in state.parameters:
        parameter.grad = torch.randn_like(parameter)
    state.optimiser.step()
    state.step += 1


def test_everything_comes_back() -> None:
    state = _state(convolutional())
    for _ in range(3):
        _advance(state)
    state.method.count += 7
    state.skipped, state.skipped_in_a_row, state.seconds = 4, 2, 12.5
    state.meter.add({"loss": 0.1})
    state.meter.images = 32
    payload = _through_a_file(capture(state, {"seed": "1"}))
    _advance(state)

    other = _state(convolutional())
    torch.randn(99)  # the random numbers go on from where the checkpoint was written
    restore(other, payload)
    assert (other.step, other.skipped, other.skipped_in_a_row, other.seconds) == (3, 4, 2, 12.5)
    assert other.meter == Meter({"loss": 0.1}, {"loss": 1}, 32, 0.0)
    assert other.method.count == 7
    assert payload["settings"] == {"seed": "1"}
    _advance(other)
    for a, b in zip(state.parameters, other.parameters, strict=True):
        assert torch.equal(a, b)


def test_meter_by_hand() -> None:
    meter = Meter()
    assert meter.means() == {}
    assert meter.rate() == 0.0
    meter.add({"loss": 1.0, "a": 4.0})
    meter.add({"loss": 2.0, "a": 0.0})
    meter.images, meter.busy = 30, 1.5
    assert meter.means() == {"loss": 1.5, "a": 2.0}
    assert meter.rate() == 20.0


def test_each_process_gets_its_own_random_numbers_back_and_a_new_one_keeps_its_own() -> None:
    payload = capture(_state(linear()), {})
    torch.manual_seed(5)
    payload["random"].append({"cpu": torch.get_rng_state()})
    drawn = {}
    for rank in (0, 1, 2):
        state = _state(linear())
        state.rank = rank
        torch.manual_seed(100 + rank)
        own = torch.rand(())
        torch.manual_seed(100 + rank)
        restore(state, payload)
        drawn[rank] = (torch.rand(()), own)
    assert drawn[1][0] == torch.rand((), generator=torch.Generator().manual_seed(5))
    assert drawn[2][0] == drawn[2][1]
    assert len({float(found) for found, _ in drawn.values()}) == 3


@pytest.mark.parametrize("wrong", ["network", "optimiser", "missing", "method"])
def test_what_does_not_fit_is_refused_in_one_line(wrong: Any) -> None:
    payload = capture(_state(linear()), {})
    other = _state(convolutional() if wrong == "network" else linear())
    if wrong == "optimiser":
        payload["optimiser"]["param_groups"].pop()
    if wrong == "missing":
        payload.pop("random")
    if wrong == "method":
        payload["method"] = {}
    with pytest.raises(UserError, match="does not fit this student and method") as caught:
        restore(other, payload)
    assert "\n" not in str(caught.value)


def test_a_method_may_refuse_a_checkpoint_in_its_own_words() -> None:
    state = _state(linear())

    def refuse(_: object) -> None:
        raise UserError("another classifier")

    payload = capture(state, {})
    state.method.load_state_dict = refuse
    with pytest.raises(UserError, match=r"^another classifier$"):
        restore(state, payload)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_random_numbers_of_the_device_come_back() -> None:
    state = _state(linear(), "cuda")
    payload = _through_a_file(capture(state, {}))
    expected = torch.rand(4, device="cuda")
    restore(state, payload)
    assert torch.equal(torch.rand(4, device="cuda"), expected)
    assert isinstance(state.method.student[1], nn.Linear)


def test_a_scalar_that_is_told_now_and_then_is_averaged_over_its_own_steps() -> None:
    meter = Meter()
    for values in ({"loss": 1.0, "gap": 0.5}, {"loss": 2.0}, {"loss": 6.0, "gap": 0.1}):
        meter.add(values)
    assert meter.means() == pytest.approx({"loss": 3.0, "gap": 0.3})
