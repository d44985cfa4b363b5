"""Reading numpy's files that cells leave: a damaged one is an error that names it, and nothing in one is executed."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError

Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Arrays:
    """Return arrays of an ``.npz`` file by name.

    Args:
        path: of the file.
        needed: names that must be in it.
        optional: names that may be.

    Raises:
        UserError: the file is missing or damaged, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (*needed, *optional) if name in needed or name in file}
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"expected {', '.join(needed)} in '{path}', found {error}; delete it and start anew") from error
