from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from proxylesskd.classifier import names as room
from proxylesskd.classifier.names import Names, json_of, names_from, twice
from proxylesskd.errors import UserError

ODD = ["a", "", "ç", "Jürgen", "日本", "a b\nc", "\udcff", "😀"]


def test_names_come_back_one_by_one_in_slices_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_BLOCK", 3)
    packed = Names.pack(ODD)
    assert [packed[i] for i in range(-len(ODD), len(ODD))] == ODD + ODD
    assert list(packed) == ODD
    assert packed[2:6] == ODD[2:6]
    assert packed[5:2] == ODD[5:2]
    assert packed[::-2] == ODD[::-2]
    assert packed == ODD
    assert packed != ODD[:-1]
    assert packed != [*ODD[:-1], "x"]
    assert packed != "text"
    assert len(packed) == len(ODD)
    assert "8" in repr(packed)
    assert Names.pack(packed) is packed
    with pytest.raises(IndexError):
        packed[len(ODD)]
    assert list(Names.pack([])) == []


def test_few_names_become_a_list_and_many_stay_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Names.pack(ODD)
    assert names_from(packed.text, packed.ends) == ODD
    assert isinstance(names_from(packed.text, packed.ends), list)
    monkeypatch.setattr(room, "FEW", 3)
    assert isinstance(names_from(packed.text, packed.ends), Names)
    old = torch.frombuffer(bytearray(json.dumps(ODD).encode()), dtype=torch.uint8)
    assert names_from(old, None) == ODD


@pytest.mark.parametrize(
    ("ends", "dtype"),
    [([1, 3, 2, 4], torch.int64), ([-1, 2, 3, 4], torch.int64), ([1, 2], torch.int64), ([1, 2, 3, 4], torch.int32)],
)
def test_ends_that_do_not_cut_the_text_are_refused(ends: list[int], dtype: torch.dtype) -> None:
    with pytest.raises(UserError, match="do not fit"):
        Names(torch.zeros(4, dtype=torch.uint8), torch.tensor(ends, dtype=dtype))


@pytest.mark.parametrize("text", [b"[1, 2]", b"{}", b"[", b'"a"', b"\xff"])
def test_lists_that_hold_no_names_are_refused(text: bytes) -> None:
    with pytest.raises(UserError, match="names"):
        names_from(torch.frombuffer(bytearray(text), dtype=torch.uint8), None)


def test_bytes_that_are_no_text_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text, ends = torch.tensor([0xFF, 0x41], dtype=torch.uint8), torch.tensor([1, 2])
    with pytest.raises(UserError, match="UTF-8"):
        names_from(text, ends)
    monkeypatch.setattr(room, "FEW", 0)
    with pytest.raises(UserError, match="UTF-8"):
        twice(names_from(text, ends))


def test_a_repeated_name_is_found_among_many() -> None:
    names = [str(number) for number in range(5000)]
    random.Random(0).shuffle(names)
    assert twice(names) is None
    assert twice([*names, "4711"]) == "4711"
    assert twice(Names.pack([*names, "17", "17", "17"])) == "17"
    assert twice([]) is None


def test_names_whose_hashes_collide_are_not_taken_for_equal() -> None:
    class Same(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 1

    assert twice([Same("a"), Same("b"), Same("c")]) is None
    assert twice([Same("a"), Same("b"), Same("a")]) == "a"


def test_pieces_of_json_make_the_json_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_BLOCK", 3)
    for names in (ODD, ODD[:1], [], ODD[:6]):
        assert b"".join(json_of(Names.pack(names))) == json.dumps(names).encode()


def test_packing_takes_bytes_and_not_objects() -> None:
    packed = Names.pack([str(number) for number in range(1000)])
    assert packed.text.nbytes == sum(len(str(number)) for number in range(1000))
    assert packed.ends.nbytes == 8 * 1000
    assert np.array_equal(np.diff(packed.ends.numpy(), prepend=0), [len(str(n)) for n in range(1000)])
