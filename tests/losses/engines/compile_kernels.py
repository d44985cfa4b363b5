"""Compile the Triton kernels for GPUs that need not be there; print what each takes as a line of JSON."""

from __future__ import annotations

import json
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from proxylesskd.losses.engines import triton_kernels as kernels
from proxylesskd.losses.engines.triton_plan import Tile, plan_for

POINTERS = {
    "unit": "*bf16", "row_scales": "*fp32", "labels": "*i64", "threshold": "*fp32", "t": "*fp32", "shift": "*fp32",
    "exps": "*bf16", "totals": "*fp32", "bests": "*fp32", "parts": "*fp32",
}  # fmt: skip
NUMBERS = {"batch": "i32", "count": "i32", "first": "i32", "scale": "fp32"}


def compiled(kernel: Any, capability: int, rows: str, tile: Tile, constants: dict[str, Any]) -> dict[str, Any]:
    names = kernel.arg_names
    types = POINTERS | NUMBERS | {"rows": rows}
    source = ASTSource(
        kernel,
        signature={name: types.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items() if name in names},
        attrs={(at,): [["tt.divisibility", 16]] for at, name in enumerate(names) if types.get(name, "")[:1] == "*"},
    )
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    result = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    cores = any(word in result.asm["ptx"] for word in ("wgmma.mma_async", "mma.sync"))
    return {
        "kernel": kernel.__name__,
        "capability": capability,
        "shared": result.metadata.shared,
        "tensor cores": cores,
    }


def main() -> None:
    for capability, rows, bent, batch, dim in ((90, "*bf16", True, 512, 512), (86, "*i8", False, 40, 130)):
        plan = plan_for(batch, 1_000_000, dim, divmod(capability, 10), 132)
        common = {
            "dim": dim, "width": plan.chunk, "splits": plan.splits, "operand": tl.bfloat16, "scaled": rows == "*i8",
            "bent": bent,
        }  # fmt: skip
        for kernel, tile, more in (
            (kernels.exponentials, plan.cosines, {"block_rows": plan.cosines.columns, "peaks": False}),
            (kernels.exponentials, plan.cosines, {"block_rows": plan.cosines.columns, "peaks": True}),
            (kernels.weigh_rows, plan.weights, {"block_dims": plan.weights.columns}),
        ):
            sizes = {"block_samples": tile.samples, "block_depth": tile.depth}
            print(json.dumps(compiled(kernel, capability, rows, tile, common | sizes | more)))


if __name__ == "__main__":
    main()
