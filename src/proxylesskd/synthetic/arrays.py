"""Names for the arrays of the renderer: what they hold; their shapes stand where they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]
