"""Hostile ``.bin`` files: nothing in them runs, whatever they hold ends in a clear refusal."""

from __future__ import annotations

import codecs
import io
import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from proxylesskd.data import bin_pickle
from proxylesskd.data.bin_pickle import read_bin
from proxylesskd.data.pairs import read_pairs
from proxylesskd.errors import UserError

IMAGES = [b"\x80one", b"two\xff", b"\x80one", b"", b"five" * 100, bytes(range(256))]
SAME = [True, False, True]


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def saved(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "set.bin").write_bytes(data)
    return tmp_path / "set.bin"


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_pairs(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


class Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.args


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["whole", "image", "flag", "beside"])
def test_a_call_is_refused_and_not_made(tmp_path: Path, protocol: int, place: str) -> None:
    witness = tmp_path / "executed"
    call = Call(os.system, f"touch {witness}")
    content: Any = {
        "whole": call,
        "image": ([call, png(1)], [True]),
        "flag": ([png(0), png(1)], [call]),
        "beside": ([png(0), png(1)], [True], call),
    }[place]
    path = saved(tmp_path, pickle.dumps(content, protocol=protocol))
    assert_refused(path, r"found a call to \w+\.system; nothing of it was executed")
    assert not witness.exists()
    pickle.loads(path.read_bytes())
    assert witness.exists(), "the file was harmless: the test would prove nothing"


@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (eval, ("1",), "builtins.eval|__builtin__.eval"),
        (exec, ("1",), "builtins.exec|__builtin__.exec"),
        (getattr, ("a", "b"), "builtins.getattr|__builtin__.getattr"),
        (np.load, ("x.npy",), r"numpy\.load"),
        (np.frombuffer, (b"a",), r"numpy.*frombuffer"),
        (codecs.lookup, ("rot13",), r"_codecs\.lookup"),
        (codecs.encode, ("text", "rot13"), "text in an unusual encoding"),
        (codecs.encode, (b"text", "latin1"), "text in an unusual encoding"),
        (bytes, (10**12,), "a damaged pickle|unusual encoding"),
        (bytearray, (10**12,), "a damaged pickle|unusual encoding"),
        (np.dtype, ("O",), "a numpy array of type 'O'"),
        (np.dtype, ("f8",), "a numpy array of type 'f8'"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_other_calls_are_refused(
    tmp_path: Path, function: Callable[..., Any], args: tuple[Any, ...], name: str, protocol: int
) -> None:
    data = pickle.dumps(([Call(function, *args), b"x"], [True]), protocol=protocol)
    assert_refused(saved(tmp_path, data), name)


HAND_MADE = {
    "instance of protocol 0": (b"(S'touch x'\nios\nsystem\n.", r"found a call to os\.system"),
    "object of protocol 1": (b"(cos\nsystem\nS'x'\no.", r"found a call to os\.system"),
    "new object": (b"\x80\x02cbuiltins\nbytes\n)\x81.", "the instruction NEWOBJ"),
    "extension": (b"\x80\x02\x82\x01.", "the instruction EXT1"),
    "persistent name": (b"Pname\n.", "the instruction PERSID"),
    "persistent object": (b"\x80\x02NQ.", "the instruction BINPERSID"),
    "dictionary": (b"\x80\x02}.", "the instruction EMPTY_DICT"),
    "out-of-band buffer": (b"\x80\x05\x97.", "the instruction NEXT_BUFFER"),
    "state of a list": (b"\x80\x02]]b.", "state of an object that is no array"),
    "call of a list": (b"\x80\x02])R.", "a call of something that is no function"),
    "call of a name without one": (b"\x80\x02cnumpy\nndarray\n)R.", "a call of something that is no function"),
    "another class of array": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nK\x01K\x02K\x03\x87R.",
        "an array of an unknown class",
    ),
    "append to a number": (b"\x80\x02K\x01K\x02a.", "added to something that is no list"),
    "empty stack": (b"\x80\x020.", "damaged pickle"),
    "no mark": (b"\x80\x02t.", "damaged pickle"),
    "unknown memory": (b"\x80\x02h\x05.", "damaged pickle"),
    "no end": (b"\x80\x02K\x01", "damaged pickle"),
    "unknown instruction": (b"\x80\x02\xfe.", "damaged pickle"),
    "empty file": (b"", "damaged pickle"),
    "not a pickle": (b"first,second,same\n", "damaged pickle"),
    "length beyond the file": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "damaged pickle"),
    "negative length": (b"\x80\x02T" + struct.pack("<i", -5) + b"x.", "damaged pickle"),
    "number of a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", "damaged pickle"),
    "long name": (b"c" + b"m" * 100_000 + b"\nx\n.", "found a call to mmm"),
    "a number": (b"\x80\x02K\x01.", "found something else"),
    "list of itself": (b"\x80\x02]q\x00h\x00ah\x00a.", "an image of type list|something else|second part"),
}


