"""Matrices in ``.npy`` and ``.npz`` files, never pickled objects, never more than the file holds."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.models.weights import existing_file

NUMPY = (".npy", ".npz")
_INFLATION = 8  # a compressed array of trained numbers is hardly smaller than the plain one
_ALWAYS_FINE = 1 << 26  # bytes
_KINDS = ("f2", "f4", "f8")


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Return the floating-point arrays of a file of numpy; that of an ``.npy`` has the name ``""``.

    Args:
        path: ``.npy``, which is mapped, or ``.npz``.

    Raises:
        UserError: no such file, a damaged one, one that claims more than it holds, or pickled objects.
    """
    file = existing_file(path)
    try:
        arrays = _zipped(file) if file.suffix.lower() == ".npz" else {"": _mapped(file)}
        return {name: _tensor(array) for name, array in arrays.items() if array.dtype.str[1:] in _KINDS}
    except Exception as error:
        # The parser of headers raises whatever Python's tokenizer and evaluator of literals do.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"expected arrays of numpy in '{file}', found: {reason}") from error


def _mapped(file: Path) -> npt.NDArray[Any]:
    # Copy on write: PyTorch wants memory that could be written to.
    array = np.load(file, "c", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("an archive")
    return array


def _zipped(file: Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        content, held = sum(entry.file_size for entry in entries), file.stat().st_size
        if content > max(_ALWAYS_FINE, _INFLATION * held):
            raise ValueError(f"{content} bytes packed into {held}")
        return {e.filename.removesuffix(".npy"): _entry(archive.open(e), e.file_size) for e in entries}


def _entry(file: IO[bytes], size: int) -> npt.NDArray[Any]:
    """Read one array by way of its own bytes, so that its header cannot claim more than these."""
    data = io.BytesIO(file.read(size))
    version = np.lib.format.read_magic(data)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(data)
    if dtype.hasobject:
        raise ValueError("pickled objects")
    values = np.frombuffer(data.getbuffer()[data.tell() :], dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
