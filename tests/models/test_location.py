from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.errors import UserError
from proxylesskd.models.location import split_location


def test_options_ride_on_the_path() -> None:
    assert split_location("a/t.onnx:mean=127,std=128.5,order=bgr,dim=512") == (
        Path("a/t.onnx"),
        {"mean": 127.0, "std": 128.5, "order": "bgr", "dim": 512},
    )


def test_a_factory_of_ones_own_has_a_colon() -> None:
    expected = (Path("C:\\run"), {"architecture": "my.net:make", "dim": 8})
    assert split_location("C:\\run:architecture=my.net:make,dim=8") == expected


@pytest.mark.parametrize("plain", ["a/t.onnx", "C:\\models\\t.onnx", "odd:name", Path("t.onnx:mean=1")])
def test_plain_paths_stay(plain: str | Path) -> None:
    assert split_location(plain) == (Path(plain), {})


@pytest.mark.parametrize(("location", "message"), [("t:men=1", "did you mean 'mean'"), ("t:dim=big", "expected int")])
def test_mistakes_are_named(location: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_location(location)
