"""The saved wrong pairs, read back with their pictures as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxylesskd.errors import UserError
from proxylesskd.export.run_folder import read_json
from proxylesskd.report.wrong_pairs import FOLDER, LIST

LARGEST_PICTURE = 1024 * 1024


def read_wrong_pairs(folder: Path) -> dict[str, Any] | None:
    """Return the saved wrong pairs with their pictures inlined, or None when none were saved.

    Raises:
        UserError: the list is malformed, or a picture is missing, too large or no JPEG.
    """
    path = folder / FOLDER / LIST
    told = read_json(path)
    if told is None:
        return None
    try:
        pairs = [(bool(entry["same"]), _picture_pair(path, entry)) for entry in told["pairs"]]
        caption = (
            f"{told['model']} at threshold {told['threshold']:.3f}. The number is the similarity; "
            "a pair at or above the threshold counts as the same person."
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"expected the list of wrong pairs in {path}, found {error!r}; evaluate again") from error
    kinds = [
        {"title": "Different people taken for one", "pairs": [pair for same, pair in pairs if not same]},
        {"title": "One person taken for two", "pairs": [pair for same, pair in pairs if same]},
    ]
    return {"caption": caption, "kinds": kinds}


def _picture_pair(path: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    first, second = (inline_jpeg(path, name) for name in entry["files"])
    names = [str(name) for name in entry["names"]]
    if len(names) != 2:
        raise ValueError(f"{len(names)} names for two pictures")
    return {"first": first, "second": second, "names": names, "score": f"{entry['score']:.3f}"}


def inline_jpeg(path: Path, name: str) -> str:
    """Return a JPEG that stands beside ``path`` as a data URI."""
    if Path(name).name != name:
        raise UserError(f"expected file names without folders in {path}, found '{name}'; evaluate again")
    picture = path.with_name(name)
    data = picture.read_bytes() if picture.is_file() and picture.stat().st_size <= LARGEST_PICTURE else b""
    if not data.startswith(b"\xff\xd8\xff"):
        raise UserError(f"expected a JPEG of at most 1 MiB at {picture}, found none; evaluate again")
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
