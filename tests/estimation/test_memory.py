from __future__ import annotations

from dataclasses import replace

import pytest

from proxylesskd.estimation.asked import Asked, Probed
from proxylesskd.estimation.estimate import summed
from proxylesskd.estimation.memory import Room, memory_parts, pass_bytes, total
from proxylesskd.estimation.text import lines, size, span
from proxylesskd.recipe import Recipe, load_recipe

GIB = 1 << 30
ASKED = Asked(
    recipe={}, classifier="", count=1_000_000, dim=512, store="float32", share=64, batch=64, world=1, processes=1,
    device="cpu", seconds=60.0,
)  # fmt: skip
FOUND = Probed(
    images=6400, base=GIB, base_files=GIB // 2, index=100, rows_private=0, rows_mapped=2 * GIB, trained=200, loaded=300,
    rest=2 * GIB, student_seconds=0.5, head_seconds=1.5, data_seconds=0.1, disk_rate=1e9,
)  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, ["train.batch=64", "train.epochs=2", *overrides])


def test_parts_add_up_by_kind_and_absent_ones_are_left_out() -> None:
    parts = memory_parts(FOUND, rows_on_gpu=7)
    assert total(parts, "private") == 3 * GIB + 600
    assert total(parts, "mapped") == 2 * GIB + GIB // 2
    assert total(parts, "gpu") == 7
    assert all(part.bytes > 0 for part in parts)
    assert "rows and names in memory" not in [part.name for part in parts]


def test_a_pass_leaves_the_residuals_aside() -> None:
    assert pass_bytes("float32", 10, 8) == 320
    assert pass_bytes("int8", 10, 8) == 80 + 40
    assert pass_bytes("bfloat16", 10, 8) == 160 + 40


def test_times_and_steps_by_hand() -> None:
    found = summed(recipe(), ASKED, FOUND, "chunked", "because", Room(64 * GIB, 0))
    assert found.step_seconds == pytest.approx(2.0)
    assert found.images_per_second == pytest.approx(32)
    assert found.steps == 200
    assert [found.epoch_seconds, found.run_seconds] == pytest.approx([200, 400])
    assert found.warnings == []
    several = summed(recipe("train.accumulate=4"), ASKED, FOUND, "chunked", "", Room(64 * GIB, 0))
    assert several.step_seconds == pytest.approx(8.0)
    assert several.steps == 50
    assert several.images_per_second == pytest.approx(32)
    waits = summed(recipe("train.steps=3"), ASKED, replace(FOUND, data_seconds=9.0), "chunked", "", Room(64 * GIB, 0))
    assert waits.step_seconds == pytest.approx(9.0)
    assert waits.steps == 3


def test_what_fits_nowhere_is_a_plain_warning() -> None:
    full = Room(int(2.5 * GIB), 0)
    found = summed(recipe(), ASKED, FOUND, "chunked", "", full)
    assert found.warnings == [
        "needs 3.0 GiB, this machine has 2.5 GiB free: give a smaller train.batch, and train.accumulate for as large a "
        "step, or a smaller model.width"
    ]
    rows = replace(FOUND, rows_private=31 * GIB, rows_mapped=0)
    (told,) = summed(recipe(), ASKED, rows, "chunked", "", Room(23 * GIB, 0)).warnings
    assert told.startswith("needs 34.0 GiB, this machine has 23.0 GiB free: store rows as int8 (proxylesskd compact")
    assert "shard them over" in told
    (told,) = summed(recipe(), replace(ASKED, store="int8"), rows, "chunked", "", Room(23 * GIB, 0)).warnings
    assert "int8" not in told


def test_rows_that_the_page_cache_cannot_hold_are_read_in_every_step() -> None:
    room = Room(int(3.5 * GIB), 0)
    found = summed(recipe(), ASKED, FOUND, "chunked", "", room)
    assert found.disk_seconds == pytest.approx(2.048)
    assert found.step_seconds == pytest.approx(4.048)
    (told,) = found.warnings
    assert told.startswith("every step reads 1.9 GiB of rows, and 0.5 GiB are left")
    assert summed(recipe(), replace(ASKED, store="int8"), FOUND, "chunked", "", room).warnings == []


def test_processes_need_their_own_memory_and_share_the_file() -> None:
    both = replace(ASKED, world=2)
    found = summed(recipe(), both, FOUND, "chunked", "", Room(64 * GIB, 0))
    assert (found.in_all, found.mapped) == (2 * found.private, 2 * GIB + GIB // 2)
    sharded = summed(
        recipe(), replace(both, device="cuda"), replace(FOUND, gpu=GIB), "sharded", "", Room(64 * GIB, GIB)
    )
    assert sharded.gpu == GIB + 1_000_000 * 512 * 4 // 2
    assert len(sharded.warnings) == 1
    assert "on each GPU" in sharded.warnings[0]


def test_lines_say_what_a_person_must_know() -> None:
    told = "\n".join(lines(summed(recipe(), replace(ASKED, world=2), FOUND, "chunked", "because", Room(4 * GIB, 0))))
    for part in (
        "1000000 identities x 512, float32",
        "chunked: because",
        "of each of 2 processes",
        "mapped",
        "warning: ",
    ):
        assert part in told
    gpu = summed(recipe(), ASKED, replace(FOUND, gpu=GIB), "triton", "", Room(4 * GIB, 80 * GIB))
    assert "on its GPU" in "\n".join(lines(gpu))
    slow = summed(recipe(), ASKED, FOUND, "chunked", "", Room(int(3.5 * GIB), 0))
    assert "2.05 s reading rows from the disk" in "\n".join(lines(slow))
    assert [size(5 << 20), size(3 * GIB)] == ["5 MiB", "3.00 GiB"]
    assert [span(s) for s in (0.05, 1.5, 600, 1e4, 1e6)] == ["50 ms", "1.5 s", "10 min", "2.78 h", "11.6 days"]


def test_room_is_that_of_this_machine() -> None:
    assert Room.here("cpu").memory > 0
    assert Room.here("cpu").gpu == 0
