from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from proxylesskd.classifier.from_checkpoint import read_head
from proxylesskd.classifier.head import NoHeadError
from proxylesskd.errors import UserError
from proxylesskd.teacher import load_teacher
from tests.models.graphs import DIM, embed_by_loops, images, unit, write_graph

C = 40
ROWS = np.random.default_rng(0).normal(size=(C, DIM)).astype(np.float32)
node = helper.make_node


def graph(path: Path, after: Sequence[Any], constants: dict[str, npt.NDArray[Any]], columns: int = C) -> Path:
    """Write the embedder of the other tests, whose embedding is 'flat', and go on after it to 'logits'."""
    return write_graph(path, after=after, constants=constants, output=("logits", ["n", columns]))


GEMM = [node("Gemm", ["flat", "w"], ["logits"])]
TURNED = [node("Gemm", ["flat", "w"], ["logits"], transB=1)]
MATMUL = [node("MatMul", ["flat", "w"], ["logits"])]
SCALE = {"s": np.array(64, np.float32)}
NORM = {"axes": np.array([1], np.int64), "least": np.array(1e-12, np.float32)}
NORMALISED = [
    node("ReduceL2", ["w"], ["length"], axes=[1], keepdims=1),
    node("Clip", ["length", "least"], ["safe"]),
    node("Shape", ["w"], ["shape"]),
    node("Expand", ["safe", "shape"], ["wide"]),
    node("Div", ["w", "wide"], ["unit"]),
    node("Transpose", ["unit"], ["turned"], perm=[1, 0]),
    node("LpNormalization", ["flat"], ["direction"], axis=1, p=2),
    node("MatMul", ["direction", "turned"], ["cosine"]),
    node("Mul", ["cosine", "s"], ["logits"]),
]
UNIT_EMBEDDING = [
    node("ReduceL2", ["flat"], ["length"], axes=[1], keepdims=1),
    node("Clip", ["length", "least"], ["safe"]),
    node("Div", ["flat", "safe"], ["direction"]),
    node("MatMul", ["direction", "w"], ["logits"]),
]
# Nodes, constants, and whether something other than the shape says that it is a classifier.
CHAINS: dict[str, tuple[list[Any], dict[str, npt.NDArray[Any]], bool]] = {
    "Gemm": (GEMM, {"w": ROWS.T.copy()}, False),
    "Gemm, transB": (TURNED, {"w": ROWS}, False),
    "MatMul": (MATMUL, {"w": ROWS.T.copy()}, False),
    "zero bias of Gemm": (
        [node("Gemm", ["flat", "w", "b"], ["logits"])],
        {"w": ROWS.T.copy(), "b": np.zeros(C, np.float32)},
        False,
    ),
    "zero bias of Add": (
        [node("MatMul", ["flat", "w"], ["x"]), node("Add", ["x", "b"], ["logits"])],
        {"w": ROWS.T.copy(), "b": np.zeros(C, np.float32)},
        False,
    ),
    "softmax": ([node("MatMul", ["flat", "w"], ["x"]), node("Softmax", ["x"], ["logits"])], {"w": ROWS.T.copy()}, True),
    "scale": (
        [node("MatMul", ["flat", "w"], ["x"]), node("Mul", ["s", "x"], ["logits"])],
        {"w": ROWS.T.copy(), **SCALE},
        True,
    ),
    "temperature": (
        [node("MatMul", ["flat", "w"], ["x"]), node("Div", ["x", "s"], ["logits"])],
        {"w": ROWS.T.copy(), **SCALE},
        True,
    ),
    "passing": (
        [
            node("Identity", ["w"], ["v"]),
            node("Transpose", ["v"], ["t"]),
            node("MatMul", ["flat", "t"], ["x"]),
            node("Identity", ["x"], ["logits"]),
        ],
        {"w": ROWS},
        False,
    ),
    "unit embedding": (UNIT_EMBEDDING, {"w": ROWS.T.copy(), **NORM}, True),
    "normalised in the graph": (NORMALISED, {"w": ROWS, **SCALE, **NORM}, True),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("count", [None, C])
def test_the_last_product_is_found(tmp_path: Path, name: str, count: int | None) -> None:
    after, constants, certain = CHAINS[name]
    path = graph(tmp_path / "t.onnx", after, constants)
    head = read_head(path, count=count)
    np.testing.assert_allclose(unit(head.rows.numpy()), unit(ROWS), atol=1e-6)
    if name != "normalised in the graph":
        np.testing.assert_array_equal(head.rows.numpy(), ROWS)
    assert (head.key, head.files) == ("w", ["t.onnx"])
    assert any("nothing but its shape" in note for note in head.notes) == (not certain)
    # The runtime's own logits are the products of embeddings and rows, whatever the graph made of them.
    pixels = np.random.default_rng(1).normal(size=(6, 3, 16, 16)).astype(np.float32)
    (logits,) = onnxruntime.InferenceSession(str(path)).run(None, {"input": pixels})
    embeddings = embed_by_loops(pixels)
    # The length of an embedding does not change the order of its products.
    products = embeddings @ (unit(ROWS) if name.startswith("normalised") else ROWS).T
    np.testing.assert_array_equal(logits.argmax(1), products.argmax(1))


@pytest.mark.parametrize("name", ["Gemm", "softmax", "normalised in the graph"])
def test_the_noted_output_is_the_embedding(tmp_path: Path, name: str) -> None:
    path = graph(tmp_path / "t.onnx", *CHAINS[name][:2])
    location = read_head(path).notes[0].split("load the teacher as ")[1]
    assert location.startswith("t.onnx:output=")
    teacher = load_teacher(f"{tmp_path}/{location},mean=0,std=1", threads=1)
    pixels = images(4)
    found = teacher.embed(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, unit(embed_by_loops(pixels)), atol=1e-5)
    assert teacher.dim == DIM


def test_quantised_weights_are_unfolded(tmp_path: Path) -> None:
    scales = np.linspace(0.01, 0.05, C).astype(np.float32)
    stored = np.random.default_rng(2).integers(-127, 128, (DIM, C)).astype(np.int8)
    nodes = [node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=1), *MATMUL]
    path = graph(tmp_path / "t.onnx", nodes, {"q": stored, "s": scales, "z": np.full(C, 3, np.int8)})
    expected = np.array([[(float(stored[d, c]) - 3) * scales[c] for d in range(DIM)] for c in range(C)], np.float32)
    np.testing.assert_allclose(read_head(path).rows.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("to", [TensorProto.FLOAT])
def test_half_precision_weights(tmp_path: Path, to: int) -> None:
    half = ROWS.T.astype(np.float16)
    path = graph(tmp_path / "t.onnx", [node("Cast", ["h"], ["w"], to=to), *MATMUL], {"h": half})
    np.testing.assert_array_equal(read_head(path).rows.numpy(), half.T.astype(np.float32))


def test_weights_in_a_node(tmp_path: Path) -> None:
    constant = node("Constant", [], ["w"], value=numpy_helper.from_array(ROWS.T.copy(), "w"))
    assert read_head(graph(tmp_path / "t.onnx", [constant, *MATMUL], {})).rows.tolist() == ROWS.tolist()


BIAS = {"w": ROWS.T.copy(), "b": np.linspace(0, 1, C).astype(np.float32)}


@pytest.mark.parametrize(
    "after",
    [
        [node("Gemm", ["flat", "w", "b"], ["logits"])],
        [node("MatMul", ["flat", "w"], ["x"]), node("Add", ["b", "x"], ["logits"])],
    ],
)
def test_a_bias_is_refused_unless_the_layer_is_named(tmp_path: Path, after: list[Any]) -> None:
    path = graph(tmp_path / "t.onnx", after, BIAS)
    with pytest.raises(UserError, match=r"without a bias, found w .*--key w"):
        read_head(path)
    head = read_head(path, key="w")
    np.testing.assert_array_equal(head.rows.numpy(), ROWS)
    assert "the layer's bias was left out" in head.notes


NARROW = {"w": ROWS[: DIM - 4].T.copy()}


def test_an_embedder_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(NoHeadError, match="it is an embedder"):
        read_head(write_graph(tmp_path / "e.onnx"))
    narrow = graph(tmp_path / "n.onnx", MATMUL, NARROW, DIM - 4)
    with pytest.raises(NoHeadError, match=r"more rows than columns .*found w \[16, 12\], which may make the embedding"):
        read_head(narrow)
    with pytest.raises(NoHeadError, match="a last layer of 100 rows"):
        read_head(narrow, count=100)
    # More columns than the tensor before is not enough when the data says another number.
    with pytest.raises(NoHeadError, match="a last layer of 100 rows"):
        read_head(graph(tmp_path / "w.onnx", MATMUL, {"w": ROWS.T.copy()}), count=100)
    for options in ({"count": DIM - 4}, {"key": "w"}):
        np.testing.assert_array_equal(read_head(narrow, **options).rows.numpy(), ROWS[: DIM - 4])  # type: ignore[arg-type]


def test_a_classifier_of_other_identities_is_refused(tmp_path: Path) -> None:
    path = graph(tmp_path / "t.onnx", *CHAINS["softmax"][:2])
    with pytest.raises(UserError, match="each of 100 identities, found 40 rows") as caught:
        read_head(path, count=100)
    assert not isinstance(caught.value, NoHeadError)


@pytest.mark.parametrize(
    "after",
    [
        [node("MatMul", ["flat", "w"], ["x"]), node("Relu", ["x"], ["logits"])],
        [node("MatMul", ["flat", "w"], ["x"]), node("Mul", ["x", "minus"], ["logits"])],
        [node("MatMul", ["flat", "w"], ["x"]), node("Mul", ["x", "each"], ["logits"])],
        [node("MatMul", ["flat", "w"], ["x"]), node("Div", ["s", "x"], ["logits"])],
        [node("MatMul", ["flat", "w"], ["x"]), node("Add", ["x", "x"], ["logits"])],
        [node("Gemm", ["flat", "w"], ["logits"], alpha=-1.0)],
        [node("Relu", ["w"], ["v"]), node("MatMul", ["flat", "v"], ["logits"])],
        [node("Transpose", ["flat"], ["t"]), node("MatMul", ["t", "flat"], ["logits"])],
    ],
)
def test_other_ends_are_not_guessed_at(tmp_path: Path, after: list[Any]) -> None:
    constants = {"w": ROWS.T.copy(), "minus": np.array(-1, np.float32), "each": np.ones(C, np.float32), **SCALE}
    with pytest.raises(NoHeadError, match="it is an embedder"):
        read_head(graph(tmp_path / "t.onnx", after, constants), count=C)


def test_two_classifiers_are_asked_for(tmp_path: Path) -> None:
    second = helper.make_tensor_value_info("other", TensorProto.FLOAT, ["n", C])
    path = write_graph(
        tmp_path / "t.onnx",
        after=[*MATMUL, node("MatMul", ["flat", "v"], ["other"])],
        constants={"w": ROWS.T.copy(), "v": -ROWS.T.copy()},
        output=("logits", ["n", C]),
        extra_outputs=[second],
    )
    with pytest.raises(UserError, match=r"found several: w \[16, 40\], v \[16, 40\]; name one"):
        read_head(path)
    np.testing.assert_array_equal(read_head(path, key="v").rows.numpy(), -ROWS)
    with pytest.raises(UserError, match="to have the weight 'u', found w"):
        read_head(path, key="u")


def test_a_constant_that_grows_is_not_computed(tmp_path: Path) -> None:
    # [1, n] times [n, 1] would be far larger than anything in the file.
    long = np.ones((1, 30_000), np.float32)
    nodes = [node("Mul", ["a", "b"], ["w"]), node("MatMul", ["flat", "w"], ["logits"])]
    with pytest.raises(NoHeadError):
        read_head(graph(tmp_path / "t.onnx", nodes, {"a": long, "b": long.T.copy()}))
    doubled = [node("Add", [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(200)]
    nodes = [*doubled, node("MatMul", ["flat", "x200"], ["logits"])]
    with pytest.raises(NoHeadError):
        read_head(graph(tmp_path / "t.onnx", nodes, {"x0": ROWS.T.copy()}))


def test_a_graph_in_a_circle_ends(tmp_path: Path) -> None:
    path = graph(tmp_path / "t.onnx", MATMUL, {"w": ROWS.T.copy()})
    model = onnx.load(str(path))
    model.graph.node.append(node("Identity", ["b"], ["a"]))
    model.graph.node.append(node("Identity", ["a"], ["b"]))
    model.graph.output[0].name = "a"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(NoHeadError):
        read_head(path)
    del model.graph.initializer[:]
    model.graph.node.append(node("Identity", ["a"], ["w"]))
    model.graph.output[0].name = "logits"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(NoHeadError):
        read_head(path)
