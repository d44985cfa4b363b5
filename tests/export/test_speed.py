from __future__ import annotations

import statistics
import time
from pathlib import Path

import onnx
import pytest

from proxylesskd.errors import UserError
from proxylesskd.export.speed import Latency, machine_name, measure_speed
from tests.export.conftest import Exported


def test_latencies_are_medians_of_what_the_clock_said(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that we wind: the n-th timed call lasts n squared milliseconds."""
    now, calls = [0.0], [0]

    def clock() -> float:
        calls[0] += 1
        if calls[0] % 2 == 0:
            now[0] += (calls[0] // 2) ** 2 / 1000
        return now[0]

    monkeypatch.setattr(time, "perf_counter", clock)
    speed = measure_speed(exported.path, batches=(1, 4), repeats=3)
    first, second = speed.latencies
    assert first.milliseconds == pytest.approx(statistics.median([1, 4, 9]))
    assert second.milliseconds == pytest.approx(statistics.median([16, 25, 36]))
    assert (second.lowest, second.highest) == (pytest.approx(16), pytest.approx(36))
    assert second.images_per_second == pytest.approx(4 / 0.025)
    assert [one.batch for one in speed.latencies] == [1, 4]
    assert speed.size == exported.path.stat().st_size


def test_real_times_are_positive_and_told(exported: Exported) -> None:
    told = measure_speed(exported.path, batches=(2,), repeats=2).to_dict()
    (latency,) = told["latencies"]
    assert 0 < latency["lowest"] <= latency["milliseconds"] <= latency["highest"] < 60_000
    assert latency["images_per_second"] == pytest.approx(2000 / latency["milliseconds"])
    assert told["machine"] == machine_name() != ""


def test_a_fixed_batch_is_measured_alone(exported: Exported, tmp_path: Path) -> None:
    proto = onnx.load(exported.path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, tmp_path / "fixed.onnx")
    speed = measure_speed(tmp_path / "fixed.onnx", batches=(1, 32), repeats=1)
    assert [one.batch for one in speed.latencies] == [1]


def test_wrong_questions_are_refused(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 1 timed repeat, found 0"):
        measure_speed(exported.path, repeats=0)
    proto = onnx.load(exported.path)
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(proto, tmp_path / "free.onnx")
    with pytest.raises(UserError, match=r"expected a float32 input \[B, 3, S, S\]"):
        measure_speed(tmp_path / "free.onnx")


def test_a_file_that_does_not_run_is_named(exported: Exported, tmp_path: Path) -> None:
    proto = onnx.load(exported.path)
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    proto.graph.node.insert(0, onnx.helper.make_node("Identity", ["image"], ["same"]))
    for node in list(proto.graph.node)[1:]:
        node.input[:] = ["same" if name == "image" else name for name in node.input]
    del proto.graph.value_info[:]
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2
    onnx.save(proto, tmp_path / "small.onnx")
    with pytest.raises(UserError, match=r"small\.onnx"):
        measure_speed(tmp_path / "small.onnx", batches=(1,))


def test_images_per_second() -> None:
    assert Latency(32, 1, 16.0, 15.0, 20.0, 5).images_per_second == pytest.approx(2000)