@pytest.mark.parametrize("case", HAND_MADE)
def test_hand_made_files_are_refused(tmp_path: Path, case: str) -> None:
    data, message = HAND_MADE[case]
    assert_refused(saved(tmp_path, data), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (([b"a", b"b"], [True, False]), "2 images for 2 pairs"),
        (([], []), "0 images for 0 pairs"),
        (([b"a", b"b"], True), "no list of bools"),
        (([b"a", b"b"], [2]), "no list of bools"),
        (([b"a", b"b"], [None]), "no list of bools"),
        (([b"a", "b"], [True]), "an image of type str"),
        (([b"a", None], [True]), "an image of type NoneType"),
        (([b"a", np.array([True])], [True]), "an image of type Array"),
        ((b"a", [True]), "something else"),
        (([b"a"],), "something else"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    assert_refused(saved(tmp_path, pickle.dumps(content, protocol=4)), message)


def test_arrays_must_have_the_size_of_their_data(tmp_path: Path) -> None:
    data = pickle.dumps(([np.arange(7, dtype=np.uint8), b"x"], [True]), protocol=4)
    shape = b"K\x07\x85"
    assert data.count(shape) == 1
    assert_refused(saved(tmp_path, data.replace(shape, b"K\x09\x85")), "an array whose size is not that of its data")
    huge = b"\x8a\x08" + struct.pack("<q", 2**62) + b"\x85"
    assert_refused(saved(tmp_path, data.replace(shape, huge)), "size is not that of its data|damaged")


def test_one_text_encoded_a_million_times_fills_no_memory(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 1_000_000) + b"a" * 1_000_000
    again = b"h\x00h\x01h\x02\x86R0" * 10_000  # 10 GB if it were done
    start = b"\x80\x02]" + text + b"q\x010X\x06\x00\x00\x00latin1q\x020c_codecs\nencode\nq\x000"
    assert_refused(saved(tmp_path, start + again + b"."), "more bytes made from the file than are in it")


def test_too_many_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bin_pickle, "MAX_INSTRUCTIONS", 100)
    assert_refused(saved(tmp_path, b"\x80\x02" + b"N" * 1000 + b"."), "more than 100 instructions")


def test_too_large_a_file(tmp_path: Path) -> None:
    path = saved(tmp_path, b"")
    with path.open("r+b") as file:
        file.truncate(bin_pickle.MAX_FILE_BYTES + 1)
    assert_refused(path, "more than 4 GiB")


def test_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable file"):
        read_bin(tmp_path)


# What honest programs write.


@pytest.mark.parametrize("protocol", range(6))
def test_bytes_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = saved(tmp_path, pickle.dumps((IMAGES, SAME), protocol=protocol))
    assert read_bin(path) == (IMAGES, SAME)


@pytest.mark.parametrize("protocol", range(6))
def test_lists_tuples_and_bytearrays(tmp_path: Path, protocol: int) -> None:
    content = [tuple(map(bytearray, IMAGES)), (1, 0, 1)]
    assert read_bin(saved(tmp_path, pickle.dumps(content, protocol=protocol))) == (IMAGES, SAME)


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_arrays_and_bools(tmp_path: Path, protocol: int) -> None:
    arrays = [np.frombuffer(image, dtype=np.uint8).copy() for image in IMAGES]
    for same in (np.array(SAME), [np.bool_(s) for s in SAME], [np.uint8(s) for s in SAME]):
        path = saved(tmp_path, pickle.dumps((arrays, same), protocol=protocol))
        assert read_bin(path) == (IMAGES, SAME)


def test_numpy_s_name_before_its_second_version(tmp_path: Path) -> None:
    data = pickle.dumps(([np.arange(5, dtype=np.uint8)] * 2, [np.bool_(True)]), protocol=2)
    old = data.replace(b"numpy._core.", b"numpy.core.")
    assert old != data
    assert read_bin(saved(tmp_path, old)) == ([bytes(range(5))] * 2, [True])


def test_python_2(tmp_path: Path) -> None:
    """Python 2 writes its str by SHORT_BINSTRING and BINSTRING, memory of each object, and bools as of protocol 2."""
    body = b"\x80\x02]q\x00("
    memo = 1
    for image in IMAGES:
        short = b"U" + bytes([len(image)]) if len(image) < 256 else b"T" + struct.pack("<i", len(image))
        body += short + image + b"q" + bytes([memo])
        memo += 1
    body += b"e]q\x20(\x88\x89\x88e\x86q\x21."
    assert read_bin(saved(tmp_path, body)) == (IMAGES, SAME)
    assert pickle.loads(body, encoding="bytes") == (IMAGES, SAME)


def test_a_set_is_read_to_pixels(tmp_path: Path) -> None:
    images = [png(10), png(10), png(10), png(200)]
    found = read_pairs(saved(tmp_path, pickle.dumps((images, [True, False]))))
    assert [int(image.mean()) for image in found.images] == [10, 200]
    assert found.first.tolist() == [0, 0]
    assert found.second.tolist() == [0, 1]


SEEDS = [pickle.dumps((IMAGES, SAME), protocol=p) for p in range(6)] + [
    pickle.dumps(([np.arange(9, dtype=np.uint8)] * 2, [np.bool_(True)]), protocol=p) for p in (2, 4, 5)
]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = saved(tmp_path_factory.mktemp("fuzz"), bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        images, same = read_bin(path)
    except UserError:
        return
    assert len(images) == 2 * len(same)
    assert all(type(image) is bytes for image in images)


OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
PIECES = [
    b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"c_codecs\nencode\n", b"cnumpy._core.multiarray\n_reconstruct\n",
    b"cnumpy._core.multiarray\nscalar\n", b"X\x02\x00\x00\x00u1", b"X\x06\x00\x00\x00latin1", b"C\x03abc", b"K\x01",
    b"q\x00", b"h\x00", b"(", b"]", b")", b"\x85", b"\x86", b"\x87", b"R", b"b", b"a", b"e", b"t", b"0", b"2",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(OPCODES + PIECES * 3), max_size=30))
def test_random_programs_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, program: list[bytes]) -> None:
    path = saved(tmp_path_factory.mktemp("fuzz"), b"\x80\x02" + b"".join(program) + b".")
    with pytest.raises(UserError, match="expected"):
        read_bin(path)
