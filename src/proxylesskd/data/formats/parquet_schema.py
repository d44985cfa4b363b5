"""Which columns of a Parquet file hold the images and their labels, and what the labels are called."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proxylesskd.errors import UserError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = b"huggingface"


@dataclass(frozen=True)
class Columns:
    """What to read of a file.

    Attributes:
        image: column of the images.
        leaf: its path down to the bytes, as Parquet spells it.
        label: column of the labels.
        named: labels are text, the identity's own name.
        names: what the numbers mean; None where nobody says.
    """

    image: str
    leaf: str
    label: str
    named: bool
    names: tuple[str, ...] | None


def _is_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind))


def _leaf(field: pa.Field) -> str | None:
    """Return the path to the bytes of an image column, None for any other column."""
    import pyarrow.types as types

    if _is_bytes(field.type):
        return str(field.name)
    if not types.is_struct(field.type):
        return None
    inner = [field.type.field(i) for i in range(field.type.num_fields)]
    return f"{field.name}.bytes" if any(f.name == "bytes" and _is_bytes(f.type) for f in inner) else None


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what the datasets library noted about the columns, or nothing where it did not."""
    try:
        features = json.loads((schema.metadata or {})[METADATA])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {str(name): told for name, told in features.items() if isinstance(told, dict)}


def _choose(what: str, option: str, asked: str | None, marked: list[str], candidates: list[str], path: str) -> str:
    """Return the column asked for, or the only one that is marked, or the only one of the right type."""
    if asked is not None:
        if asked not in candidates:
            there = ", ".join(candidates)[:200] or "none"
            raise UserError(
                f"expected a column of {what} named '{asked}' in '{path}', found {there}{nearest(asked, candidates)}"
            )
        return asked
    for found in (marked, candidates):
        if len(found) == 1:
            return found[0]
    listed = ", ".join(candidates[:10])
    mend = f"; choose by ?{option}={candidates[0]}" if candidates else ""
    raise UserError(f"expected one column of {what} in '{path}', found {listed[:200] or 'none'}{mend}")


def _names(told: dict[str, Any], path: str) -> tuple[str, ...] | None:
    names = told.get("names") if told.get("_type") == "ClassLabel" else None
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"expected a list of names for the labels in the metadata of '{path}', found something else")
    if len(set(names)) != len(names):
        raise UserError(f"expected each name of a label once in the metadata of '{path}', found one twice")
    return tuple(names)


def choose_columns(schema: pa.Schema, path: str, image: str | None = None, label: str | None = None) -> Columns:
    """Find the columns by type: the one of images, and the one of whole numbers or text that says who it is.

    Where several have the type, the one that the ``datasets`` library marked as Image or ClassLabel is taken.

    Args:
        schema: of the file.
        path: of the file, for messages.
        image: the image column, if the user says.
        label: the label column, if the user says.

    Raises:
        UserError: there is none or more than one (named in the message), or the one asked for is no such column.
    """
    features = _features(schema)
    leaves = {field.name: leaf for field in schema if (leaf := _leaf(field))}
    labels = {field.name: field.type for field in schema if _is_number(field.type) or _is_text(field.type)}

    def marked(kind: str, among: list[str]) -> list[str]:
        return [name for name in among if features.get(name, {}).get("_type") == kind]

    chosen = _choose("images", "image", image, marked("Image", list(leaves)), list(leaves), path)
    who = _choose("labels", "label", label, marked("ClassLabel", list(labels)), list(labels), path)
    named = _is_text(labels[who])
    return Columns(chosen, leaves[chosen], who, named, None if named else _names(features.get(who, {}), path))
