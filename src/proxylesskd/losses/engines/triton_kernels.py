"""The two Triton kernels of a pass over frozen rows; imported only where Triton is installed.

For one chunk of rows :func:`exponentials` makes ``E [B, c]``, the exponentials of the logits, and their sums, and
:func:`weigh_rows` adds ``E W`` to the running gradient. ``E`` is bfloat16 and small enough for the second kernel to
find it, and the rows, in the L2 cache.

Every running sum belongs to one program: a program reads its own, adds and writes it back. There are no atomics, so
results do not depend on timing, and a chunk is two launches whatever it holds.

Products of ``operand`` numbers are summed in float32. ``operand`` is bfloat16 on a GPU; Triton's interpreter would
multiply bfloat16 numbers as the integers of their bits, so it is given the same numbers in float32.
"""

# Annotations are read by Triton, which must find objects and no strings: no ``from __future__ import annotations``.
import triton
import triton.language as tl

INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))  # what triton.jit goes by, here and now
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit  # type: ignore[untyped-decorator]
def rounded(values: tl.tensor) -> tl.tensor:
    """Round float32 to bfloat16, to nearest even; the interpreter would cut off, so there it is spelled out."""
    if INTERPRETED:
        bits = values.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        values = bits.to(tl.float32, bitcast=True)
    return values.to(tl.bfloat16)


@triton.jit  # type: ignore[untyped-decorator]
def products(
    unit: tl.tensor,
    rows: tl.tensor,
    samples: tl.tensor,
    columns: tl.tensor,
    dim: tl.constexpr,
    block_samples: tl.constexpr,
    block_rows: tl.constexpr,
    block_depth: tl.constexpr,
    operand: tl.constexpr,
) -> tl.tensor:
    """Return ``[block_samples, block_rows] float32``, the products of some samples with some rows."""
    total = tl.full((block_samples, block_rows), 0.0, tl.float32)
    for start in range(0, dim, block_depth):
        depth = start + tl.arange(0, block_depth)
        left, right = samples[:, None] * dim + depth[None, :], columns[None, :] * dim + depth[:, None]
        if dim % block_depth == 0:
            x = tl.load(unit + left)
            w = tl.load(rows + right)
        else:
            x = tl.load(unit + left, mask=depth[None, :] < dim, other=0)
            w = tl.load(rows + right, mask=depth[:, None] < dim, other=0)
        total = tl.dot(x.to(operand), w.to(operand), total)
    return total


