"""The teacher's own last layer, read out of whatever file a training left.

What a file is is recognised by its structure and its names, and said; what is ambiguous is asked for by option.
Nothing in a file is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from proxylesskd.classifier.choose_head import choose
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.head import (
    Found,
    Head,
    NoHeadError,
    check_values,
    is_transposed,
    join,
    listed,
    matrices_in,
    shown_key,
    tensors_in,
)
from proxylesskd.classifier.keras_head import KERAS, read_keras
from proxylesskd.classifier.numpy_head import NUMPY, read_arrays
from proxylesskd.classifier.onnx_head import read_onnx
from proxylesskd.classifier.padding import without_padding
from proxylesskd.classifier.shards import ShardSet, check_shards, describe_split, read_shards, set_of, shard_sets
from proxylesskd.errors import UserError
from proxylesskd.models.checkpoint import read_content
from proxylesskd.models.weights import existing_file

_OWN = "classifier.safetensors"
# What single files hold, by the end of the tensor's name.
_KINDS = {
    "state_dict_softmax_fc.weight": "InsightFace checkpoint",
    "head.kernel": "AdaFace head",
    "partial_fc.weight": "CVLface PartialFC",
    "center": "class centres",
    "kernel": "kernel",
}


def read_head(
    path: str | Path,
    *,
    key: str | None = None,
    count: int | None = None,
    transposed: bool | None = None,
    dim: int | None = None,
) -> Head:
    """Read the last layer out of a file or out of a folder of shards.

    Known are checkpoints of PyTorch and safetensors (plain tensors, InsightFace, CVLface, AdaFace, TFace and any other
    by ``key``), shards of InsightFace's PartialFC, CVLface and TFace of any number and split, arrays of numpy, whole
    teachers in ONNX that end in the classifier, and Keras weights.

    Args:
        path: the file, a shard of it (its siblings are found), or the folder of the shards.
        key: name of the tensor; needed where more than one could be meant. A named layer is taken without its bias.
        count: the number of identities C, where known: padding is then recognised and removed.
        transposed: whether the tensor stands ``[D, C]``, an identity a column; needed where its name and its shape do
            not say it.
        dim: length D of an embedding, where known.

    Raises:
        NoHeadError: nothing in the file can be a last layer.
        UserError: the file is damaged or carries code, more than one tensor or orientation could be meant, a shard is
            missing, or the number of rows is not ``count``.
    """
    path = Path(path)
    own = own_classifier(path)
    if own is not None:
        classifier = InheritedClassifier.load(own)
        return Head(classifier.rows, "classifier of proxylesskd", "rows", [own.name], 0, list(classifier.identities))
    path = _only_set(path).files[0] if path.is_dir() else existing_file(path)
    group = set_of(path)
    found = read_shards(group, key, count) if group is not None else _read_file(path, key, count, dim)
    return _assemble(found, key=key, count=count, transposed=transposed, dim=dim)


def inherit_from_checkpoint(
    path: str | Path,
    *,
    key: str | None = None,
    identities: Sequence[str] | None = None,
    transposed: bool | None = None,
) -> InheritedClassifier:
    """Take the teacher's own last layer as the classifier.

    Args:
        path: a run folder of ``proxylesskd train``, its ``classifier.safetensors``, or what :func:`read_head` takes.
        key: see :func:`read_head`.
        identities: names of the rows, in their order; foreign files have none, and rows are then called "0", "1", ….
        transposed: see :func:`read_head`.

    Raises:
        UserError: as :func:`read_head`.
    """
    own = own_classifier(Path(path))
    if own is not None:
        return InheritedClassifier.load(own)
    head = read_head(path, key=key, count=None if identities is None else len(identities), transposed=transposed)
    return classifier_of(head, identities)


def classifier_of(head: Head, identities: Sequence[str] | None = None) -> InheritedClassifier:
    """Make a classifier of a last layer; its rows are called "0", "1", … where no names are given.

    Raises:
        UserError: names and rows differ in number, or a row is zero or not finite.
    """
    names = identities if identities is not None else [str(row) for row in range(len(head.rows))]
    provenance = {
        "how": "the checkpoint's own last layer",
        "kind": head.kind,
        "files": head.files,
        "key": head.key,
        "padding_rows_removed": head.padding,
        "notes": head.notes,
    }
    return InheritedClassifier(head.rows, names, provenance)


def own_classifier(path: Path) -> Path | None:
    """Return the file if it is a classifier that this package saved, or the one in a run folder; else None."""
    file = path / _OWN if path.is_dir() else path
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            names = set(tensors.keys())
            return file if "identities" in names and names & {"rows", "codes"} else None
    except (SafetensorError, OSError):
        return None  # whoever reads it says what is wrong with it


def _only_set(folder: Path) -> ShardSet:
    sets = shard_sets(folder)
    if not sets:
        names = ", ".join(shown_key(file.name) for file in sorted(folder.iterdir())[:6]) or "nothing"
        raise NoHeadError(
            f"expected the shards of a last layer in '{folder}', found {names}; give the file that holds it"
        )
    if len(sets) > 1:
        raise UserError(
            f"expected one last layer in '{folder}', found {', '.join(group.shown for group in sets)}; "
            "give a file of the one that is meant"
        )
    return sets[0]


def _read_file(path: Path, key: str | None, count: int | None, dim: int | None) -> Found:
    if path.suffix.lower() == ".onnx":
        return read_onnx(path, key=key, count=count)
    if path.suffix.lower() in KERAS:
        return read_keras(path, key=key, count=count, dim=dim)
    tensors = read_arrays(path) if path.suffix.lower() in NUMPY else tensors_in(read_content(path))
    if not tensors:
        raise NoHeadError(f"expected tensors in '{path}', found none")
    matrices = matrices_in(tensors)
    others = [
        t for t in tensors.values() if t.numel() > 1 and all(t is not m.values and t is not m.bias for m in matrices)
    ]
    matrix = choose(matrices, key=key, count=count, dim=dim, alone=not others)
    kind = next((kind for end, kind in _KINDS.items() if f".{matrix.key}".endswith(f".{end}")), "last layer")
    return Found(kind, [matrix], [path.name])


def _assemble(found: Found, *, key: str | None, count: int | None, transposed: bool | None, dim: int | None) -> Head:
    for matrix, file in zip(found.matrices, found.files, strict=True):
        check_values(matrix, file)
    parts = [(m, is_transposed(m, given=transposed, count=count, dim=dim)) for m in found.matrices]
    notes = [*found.notes, *check_shards(parts, found.files), *_about_bias(found, key)]
    rows = join(parts)
    if dim is not None and rows.shape[1] != dim:
        raise UserError(
            f"expected rows of the embedding's dimension {dim}, found {rows.shape[1]} from {listed(found.matrices)}; "
            "the last layer belongs to another network, or --transposed is wrong"
        )
    kept, removed = without_padding(rows, count, len(parts))
    if removed is not None:
        notes.append(removed)
    kind = f"{found.kind}, {describe_split(parts)}"
    return Head(kept, kind, found.matrices[0].key, found.files, len(rows) - len(kept), None, notes)


def _about_bias(found: Found, key: str | None) -> list[str]:
    """Refuse a layer that adds to its logits, unless it is named: rows alone are not that layer."""
    biased = [m for m in found.matrices if m.bias is not None and bool(m.bias.any())]
    if not biased:
        return []
    if key is None:
        raise UserError(
            f"expected a last layer without a bias, found {biased[0].shown} with one, which a classifier of unit rows "
            f"cannot hold; give --key {shown_key(biased[0].key)} to take its rows all the same, or estimate the rows"
        )
    return ["the layer's bias was left out"]
