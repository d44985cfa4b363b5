"""The folder of a page that compares photos: the page, the student, a detector and the engine that runs them."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

from proxylesskd.export.contract import contract_of, open_session
from proxylesskd.photos.detect import find_model
from proxylesskd.web.detector import unpacked
from proxylesskd.web.runtime import FILES, find_runtime

PAGE = ("index.html", "style.css", "app.js", "geometry.js", "student.js", "yunet.js")


def write_page(
    student: str | Path, out: str | Path, *, detector: str | Path | None = None, runtime: str | Path | None = None
) -> Path:
    """Write a folder that any web server can serve; it asks nobody else for anything.

    Args:
        student: an exported ONNX file that takes aligned faces one at a time or more.
        out: the folder; files of an earlier page are replaced.
        detector: YuNet's ONNX file; by default the one that ``PROXYLESSKD_YUNET`` names.
        runtime: folder of an unpacked onnxruntime-web; by default npm fetches it once.

    Returns:
        The path of ``index.html``.

    Raises:
        UserError: a file is missing or is not what it should be.
    """
    student, out = Path(student), Path(out)
    contract = contract_of(open_session(student), student)
    found = find_model(detector)
    network = unpacked(found)
    dist = find_runtime(None if runtime is None else Path(runtime))
    (out / "ort").mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(dist / name, out / "ort" / name)
    for name in PAGE:
        (out / name).write_bytes(files("proxylesskd.web").joinpath("page", name).read_bytes())
    shutil.copyfile(student, out / "student.onnx")
    (out / "detector.onnx").write_bytes(network)
    told = contract.to_dict() | {"name": student.stem}
    (out / "contract.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    return out / "index.html"
