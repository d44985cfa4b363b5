"""The last layer in weights that Keras saved: ``.h5`` and ``.hdf5`` of any age, and ``.keras`` archives.

Keras keeps a dense layer as ``kernel [D, C]``, an identity a column; the NormDense of Keras_insightface, which
GhostFaceNets are trained with, calls it ``norm_dense_w``. The file format can point to other files, claim more than it
holds and pack zeros tightly: all that is refused.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proxylesskd.classifier.choose_head import choose, usable
from proxylesskd.classifier.head import Found, Matrix, listed, shown_key
from proxylesskd.errors import UserError, require_extra

KERAS = (".h5", ".hdf5", ".keras")
_LAYERS = ("arcface", "norm_dense", "norm_dense_w", "logits", "predictions")  # names that embedders do not use
_DTYPES = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64}
_FILTERS = (1, 2, 3, 32000)  # deflate, shuffle, checksum, LZF: what comes with the library
_INFLATION = 8  # trained numbers are hardly smaller when compressed
_ALWAYS_FINE = 1 << 26  # bytes


def read_keras(path: Path, *, key: str | None = None, count: int | None = None, dim: int | None = None) -> Found:
    """Read the last layer out of Keras weights or a whole Keras model.

    Args:
        path: ``.h5``, ``.hdf5`` or ``.keras``.
        key: name of the kernel, its groups joined by dots; needed where several could be meant.
        count: the number of identities, where known.
        dim: length of an embedding, where known.

    Raises:
        NoHeadError: no kernel can be the last layer.
        UserError: the package ``h5py`` is missing, or the file is damaged, points elsewhere or claims more than it
            holds, or several kernels could be meant.
    """
    with _opened(path) as file:
        datasets = _datasets(file)
        matrices = [matrix for name in datasets if (matrix := _outlined(name, datasets)) is not None]
        outline = _chosen(matrices, len(datasets), key=key, count=count, dim=dim)
        bias = _bias_of(outline.key, datasets)
        values = _values(datasets[outline.key], outline.key)
        matrix = replace(outline, values=values, bias=None if bias is None else _values(bias, outline.key))
    return Found("Keras kernel", [matrix], [path.name])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise require_extra("h5py", "keras", "Reading Keras weights") from error
    try:
        with h5py.File(_archived(path) if path.suffix.lower() == ".keras" else path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"expected Keras weights in '{path}', found: {reason}") from error


def _archived(path: Path) -> io.BytesIO:
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("model.weights.h5")
        if entry.file_size > max(_ALWAYS_FINE, _INFLATION * entry.compress_size):
            raise ValueError(f"{entry.file_size} bytes packed into {entry.compress_size}")
        with archive.open(entry) as content:
            return io.BytesIO(content.read(entry.file_size))


def _datasets(file: Any) -> dict[str, Any]:
    """Return all datasets by name; links to other places and other files are not followed."""
    import h5py

    found: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name.replace("/", ".").removesuffix(":0")] = item

    file.visititems(keep)
    return found


def _outlined(name: str, datasets: dict[str, Any]) -> Matrix | None:
    """Return a kernel without its values, which are read once it is chosen."""
    dataset = datasets[name]
    kind = _DTYPES.get(dataset.dtype.str[1:])
    if dataset.ndim != 2 or kind is None or 0 in dataset.shape or dataset.size > 1 << 48:
        return None
    return Matrix(name, torch.empty(dataset.shape, dtype=kind, device="meta"), transposed=True)


def _chosen(matrices: list[Matrix], datasets: int, *, key: str | None, count: int | None, dim: int | None) -> Matrix:
    """Return the kernel that is meant: by its layer's name, as the only one of a small file, or as :func:`choose`."""
    named = [matrix for matrix in usable(matrices) if _is_named(matrix.key)]
    fitting = [matrix for matrix in named if matrix.values.shape[1] == count] or named
    if key is None and len(fitting) > 1:
        raise UserError(f"expected one last layer, found several that fit: {listed(fitting)}; name one with --key")
    if key is None and fitting:
        return fitting[0]
    # One kernel and its bias alone are a last layer that somebody saved.
    return choose(matrices, key=key, count=count, dim=dim, alone=datasets <= 2)


def _is_named(key: str) -> bool:
    return any(re.sub(r"_\d+$", "", part) in _LAYERS for part in key.split("."))


def _bias_of(key: str, datasets: dict[str, Any]) -> Any | None:
    # Keras 3 numbers the variables of a layer; its kernel is number 0 and its bias number 1.
    layer, _, last = key.rpartition(".")
    name = {"kernel": "bias", "0": "1"}.get(last)
    found = None if name is None else datasets.get(f"{layer}.{name}")
    return found if found is not None and found.ndim == 1 else None


def _values(dataset: Any, name: str) -> Tensor:
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(number)[0] for number in range(plist.get_nfilters())}
    if dataset.is_virtual or dataset.external or not filters <= set(_FILTERS):
        raise ValueError(f"'{shown_key(name)}' is kept in another file or by an unknown filter")
    held = dataset.id.get_storage_size()
    if dataset.nbytes > (max(_ALWAYS_FINE, _INFLATION * held) if filters else held):
        raise ValueError(f"'{shown_key(name)}' claims {dataset.nbytes} bytes, and the file holds {held} of them")
    array = np.empty(dataset.shape, dataset.dtype.newbyteorder("="))
    dataset.read_direct(array)
    return torch.from_numpy(array)
