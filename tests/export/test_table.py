from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from proxylesskd.errors import UserError
from proxylesskd.export import table
from proxylesskd.export.agreement import Agreement, Change, Limits
from proxylesskd.export.gate import GateReport
from proxylesskd.export.speed import Latency
from proxylesskd.export.table import Row, markdown, time_together
from tests.export.conftest import Exported


def test_rounds_interleave_and_medians_are_of_the_clock(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that we wind: the n-th call of all, warm-up included, lasts n milliseconds."""
    now, calls = [0.0], [0]

    def clock() -> float:
        calls[0] += 1
        if calls[0] % 2 == 0:
            now[0] += calls[0] / 2 / 1000
        return now[0]

    monkeypatch.setattr(time, "perf_counter", clock)
    files = {"a": exported.path, "b": exported.path}
    found = time_together(files, batches=(1,), threads=(1,), repeats=3)
    # calls 1 and 2 warm up, then a and b take turns
    assert found["a"][0].milliseconds == pytest.approx(statistics.median([3, 5, 7]))
    assert found["b"][0].milliseconds == pytest.approx(statistics.median([4, 6, 8]))
    assert (found["b"][0].lowest, found["b"][0].highest) == (pytest.approx(4), pytest.approx(8))


def test_foreign_files_and_fixed_batches(exported: Exported, tmp_path: Path) -> None:
    proto = onnx.load(exported.path)
    del proto.metadata_props[:]
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    # quantisers leave the names of weights that they replaced among the inputs
    proto.graph.input.append(onnx.helper.make_tensor_value_info("left_over", onnx.TensorProto.FLOAT, [4]))
    onnx.save(proto, tmp_path / "teacher.onnx")
    files = {"teacher": tmp_path / "teacher.onnx", "student": exported.path}
    found = time_together(files, batches=(1, 2), threads=(1, 2), repeats=1)
    assert [(one.threads, one.batch) for one in found["teacher"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [(one.threads, one.batch) for one in found["student"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    with pytest.raises(UserError, match="at least 1 timed repeat"):
        time_together(files, repeats=0)


def test_a_fixed_batch_is_called_as_often_as_it_takes(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = onnx.load(exported.path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(proto, tmp_path / "fixed.onnx")
    seen: list[int] = []
    right = table.call
    monkeypatch.setattr(table, "call", lambda r, p, inputs: (seen.append(len(inputs)), right(r, p, inputs))[1])
    time_together({"x": tmp_path / "fixed.onnx"}, batches=(1, 7), threads=(1,), repeats=1)
    # warm-up and one round: one call for one image, three for seven
    assert seen == [3] * 2 + [3] * 6


def test_what_is_no_exported_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "student.tflite").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"student\.tflite|ai-edge-litert"):
        time_together({"x": tmp_path / "student.tflite"}, repeats=1)


def test_the_table_in_words() -> None:
    change = Change(0.9, 0.89, -0.01, -0.02, 0.005, (0.88, 0.92))
    found = Agreement(GateReport(9, 0.9, 0.95, 3, 0.99, 0), Limits(0.9, 0.9), change, change, 1e-3)
    rows = [
        Row("teacher", None, 5_000_000, 0.99, 0.97, 1e-3, latencies=(Latency(1, 1, 10.0, 9.0, 11.0, 3),)),
        Row("int8", "s.onnx", 90_000, 0.89, 0.89, 1e-3, found, "it is off", (Latency(1, 8, 1.234, 1, 2, 3),)),
        Row("coreml", "s.mlpackage", None, None, None, None),
    ]
    head, _, teacher, eight, core, *rest = markdown(rows).splitlines()
    assert head.endswith("| ms: 1 thread, batch 1 | ms: 8 threads, batch 1 |")
    assert "TAR at FAR 0.001" in head
    assert teacher == "| teacher | 5.00 MB | 99.00 % | 97.00 % | - | 10.00 | - |"
    assert "| int8 (refused) | 90.0 kB | 89.00 % (-1.00, -2.00 to +0.50) |" in eight
    assert "| 0.990000, 0.950000 | - | 1.23 |" in eight
    assert core == "| coreml | - | - | - | - | - | - |"
    assert rest == ["", "int8 was refused by the gate and kept by force: it is off."]
    told = rows[1].to_dict()
    assert told["agreement"]["accuracy"]["difference"] == -0.01
    assert told["bytes"] == 90_000
    assert np.isfinite(told["latencies"][0]["milliseconds"])
