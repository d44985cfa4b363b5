"""The nearest rows of every row of a frozen classifier, found once: the rows never move, so neither do they.

The search is exact, in blocks, and streams its result to disk: beyond the rows themselves it needs memory for one
block of cosines. It costs ``2 C² D`` operations: for 1,000,000 rows of 512 about 1 PFLOP, which is some hours on two
CPU cores and seconds on a GPU; for 100,000 rows a hundredth of that.

A table is a folder: ``rows.npy [C, k] int32``, ``cosines.npy [C, k] float16`` and ``nearest.json``, which says of which
rows it is. It appears under its name when it is complete; an interrupted search goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.rows import Rows, block
from proxylesskd.progress import track

FORMAT = "proxylesskd-nearest-1"
QUERIES = 1024  # rows at a time on one side …
CANDIDATES = 16384  # … and on the other: [1024, 16384] float32 cosines are 64 MiB
DUPLICATE = 0.7  # cosine from which two rows are, in all likelihood, the same person


@dataclass(frozen=True)
class NearestRows:
    """Every row's nearest rows, the nearest first, itself left out.

    Attributes:
        rows: ``[C, k] int32`` in [0, C); memory-mapped where it comes from a folder.
        cosines: ``[C, k] float16`` in [-1, 1], descending.
        fingerprint: of the rows that were searched.
    """

    rows: npt.NDArray[np.int32]
    cosines: npt.NDArray[np.float16]
    fingerprint: str

    @property
    def count(self) -> int:
        """Number of rows C."""
        return int(self.rows.shape[0])

    @property
    def k(self) -> int:
        """Neighbours a row."""
        return int(self.rows.shape[1])

    def first(self, k: int) -> NearestRows:
        """Return the table of the ``k`` nearest alone, of all where there are fewer; nothing is copied."""
        return replace(self, rows=self.rows[:, :k], cosines=self.cosines[:, :k])

    def duplicates(self, threshold: float = DUPLICATE) -> npt.NDArray[np.int64]:
        """Return ``[P, 2]`` pairs (row, duplicate): those among the k nearest whose cosine reaches the threshold."""
        found = []
        for start in range(0, self.count, CANDIDATES):
            own, column = np.nonzero(self.cosines[start : start + CANDIDATES] >= threshold)
            found.append(np.stack([own + start, self.rows[own + start, column].astype(np.int64)], axis=1))
        return np.concatenate(found)

    @classmethod
    def load(cls, folder: str | Path, fingerprint: str | None = None) -> NearestRows:
        """Open the table that :func:`find_nearest` left in a folder.

        Args:
            folder: where it is.
            fingerprint: of the rows that it must belong to, or None for any.

        Raises:
            UserError: there is none, it is damaged, or it was made of other rows.
        """
        folder = Path(folder)
        said = _read_state(folder)
        if said is None:
            raise UserError(
                f"expected a complete table of nearest rows in '{folder}', found none; let find_nearest make one in a "
                "folder that does not exist yet"
            )
        if fingerprint is not None and said["fingerprint"] != fingerprint:
            raise UserError(
                f"expected the nearest rows of the classifier {fingerprint}, found those of {said['fingerprint']} in "
                f"'{folder}'; remove that folder or name another one"
            )
        rows, cosines = _open_arrays(folder, (said["count"], said["k"]), "r")
        return cls(rows, cosines, said["fingerprint"])


def find_nearest(
    rows: Rows,
    k: int,
    folder: str | Path | None = None,
    *,
    fingerprint: str | None = None,
    device: torch.device | str | None = None,
    queries: int = QUERIES,
    candidates: int = CANDIDATES,
    progress: bool = False,
) -> NearestRows:
    """Find every row's ``k`` nearest rows by cosine, exactly, or open the table that is there already.

    Args:
        rows: ``[C >= 2, D]`` unit rows in any storage, possibly memory-mapped; searched without residuals.
        k: neighbours a row, >= 1; all others where there are fewer.
        folder: where the table is, or will be; None keeps it in memory.
        fingerprint: what names the rows, such as a classifier's fingerprint; a hash of the rows unless given.
        device: where to multiply; where the rows are unless given.
        queries: rows at a time; the memory beyond the rows is about ``4 queries (candidates + 2 k)`` bytes and the two
            blocks of rows.
        candidates: rows that they meet at a time.
        progress: draw a progress bar.

    Raises:
        UserError: k is not positive, there is only one row, or the folder holds the table of other rows, a smaller
            one, or something else.
    """
    if k < 1 or rows.shape[0] < 2:
        raise UserError(f"expected k >= 1 neighbours among 2 rows or more, found k={k} and {rows.shape[0]} rows")
    k = min(k, rows.shape[0] - 1)
    fingerprint = rows_fingerprint(rows) if fingerprint is None else fingerprint
    search = _Search(rows, k, torch.device(device or rows.device), queries, candidates)
    if folder is None:
        shape = (rows.shape[0], k)
        table = NearestRows(np.empty(shape, np.int32), np.empty(shape, np.float16), fingerprint)
        _fill(search, table, None, 0, progress)
        return table
    folder = Path(folder)
    if not folder.exists():
        _search_into(search, folder, fingerprint, progress)
    table = NearestRows.load(folder, fingerprint)
    if table.k < k:
        raise UserError(f"expected {k} neighbours a row in '{folder}', found {table.k}; remove that folder")
    return table.first(k)


def rows_fingerprint(rows: Rows) -> str:
    """Return a hash of what negatives meet: rows that were rounded to another precision are other rows."""
    digest = hashlib.sha256(str(tuple(rows.shape)).encode())
    for start in range(0, rows.shape[0], CANDIDATES):
        part = block(rows, start, min(start + CANDIDATES, rows.shape[0]), torch.float32)
        digest.update(part.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Search:
    rows: Rows
    k: int
    device: torch.device
    queries: int
    candidates: int

    @torch.no_grad()
    def nearest_of(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return cosines and rows ``[n, k]`` of the nearest of rows ``start … stop - 1``."""
        queries = block(self.rows, start, stop, torch.float32).to(self.device)
        best = queries.new_full((stop - start, self.k), -math.inf)
        where = torch.zeros(best.shape, dtype=torch.int64, device=self.device)
        memory = queries.new_empty(len(queries) * min(self.candidates, self.rows.shape[0]))
        for at in range(0, self.rows.shape[0], self.candidates):
            part = block(self.rows, at, min(at + self.candidates, self.rows.shape[0]), torch.float32).to(self.device)
            cosine = memory[: len(queries) * len(part)].view(len(queries), len(part))
            torch.mm(queries, part.T, out=cosine)  # [n, candidates]
            own = torch.arange(start, stop, device=self.device) - at  # where each query meets itself
            inside = ((own >= 0) & (own < len(part))).nonzero().flatten()
            cosine[inside, own[inside]] = -math.inf
            values, column = cosine.topk(min(self.k, len(part)), dim=1)
            best, kept = torch.cat([best, values], dim=1).topk(self.k, dim=1)
            where = torch.cat([where, column + at], dim=1).gather(1, kept)
        return best, where