@triton.jit(do_not_specialize=["batch", "count", "first"])  # type: ignore[untyped-decorator]
def exponentials(
    unit: tl.tensor,  # [B, D] bfloat16
    rows: tl.tensor,  # [>= count, D] bfloat16 or int8, the chunk
    row_scales: tl.tensor,  # [>= count] float32, read where the rows are int8
    labels: tl.tensor,  # [B] int64
    threshold: tl.tensor,  # [B] float32, read where there is a bend
    t: tl.tensor,  # [] float32, likewise
    shift: tl.tensor,  # [B] float32
    exps: tl.tensor,  # [B, width] bfloat16, out
    totals: tl.tensor,  # [tiles, B] float32, running
    bests: tl.tensor,  # [tiles, B] float32, running
    batch: int,
    count: int,  # rows in this chunk
    first: int,  # number of its first row
    scale: float,
    dim: tl.constexpr,
    width: tl.constexpr,
    block_samples: tl.constexpr,
    block_rows: tl.constexpr,
    block_depth: tl.constexpr,
    operand: tl.constexpr,
    scaled: tl.constexpr,
    bent: tl.constexpr,
    peaks: tl.constexpr,
) -> None:
    """Make one tile of ``E`` with its sums; or, for ``peaks``, only put the largest logits where sums go."""
    across = tl.cdiv(batch, block_samples)  # samples vary fastest: neighbouring programs share a tile of rows
    tile = tl.program_id(0) // across
    places = tl.program_id(0) % across * block_samples + tl.arange(0, block_samples)
    columns = tile * block_rows + tl.arange(0, block_rows)
    # Loads beyond the edge repeat the last sample or row, which costs nothing; what comes of them is thrown away.
    samples, known = tl.minimum(places, batch - 1), tl.minimum(columns, count - 1)
    cosine = products(unit, rows, samples, known, dim, block_samples, block_rows, block_depth, operand)
    if scaled:
        per_row = tl.load(row_scales + known)
        cosine *= per_row[None, :]
    # The target is masked inside the pass: taking it out of the sum afterwards would lose the negatives to rounding.
    own = (tl.load(labels + samples) - first).to(tl.int32)
    kept = (columns[None, :] < count) & (columns[None, :] != own[:, None])
    cosine = tl.where(kept, cosine, -float("inf"))
    slot = tile * batch + places
    inside = places < batch
    best = tl.maximum(tl.load(bests + slot, mask=inside, other=0.0), tl.max(cosine, axis=1))
    tl.store(bests + slot, best, mask=inside)
    slope = 1.0
    if bent:
        hard = cosine > tl.load(threshold + samples)[:, None]
        slope = tl.where(hard, tl.load(t) + 2 * cosine, 1.0)
        cosine = tl.where(hard, cosine * (tl.load(t) + cosine), cosine)
    before = tl.load(totals + slot, mask=inside, other=0.0)
    if peaks:
        tl.store(totals + slot, tl.maximum(before, scale * tl.max(cosine, axis=1)), mask=inside)
    else:
        exp = tl.exp2(cosine * (scale * LOG2E) - (tl.load(shift + samples) * LOG2E)[:, None])
        tl.store(totals + slot, before + tl.sum(exp, axis=1), mask=inside)
        if bent:
            exp *= slope
        if scaled:
            exp *= per_row[None, :]
        tl.store(exps + places[:, None] * width + columns[None, :], rounded(exp), mask=inside[:, None])


@triton.jit(do_not_specialize=["batch", "count"])  # type: ignore[untyped-decorator]
def weigh_rows(
    exps: tl.tensor,  # [B, width] bfloat16
    rows: tl.tensor,  # [>= count, D] bfloat16 or int8, the chunk
    parts: tl.tensor,  # [splits, B, D] float32, running
    batch: int,
    count: int,
    dim: tl.constexpr,
    width: tl.constexpr,
    splits: tl.constexpr,
    block_samples: tl.constexpr,
    block_dims: tl.constexpr,
    block_depth: tl.constexpr,
    operand: tl.constexpr,
) -> None:
    """Add one split's share of ``E W`` to one tile of its part."""
    tiles_d: tl.constexpr = (dim + block_dims - 1) // block_dims
    tiles = tl.cdiv(batch, block_samples) * tiles_d
    split, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    places = tile // tiles_d * block_samples + tl.arange(0, block_samples)
    dims = tile % tiles_d * block_dims + tl.arange(0, block_dims)
    out = parts + (split * batch + places[:, None]) * dim + dims[None, :]
    mask = (places[:, None] < batch) & (dims[None, :] < dim)
    total = tl.load(out, mask=mask, other=0.0)
    samples = tl.minimum(places, batch - 1)
    each: tl.constexpr = (width // block_depth + splits - 1) // splits
    for block in range(0, each):
        depth = (split * each + block) * block_depth + tl.arange(0, block_depth)
        left = exps + samples[:, None] * width + depth[None, :]
        # Beyond the last row E is 0, so that the last row may stand there.
        right = rows + tl.minimum(depth, count - 1)[:, None] * dim + dims[None, :]
        even: tl.constexpr = splits * each * block_depth == width
        e = tl.load(left) if even else tl.load(left, mask=depth[None, :] < width, other=0)
        w = tl.load(right) if dim % block_dims == 0 else tl.load(right, mask=dims[None, :] < dim, other=0)
        total = tl.dot(e.to(operand), w.to(operand), total)
    tl.store(out, total, mask=mask)
