"""The seam of the data: where encoded face images and their identities come from.

A source is opened by a URI ``scheme:where``; a bare path to a folder is taken as ``folder:``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, nearest
from proxylesskd.own import import_own


class Source(Protocol):
    """Labelled, encoded, aligned faces with random access.

    Attributes:
        identities: one name per identity; the label of an image is an index into it.
        labels: ``[N] int64``, the label of every image, known without reading images.
    """

    # Properties, so that a source may hold them or work them out: whoever reads them in a loop keeps them.
    @property
    def identities(self) -> Sequence[str]:
        """Return one name per identity."""
        ...

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return ``[N] int64``, the label of every image."""
        ...

    def __len__(self) -> int:
        """Return the number of images N."""
        ...

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes (JPEG, PNG, …) and the label of image ``index``."""
        ...

    def name(self, index: int) -> str:
        """Return what a person would call image ``index``: a relative path or a record number."""
        ...


def _folder(where: str) -> Source:
    from proxylesskd.data.formats.folder import FolderSource

    return FolderSource(Path(where))


def _rec(where: str) -> Source:
    from proxylesskd.data.formats.recordio import RecordSource

    return RecordSource(Path(where))


def _parquet(where: str) -> Source:
    from proxylesskd.data.formats.parquet import ParquetSource

    return ParquetSource.parse(where)


def _csv(where: str) -> Source:
    from proxylesskd.data.formats.listing import ListSource

    return ListSource.parse(where)


def _join(where: str) -> Source:
    from proxylesskd.data.join_uri import parse_join

    return parse_join(where)


def _wds(where: str) -> Source:
    from proxylesskd.data.formats.webdataset import WebDatasetSource

    return WebDatasetSource(where)


def _lmdb(where: str) -> Source:
    from proxylesskd.data.formats.lmdb import LmdbSource

    return LmdbSource(Path(where))


def _synthetic(where: str) -> Source:
    from proxylesskd.synthetic.source import SyntheticSource

    return SyntheticSource.parse(where)


def _python(where: str) -> Source:
    module, _, rest = where.partition(":")
    function, _, what = rest.partition(":")
    source: Source = import_own(f"{module}:{function}")(what)
    return source


SCHEMES: dict[str, Callable[[str], Source]] = {
    "folder": _folder,
    "rec": _rec,
    "parquet": _parquet,
    "csv": _csv,
    "join": _join,
    "wds": _wds,
    "lmdb": _lmdb,
    "synthetic": _synthetic,
    "python": _python,
}


FILES = {".rec": "rec", ".tar": "wds", ".mdb": "lmdb", ".parquet": "parquet", ".csv": "csv", ".tsv": "csv"}
WITHIN = {"train.rec": "rec", "data.mdb": "lmdb", "faces.csv": "csv"}


def _kind(path: Path) -> str | None:
    """Return the scheme of what stands at a path, or None if nothing usable does."""
    if path.is_file():
        return FILES.get(path.suffix.lower())
    if not path.is_dir():
        return None
    told = next((scheme for name, scheme in WITHIN.items() if (path / name).is_file()), None)
    if told is not None or any(entry.is_dir() for entry in path.iterdir()):
        return told or "folder"
    return next((FILES[f.suffix] for f in sorted(path.iterdir()) if f.suffix in (".rec", ".tar", ".parquet")), "folder")


def open_source(uri: str) -> Source:
    """Open labelled faces by URI.

    Args:
        uri: ``folder:PATH`` (one folder per identity), ``rec:PATH`` (InsightFace's train.rec, with or without
            train.idx, or any .rec), ``wds:PATH`` (tars of WebDataset), ``parquet:PATH``, ``lmdb:PATH``, ``csv:PATH``
            (a list of paths and labels), ``join:…`` (several of them),
            ``synthetic:identities=200,images=20,seed=0``, ``python:package.module:function:WHERE`` (a source of one's
            own, ``function(WHERE)``), or a bare path, whose kind is told by what stands there.

    Raises:
        UserError: the scheme is unknown, nothing usable stands at the path, or the system refuses to read it.
    """
    try:
        return _opened(uri)
    except OSError as error:  # no permission, a name that is too long, a file that went away
        raise UserError(f"expected a source at '{uri}' that can be read, found: {error}") from error


def _opened(uri: str) -> Source:
    scheme, colon, where = uri.partition(":")
    if colon and scheme in SCHEMES:
        return SCHEMES[scheme](where)
    if (kind := _kind(Path(uri))) is not None:
        return SCHEMES[kind](uri)
    if colon:
        hint = nearest(scheme, SCHEMES)
        raise UserError(f"expected a source like {', '.join(s + ':…' for s in SCHEMES)}, found '{uri}'{hint}")
    raise UserError(f"expected a folder of faces, found nothing at '{uri}'; give an existing path or a source URI")
