"""The engine that runs the model in a browser: onnxruntime-web, as npm gives it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from proxylesskd.errors import UserError

VERSION = "1.30.0"
# One thread and no graphics card: these need no special headers of the server and run everywhere.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
SECONDS = 300


def find_runtime(folder: Path | None = None) -> Path:
    """Return the folder that holds :data:`FILES`.

    Args:
        folder: of an unpacked package onnxruntime-web; by default the one in the user's cache, where npm puts it once.

    Raises:
        UserError: the folder lacks a file, npm is missing, or it could not fetch the package.
    """
    dist = _cached() if folder is None else _dist(folder)
    missing = [name for name in FILES if not (dist / name).is_file()]
    if missing:
        raise UserError(f"expected {', '.join(FILES)} of onnxruntime-web {VERSION} in '{dist}', found no {missing[0]}")
    return dist


def _dist(folder: Path) -> Path:
    return folder / "dist" if (folder / "dist").is_dir() else folder


def _cached() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "proxylesskd" / f"ort-web-{VERSION}"
    dist = cache / "node_modules" / "onnxruntime-web" / "dist"
    if not (dist / FILES[-1]).is_file():
        _fetch(cache)
    return dist


def _fetch(cache: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"expected npm, to fetch onnxruntime-web {VERSION}, found none; install it, or name the unpacked package "
            "by --runtime"
        )
    cache.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(cache), "--ignore-scripts", "--no-audit", f"onnxruntime-web@{VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"expected npm to fetch onnxruntime-web within {SECONDS} s, found it unfinished") from error
    if done.returncode:
        raise UserError(f"expected npm to fetch onnxruntime-web {VERSION}, found: {done.stderr.strip()[-300:]}")
