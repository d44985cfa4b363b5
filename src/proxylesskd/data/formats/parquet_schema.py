"""Which columns of a Parquet file hold the images and their labels, and what the labels are called."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from proxylesskd.data.formats.parquet_footer import Footer, Leaf
from proxylesskd.errors import UserError, nearest

METADATA = b"huggingface"


@dataclass(frozen=True)
class Columns:
    """What to read of a file.

    Attributes:
        image: name of the image column.
        label: name of the label column.
        image_leaf: place of the images' bytes among the columns of the file.
        label_leaf: place of the labels.
        named: labels are text, the identity's own name.
        names: what the numbers mean; None where nobody says.
    """

    image: str
    label: str
    image_leaf: int
    label_leaf: int
    named: bool
    names: tuple[str, ...] | None

    def like(self, other: Columns) -> bool:
        """Return whether the labels of two files mean the same."""
        return (self.named, self.names) == (other.named, other.names)


def _is_image(leaf: Leaf) -> bool:
    """Return whether it is bytes, by themselves or as ``bytes`` of a struct."""
    return leaf.kind == "bytes" and not leaf.repeated and leaf.path[1:] in ((), ("bytes",))


def _is_label(leaf: Leaf) -> bool:
    return leaf.kind in ("number", "text") and not leaf.repeated and len(leaf.path) == 1


def _features(metadata: dict[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """Return what the datasets library noted about the columns, or nothing where it did not."""
    try:
        features = json.loads(metadata[METADATA])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: told for name, told in features.items() if isinstance(told, dict)}


def _choose(what: str, option: str, asked: str | None, marked: list[str], candidates: list[str], path: str) -> str:
    """Return the column asked for, or the only one that is marked, or the only one of the right type."""
    there = ", ".join(candidates)[:200] or "none"
    if asked is not None:
        if asked not in candidates:
            raise UserError(
                f"expected a column of {what} named '{asked}' in '{path}', found {there}{nearest(asked, candidates)}"
            )
        return asked
    for found in (marked, candidates):
        if len(found) == 1:
            return found[0]
    mend = f"; choose by ?{option}={candidates[0]}" if candidates else ""
    raise UserError(f"expected one column of {what} in '{path}', found {there}{mend}")


def _names(told: dict[str, Any], path: str) -> tuple[str, ...] | None:
    names = told.get("names") if told.get("_type") == "ClassLabel" else None
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"expected a list of names for the labels in the metadata of '{path}', found something else")
    if len(set(names)) != len(names):
        raise UserError(f"expected each name of a label once in the metadata of '{path}', found one twice")
    return tuple(names)


def choose_columns(footer: Footer, path: str, image: str | None = None, label: str | None = None) -> Columns:
    """Find the columns by type: the one of images, and the one of whole numbers or text that says who it is.

    Where several have the type, the one that the ``datasets`` library marked as Image or ClassLabel is taken.

    Args:
        footer: of the file.
        path: of the file, for messages.
        image: the image column, if the user says.
        label: the label column, if the user says.

    Raises:
        UserError: there is none or more than one (named in the message), or the one asked for is no such column.
    """
    features = _features(footer.metadata)
    images = {leaf.path[0]: place for place, leaf in enumerate(footer.leaves) if _is_image(leaf)}
    labels = {leaf.path[0]: place for place, leaf in enumerate(footer.leaves) if _is_label(leaf)}

    def marked(kind: str, among: dict[str, int]) -> list[str]:
        return [name for name in among if features.get(name, {}).get("_type") == kind]

    photo = _choose("images", "image", image, marked("Image", images), list(images), path)
    who = _choose("labels", "label", label, marked("ClassLabel", labels), list(labels), path)
    named = footer.leaves[labels[who]].kind == "text"
    return Columns(
        photo, who, images[photo], labels[who], named, None if named else _names(features.get(who, {}), path)
    )
