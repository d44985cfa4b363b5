from __future__ import annotations

import pytest
import torch
from torch import Tensor

from proxylesskd.classifier.padding import repeated_tail, without_padding
from proxylesskd.errors import UserError

C, D = 40, 128


def trained(seed: int = 0) -> Tensor:
    return torch.randn(C, D, generator=torch.Generator().manual_seed(seed))


def fresh(count: int, seed: int = 1) -> Tensor:
    return 0.01 * torch.randn(count, D, generator=torch.Generator().manual_seed(seed))


PADS = {
    "zeros": torch.zeros(3, D),
    "copies of the last centres": trained()[-3:],
    "copies of the very last": trained()[-1:].expand(3, D),
    "copies and zeros": torch.cat([trained()[-2:], torch.zeros(1, D)]),
    "never trained": fresh(3),
}


@pytest.mark.parametrize("name", PADS)
@pytest.mark.parametrize("shards", [1, 8])
def test_padding_comes_off(name: str, shards: int) -> None:
    kept, note = without_padding(torch.cat([trained(), PADS[name]]), C, shards)
    assert torch.equal(kept, trained())
    assert note is not None
    assert note.startswith("3 rows of padding")
    assert ("never trained" in note) == (name == "never trained")


@pytest.mark.parametrize("name", [name for name in PADS if name != "never trained"])
def test_padding_is_not_guessed_at(name: str) -> None:
    with pytest.raises(UserError, match=r"found the last 3 of them zero or copies.*--data or --count"):
        without_padding(torch.cat([trained(), PADS[name]]), None)


def test_nothing_comes_off_what_fits() -> None:
    for count in (C, None):
        kept, note = without_padding(trained(), count)
        assert torch.equal(kept, trained())
        assert note is None
    # Copies in the middle are the audit's business.
    twice = trained()
    twice[3] = twice[5]
    assert repeated_tail(twice) == 0
    assert without_padding(twice, None)[1] is None


@pytest.mark.parametrize("seed", range(20))
def test_fresh_rows_are_told_from_trained_ones(seed: int) -> None:
    for std in (0.03, 0.1, 1.0):
        rows = torch.cat([std * trained(seed), fresh(5, 100 + seed)])
        assert torch.equal(without_padding(rows, C)[0], std * trained(seed))


@pytest.mark.parametrize(
    ("tail", "shards"),
    [
        (trained(5)[:3], 1),  # trained rows
        (0.3 * trained(5)[:3], 1),  # short but trained
        (fresh(3), 2),  # more fresh rows than two GPUs can leave
        (torch.cat([fresh(2), trained(5)[:1]]), 8),
        (torch.cat([torch.zeros(2, D), trained(5)[:1]]), 8),
    ],
)
def test_other_rows_are_refused(tail: Tensor, shards: int) -> None:
    with pytest.raises(UserError, match="each of 40 identities, found 43 rows; either its last rows are no padding"):
        without_padding(torch.cat([trained(), tail]), C, shards)


def test_fresh_rows_among_equals_are_no_padding() -> None:
    with pytest.raises(UserError, match="found 43 rows"):
        without_padding(torch.cat([fresh(C, 7), fresh(3)]), C)


def test_both_numbers_are_named() -> None:
    with pytest.raises(UserError, match=r"93,431 identities, found 91,180 rows; either a shard is missing"):
        without_padding(torch.ones(91_180, 1), 93_431)
