"""Safetensors files larger than the memory: mapped instead of read, written a piece at a time."""

from __future__ import annotations

import json
import math
import mmap
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import torch
from torch import Tensor

from proxylesskd.atomic import umask
from proxylesskd.errors import UserError

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}
_ALIGNED = 64  # bytes: where the tensors begin in a file, so that vector instructions load them whole


def map_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return every tensor of a safetensors file as a view on the file itself, and its metadata.

    Nothing is read before it is used, and what was read can be dropped again at any time: the tensors take no memory
    of this process, however large the file. They must not be written to.

    Raises:
        UserError: the file is damaged, foreign, or holds numbers of a type that is not known here.
    """
    from safetensors import SafetensorError, safe_open

    try:
        # Of numpy's kind it only looks at the header; of torch's it would ask for memory as large as the file.
        with safe_open(path, framework="np") as file:
            shapes = {key: (file.get_slice(key).get_dtype(), file.get_slice(key).get_shape()) for key in _keys(file)}
            metadata: dict[str, str] = file.metadata() or {}
        with path.open("rb") as raw:
            view = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"expected a safetensors file at '{path}', found a damaged or foreign one: {error}") from error
    layout = {key: (_type(name, key, path), tuple(shape)) for key, (name, shape) in shapes.items()}
    offset, tensors = len(view) - sum(_bytes(*entry) for entry in layout.values()), dict[str, Tensor]()
    for key, (dtype, shape) in layout.items():
        tensors[key] = _view(view, dtype, shape, offset)
        offset += _bytes(dtype, shape)
    return tensors, metadata


def _keys(file: object) -> list[str]:
    """Return the names in the order in which the tensors lie; the format leaves no room between them."""
    return list(file.offset_keys())  # type: ignore[attr-defined]


def _type(name: str, key: str, path: Path) -> torch.dtype:
    if name not in _TYPES:
        raise UserError(f"expected '{key}' in '{path}' as one of {', '.join(_TYPES)}, found {name}")
    return _TYPES[name]


def _bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * dtype.itemsize


def _view(view: mmap.mmap, dtype: torch.dtype, shape: tuple[int, ...], offset: int) -> Tensor:
    count = math.prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(view, dtype=dtype, count=count, offset=offset).view(shape)


class TensorWriter:
    """A safetensors file that is filled in any order and appears whole or not at all.

    Args:
        path: the file; its folder is made.
        layout: name of each tensor, its type and shape.
        metadata: plain text by name.

    Raises:
        UserError: there is no room for it, or it cannot be written.
    """

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
        ordered = dict(sorted(layout.items(), key=lambda entry: -entry[1][0].itemsize))  # every tensor stays aligned
        self._path, self._partial = path, path.with_name(path.name + ".partial")
        header, self._layout = _header(ordered, metadata), ordered
        self._places, place = dict[str, int](), len(header)
        for name, entry in ordered.items():
            self._places[name], place = place, place + _bytes(*entry)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _require_room(path, place)
            self._file: BinaryIO = self._partial.open("wb")
            self._file.write(header)
            self._file.truncate(place)
        except OSError as error:
            raise _unwritable(path, error) from error

    def put(self, name: str, start: int, values: Tensor) -> None:
        """Write ``[n, …]`` values as entries ``start … start + n - 1`` of a tensor.

        Raises:
            UserError: the disk refuses.
        """
        dtype, shape = self._layout[name]
        assert (values.dtype, values.shape[1:]) == (dtype, shape[1:]), f"{name} is {dtype} {shape}"
        assert start + len(values) <= shape[0], f"{name} has {shape[0]} entries"
        raw = values.detach().cpu().contiguous().view(torch.uint8).numpy().data
        try:
            self._file.seek(self._places[name] + start * _bytes(dtype, shape[1:]))
            self._file.write(raw)
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()
            if kind is None:
                self._partial.chmod(0o666 & ~umask())
                self._partial.replace(self._path)
        except OSError as refused:
            raise _unwritable(self._path, refused) from refused
        finally:
            self._partial.unlink(missing_ok=True)


def _header(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    begin = 0
    for name, (dtype, shape) in layout.items():
        end = begin + _bytes(dtype, shape)
        entries[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text


def _require_room(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise UserError(
            f"expected {size / 2**30:.1f} GiB of free disk for '{path}', found {free / 2**30:.1f}; "
            "free some space or write to another disk"
        )


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"expected to be able to write '{path}', found: {error}")