def _search_into(search: _Search, folder: Path, fingerprint: str, progress: bool) -> None:
    """Search beside the folder, from where an interrupted search of the same rows stopped; then give it its name."""
    partial = folder.with_name(folder.name + ".partial")
    shape = (search.rows.shape[0], search.k)
    done = _done_before(partial, fingerprint, shape)
    if done == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    table = NearestRows(*_open_arrays(partial, shape, "r+" if done else "w+"), fingerprint)
    _fill(search, table, partial, done, progress)
    partial.rename(folder)


def _done_before(partial: Path, fingerprint: str, shape: tuple[int, int]) -> int:
    """Return how many rows an interrupted search for the same table has finished."""
    said = _read_state(partial, complete=False)
    if said is None or (said["fingerprint"], said["count"], said["k"]) != (fingerprint, *shape):
        return 0
    return int(said["done"])


def _fill(search: _Search, table: NearestRows, partial: Path | None, done: int, progress: bool) -> None:
    """Search the rows from ``done`` on; where the table is on disk, say there how far it has come after every block."""
    starts = range(done, table.count, search.queries)
    for start in track(starts, "searching the nearest rows", quiet=not progress):
        stop = min(start + search.queries, table.count)
        cosines, rows = search.nearest_of(start, stop)
        table.rows[start:stop], table.cosines[start:stop] = rows.cpu().numpy(), cosines.cpu().numpy()
        if partial is not None and isinstance(table.rows, np.memmap) and isinstance(table.cosines, np.memmap):
            table.rows.flush()
            table.cosines.flush()
            said = {"format": FORMAT, "fingerprint": table.fingerprint, "count": table.count, "k": table.k}
            _write_state(partial, said | {"done": stop})


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    (folder / "nearest.json.new").write_text(json.dumps(state), encoding="utf-8")
    (folder / "nearest.json.new").replace(folder / "nearest.json")


def _read_state(folder: Path, complete: bool = True) -> dict[str, Any] | None:
    """Return what ``nearest.json`` says, or None where there is none, none of this format or an incomplete one."""
    try:
        state = json.loads((folder / "nearest.json").read_bytes())
        known = state["format"] == FORMAT and isinstance(state["fingerprint"], str)
        count, k, done = (state[key] for key in ("count", "k", "done"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sizes = all(type(size) is int for size in (count, k, done)) and 0 < k < count and 0 <= done <= count
    return state if known and sizes and (done == count or not complete) else None


def _open_arrays(
    folder: Path, shape: tuple[int, int], mode: Any
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float16]]:
    """Map both arrays of a table.

    Raises:
        UserError: one is missing, damaged, or of another shape or type.
    """
    arrays = []
    for name, dtype in (("rows", np.dtype(np.int32)), ("cosines", np.dtype(np.float16))):
        try:
            array = np.lib.format.open_memmap(folder / f"{name}.npy", mode=mode, dtype=dtype, shape=shape)
        except (OSError, ValueError) as error:
            raise _damaged(folder, name, str(error)) from error
        if array.shape != shape or array.dtype != dtype:
            raise _damaged(folder, name, f"{array.shape} {array.dtype} instead of {shape} {dtype}")
        arrays.append(array)
    return arrays[0], arrays[1]


def _damaged(folder: Path, name: str, found: str) -> UserError:
    return UserError(
        f"expected the array of nearest rows '{folder / name}.npy', found {found}; remove the folder and search anew"
    )
