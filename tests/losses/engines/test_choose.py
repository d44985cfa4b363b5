from __future__ import annotations

import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.choose import engine_for
from proxylesskd.losses.engines.chunked import Chunked
from proxylesskd.losses.engines.reference import Reference


def test_engines_by_name() -> None:
    unit, few, many = torch.zeros(8, 4), torch.zeros(10, 4), torch.zeros(600_000, 4)
    assert isinstance(engine_for("reference", unit, many), Reference)
    assert isinstance(engine_for("chunked", unit, few), Chunked)
    assert isinstance(engine_for("auto", unit, few), Reference)
    assert isinstance(engine_for("auto", unit, many), Chunked)
    assert type(engine_for("triton", unit, few)).__name__ == "Triton"
    # logits are counted, B times C: 4 times as many numbers in an embedding are not more of them
    assert isinstance(engine_for("auto", torch.zeros(1, 4), torch.zeros(1 << 18, 4)), Reference)
    assert isinstance(engine_for("auto", torch.zeros(2, 1), torch.zeros(1 << 18, 1)), Chunked)


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(UserError, match="did you mean 'triton'"):
        engine_for("trition", torch.zeros(1, 2), torch.zeros(3, 2))
