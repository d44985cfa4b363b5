"""From any source to any format on disk, the encoded images byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from proxylesskd.data.formats.folder import FolderSource
from proxylesskd.data.formats.resumable import Progress
from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import Source, open_source
from proxylesskd.errors import UserError, nearest


class Writer(Protocol):
    """Writes a source in one format."""

    def __call__(self, source: Source, path: Path, *, progress: Progress | None = None) -> Written:
        """Write ``source`` to ``path``."""
        ...


# Scheme -> module and function, imported when it is needed: pyarrow and lmdb need not be installed.
WRITERS = {
    "folder": ("folder", "write_folder"),
    "rec": ("recordio", "write_record"),
    "wds": ("webdataset", "write_webdataset"),
    "parquet": ("parquet", "write_parquet"),
    "lmdb": ("lmdb", "write_lmdb"),
    "csv": ("listing", "write_list"),
}

# Suffixes of files that somebody may expect to be made; what is made are folders.
FILES = (".csv", ".lmdb", ".mdb", ".parquet", ".rec", ".tar", ".tsv")


def split_target(out: str) -> tuple[str, Path]:
    """Return scheme and path of a URI that can be written.

    Raises:
        UserError: there is no scheme, one that is not known, or no path.
    """
    scheme, colon, where = out.partition(":")
    if colon and scheme in WRITERS and where:
        return scheme, Path(where)
    hint = nearest(scheme, WRITERS) if colon else "; OUT is a folder to make"
    raise UserError(f"expected where to write as {', '.join(f'{name}:OUT' for name in WRITERS)}, found '{out}'{hint}")


def bare_target(out: str) -> str:
    """Return the URI to write, where a path without a scheme means ``rec:`` unless its suffix says something else."""
    return out if ":" in out or Path(out).suffix in FILES else f"rec:{out}"


def convert(
    source: Source | str, out: str, *, progress: Callable[[int, int], None] | None = None, overwrite: bool = False
) -> Written:
    """Write a source in another format.

    Bytes of images, their order within an identity, labels and the order of the identities stay; so do names, but for
    ``rec:``, which has numbers in their place. Identities without images are left out, and so are images that cannot
    be read. A conversion that was killed goes on where it was when it is asked for again.

    Args:
        source: labelled faces or their URI.
        out: ``folder:OUT``, ``rec:OUT``, ``wds:OUT``, ``parquet:OUT``, ``lmdb:OUT`` or ``csv:OUT``: a folder to make.
        progress: called with (images dealt with, images).
        overwrite: replace a set of the same format that stands there, once the new one is complete.

    Raises:
        UserError: the scheme is not known, something stands there, the two places lie within each other, the source
            cannot be opened, or no image can be read.
    """
    scheme, path = split_target(out)
    opened = open_source(source) if isinstance(source, str) else source
    _check_apart(opened, path)
    module, name = WRITERS[scheme]
    write = cast(Writer, getattr(import_module(f"proxylesskd.data.formats.{module}"), name))
    if not (overwrite and path.exists()):
        return write(opened, path, progress=progress)
    return _replace(scheme, path, lambda fresh: write(opened, fresh, progress=progress))


def _check_apart(source: Source, path: Path) -> None:
    """Refuse to write over the folder that is read or one that holds it, or among its identities."""
    root = getattr(source, "root", None)
    if root is None:
        return
    here, there = Path(root).resolve(), path.resolve()
    if here == there or there in here.parents or (isinstance(source, FolderSource) and here in there.parents):
        raise UserError(f"expected a place apart from the source at '{root}', found '{path}'; write elsewhere")


def _replace(scheme: str, path: Path, write: Callable[[Path], Written]) -> Written:
    try:
        open_source(f"{scheme}:{path}")
    except UserError as error:
        raise UserError(f"expected a set to replace at '{path}', found something else: {error}") from error
    if path.is_symlink() or not path.is_dir():
        raise UserError(f"expected a folder to replace at '{path}', found a file or a link; remove it yourself")
    fresh, old = (path.with_name(f"{path.name}.{word}") for word in ("new", "old"))
    written = write(fresh)
    path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old)
    return written
