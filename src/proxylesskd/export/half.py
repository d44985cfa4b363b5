"""A network in half precision: weights and arithmetic in float16, float32 at both ends."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from proxylesskd.errors import UserError, require_extra
from proxylesskd.export.graph import as_sum, constants_of, copy_of, expand_prelus, in_order, replace_nodes

LARGEST = float(np.finfo(np.float16).max)


def to_half(body: Any) -> Any:
    """Return a graph from :func:`proxylesskd.export.onnx.network_graph` in float16; input and output stay float32.

    Raises:
        UserError: a package is missing, or a weight is too large for half precision.
    """
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise require_extra("onnxruntime", "onnx", "exporting in half precision") from error
    fast = copy_of(body)
    expand_prelus(fast, as_sum)
    for name, value in constants_of(fast).items():
        if value.dtype == np.float32 and not (np.abs(value) <= LARGEST).all():
            raise UserError(
                f"expected weights up to {LARGEST:g} for half precision, found larger ones in '{name}'; export "
                "--format onnx or int8 instead"
            )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # it warns of every weight that rounds to zero; the gate measures what that does
        half = convert_float_to_float16(fast, keep_io_types=True, disable_shape_infer=True)
    replace_nodes(half, in_order(half))
    return half
