from __future__ import annotations

import math

import pytest

from proxylesskd.errors import UserError
from proxylesskd.losses.engines import triton_plan


@pytest.mark.parametrize("batch", [1, 32, 100, 512, 2048, 8192])
@pytest.mark.parametrize("dim", [3, 128, 512, 1000])
@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0), (12, 0)])
def test_a_plan_bounds_the_memory(batch: int, dim: int, capability: tuple[int, int]) -> None:
    for count in (1, 1000, 360_000, 10_000_000):
        plan = triton_plan.plan_for(batch, count, dim, capability, 132)
        assert plan.chunk % plan.cosines.columns == 0
        assert plan.cosines.columns % plan.weights.depth == 0
        assert plan.chunk < count + plan.cosines.columns
        exponentials, sums_ = 2 * batch * plan.chunk, 8 * batch * plan.chunk // plan.cosines.columns
        weighted, converted = 4 * plan.splits * batch * dim, 2 * plan.chunk * dim
        if batch * dim <= 1 << 22:
            assert exponentials + sums_ + weighted + converted < 62e6
        assert exponentials + converted <= 42 << 20
        # no chunk is mostly empty
        chunks = -(-count // plan.chunk)
        assert chunks * plan.chunk - count <= chunks * plan.cosines.columns


def test_a_plan_occupies_the_machine() -> None:
    """A hundredth of the last wave may be idle on 132 multiprocessors, two programs each; the second kernel has one."""
    for batch in (128, 256, 512, 1024, 4096):
        plan = triton_plan.plan_for(batch, 1_000_000, 512, (9, 0), 132)
        programs = plan.chunk // plan.cosines.columns * -(-batch // plan.cosines.samples)
        assert programs / (264 * math.ceil(programs / 264)) > 0.96, batch
        second = plan.splits * -(-batch // plan.weights.samples) * -(-512 // plan.weights.columns)
        assert second / (132 * math.ceil(second / 132)) > 0.9, batch


def test_gpus_without_bfloat16_are_refused() -> None:
    with pytest.raises(UserError, match=r"8\.0 or above.*found 7\.5.*engine='chunked'"):
        triton_plan.plan_for(128, 1000, 512, (7, 5), 40)
