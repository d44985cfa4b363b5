from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.estimation import head
from proxylesskd.estimation.head import (
    engine_of,
    further_bytes,
    pass_seconds,
    require_known,
    rows_in_place,
    rows_to_time,
    seen_rows,
)
from proxylesskd.losses.margin import ArcFace
from proxylesskd.losses.rows import quantise


@pytest.mark.parametrize(
    ("name", "batch", "count", "device", "world", "engine", "why"),
    [
        ("auto", 8, 100, "cpu", 1, "reference", "one dense product"),
        ("auto", 128, 1_000_000, "cpu", 1, "chunked", "by chunks"),
        ("auto", 128, 1_000_000, "cpu", 4, "chunked", "each of 4 processes sees all rows"),
        ("reference", 128, 1_000_000, "cpu", 1, "reference", "asked for"),
        ("sharded", 128, 10, "cpu", 4, "sharded", "each of 4 processes holds 3 of 10 rows"),
        ("neighbours", 128, 10, "cpu", 1, "neighbours", "an approximation"),
    ],
)
def test_the_engine_is_that_of_the_training_and_says_why(
    name: str, batch: int, count: int, device: str, world: int, engine: str, why: str
) -> None:
    found, reason = engine_of(name, batch, count, device, world)
    assert found == engine
    assert why in reason


def test_bounded_engines_are_tried_with_few_rows_and_dense_ones_with_all_that_are_few() -> None:
    assert rows_in_place("chunked", 128, 10**7) == head.IN_PLACE == rows_in_place("sharded", 8, 10**7)
    assert rows_in_place("chunked", 128, 100) == 100
    assert rows_in_place("reference", 64, 1000) == 1000
    assert rows_to_time("chunked", 1, 10**7) == 65536
    assert rows_to_time("chunked", 10**6, 10**7) == head.IN_PLACE
    assert rows_to_time("chunked", 64, 50) == rows_to_time("reference", 64, 50) == 50
    assert further_bytes("chunked", 128, 10**7) == further_bytes("reference", 64, 1000) == 0
    dense = further_bytes("reference", 128, 10**6)
    assert dense == 3 * 4 * 128 * (10**6 - rows_in_place("reference", 128, 10**6)) > 10**9


def test_shards_meet_all_images_and_neighbours_few_rows() -> None:
    assert seen_rows("chunked", 32, 1000, 4, nearest=9, sample=0.1) == (32, 1000)
    assert seen_rows("sharded", 32, 1001, 4, nearest=9, sample=0.1) == (128, 251)
    assert seen_rows("neighbours", 32, 10_000, 1, nearest=9, sample=0.1) == (32, 320 + 1000)
    assert seen_rows("neighbours", 32, 300, 1, nearest=9, sample=0.1) == (32, 300)


def test_shards_of_one_process_make_no_sense() -> None:
    with pytest.raises(UserError, match="--world"):
        require_known("sharded", 1)
    require_known("sharded", 2)
    require_known("auto", 1)


@pytest.mark.parametrize("engine", ["reference", "chunked", "sharded"])
def test_a_pass_over_more_rows_takes_longer(engine: str) -> None:
    rows = F.normalize(torch.randn(40_000, 64), dim=1)
    few = pass_seconds(rows, 400, 16, engine, ArcFace(0.5))
    assert 0 < few < pass_seconds(rows, 40_000, 16, engine, ArcFace(0.5))
    assert pass_seconds(quantise(rows[:400]), 399, 16, engine, ArcFace(0.5)) > 0
