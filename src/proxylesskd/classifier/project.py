"""Projecting: an inherited classifier for a student that is smaller in dimension than the teacher.

One linear map takes rows and teacher embeddings alike into the smaller space. It is stored with the classifier, so that
the teacher's gallery can follow and a student of 128 dimensions still searches what a teacher of 512 enrolled.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.atomic import write_atomically
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError, nearest
from proxylesskd.models.weights import existing_file

PROJECTION_FILE = "projection.safetensors"
HOWS = ("cosine", "principal", "truncation", "random")

CHUNK = 1 << 16  # rows at a time where all of them are summed
BLOCK = 512  # rows whose cosines with each other make one step, [512, 512]
FLOOR = 0.1  # cosine below which all pairs count alike; about the spread of unlike identities
HELD_OUT = 0.1  # share of the rows whose cosines decide whether the refinement is kept
EXACT = 1e-4  # a change of cosines that nobody sees: there is nothing to refine
RANK = 1e-10  # an eigenvalue that is this much smaller than the largest is rounding


def fit_projection(
    rows: Tensor, dim: int, *, how: str = "cosine", steps: int = 100, lr: float = 3e-3, seed: int = 0
) -> Tensor:
    """Return the linear map to a smaller dimension after which the rows' cosines are best kept.

    ``"principal"`` takes the uncentred principal directions of the unit rows, which keep inner products best of all
    maps of this rank (Eckart and Young 1936). Cosines are taken after the projected vectors are normalised again, so
    ``"cosine"`` goes on from there and minimises the weighted mean of ``(cos(Pᵀr_i, Pᵀr_j) - r_i·r_j)²`` over pairs
    ``i ≠ j`` in blocks of rows, see :func:`lost_cosines`; what it finds is kept where it is better on rows it has not
    seen. ``"truncation"`` (the first dimensions) and ``"random"`` (orthonormal columns) are there to be compared with.

    Args:
        rows: ``[C, T]`` floating point, normalised here.
        dim: of the smaller space, in [1, T).
        how: ``"cosine"``, ``"principal"``, ``"truncation"`` or ``"random"``.
        steps: of the refinement.
        lr: of its optimiser, Adam.
        seed: of blocks, held-out rows and random directions: equal seeds give equal maps.

    Returns:
        ``[T, dim] float32`` on the CPU; ``F.normalize(x @ P, dim=1)`` projects.

    Raises:
        UserError: ``dim`` is not below T or above the rank of the rows, or ``how`` is unknown.
    """
    _check(rows, dim, how)
    rows = F.normalize(rows.detach().cpu().float(), dim=1)
    generator = torch.Generator().manual_seed(seed)
    width = rows.shape[1]
    if how == "truncation":
        return torch.eye(width)[:, :dim].contiguous()
    if how == "random":
        drawn = torch.randn(width, dim, generator=generator, dtype=torch.float64)
        orthonormal: Tensor = torch.linalg.qr(drawn).Q.float()
        return orthonormal
    start = _principal(rows, dim)
    return start if how == "principal" else _refine(rows, start, steps=steps, lr=lr, generator=generator)


def cosine_error(rows: Tensor, projection: Tensor, against: Tensor | None = None) -> float:
    """Return the root mean square of what a projection changes in the cosines of pairs of rows.

    Args:
        rows: ``[N, T]`` unit rows.
        projection: ``[T, dim]``.
        against: ``[M, T]`` unit rows to pair all rows with; unless given, all pairs of two different rows are taken.

    Returns:
        A difference of cosines, in [0, 2].
    """
    others = rows if against is None else against
    small, small_others = F.normalize(rows @ projection, dim=1), F.normalize(others @ projection, dim=1)
    total = 0.0
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        lost = small[part] @ small_others.T - rows[part] @ others.T  # [b, M]
        total += float(lost.square().sum(dtype=torch.float64))
    pairs = len(rows) * len(others) - (len(rows) if against is None else 0)  # a row with itself loses nothing
    return float((total / max(1, pairs)) ** 0.5)


def project(classifier: InheritedClassifier, dim: int, *, how: str = "cosine", seed: int = 0) -> InheritedClassifier:
    """Return the classifier for a student of a smaller dimension, with the map that takes the teacher there.

    Args:
        classifier: rows of dimension D; where they are projected already, the maps are composed.
        dim: of the student, in [1, D).
        how: see :func:`fit_projection`.
        seed: of the fit.

    Returns:
        Projected rows, normalised again; ``projection`` is ``[T, dim]`` from the teacher's own dimension T, and
        ``provenance["projected"]`` lists every step with the error of the cosines of (at most 2,048 of) its rows.

    Raises:
        UserError: as :func:`fit_projection`.
    """
    rows = classifier.rows.cpu()
    fitted = fit_projection(rows, dim, how=how, seed=seed)
    chosen = _sample(len(rows), 4 * BLOCK, torch.Generator().manual_seed(seed))
    step = {
        "from_dim": classifier.dim,
        "to_dim": dim,
        "how": how,
        "seed": seed,
        "cosine_rms_error": round(cosine_error(rows[chosen], fitted), 5),
    }
    earlier = classifier.provenance.get("projected")
    steps = [*(earlier if isinstance(earlier, list) else []), step]
    # The length between two maps does not matter: the cosine forgets it.
    whole = fitted if classifier.projection is None else classifier.projection.cpu() @ fitted
    provenance = {**classifier.provenance, "projected": steps}
    return InheritedClassifier(F.normalize(rows @ fitted, dim=1), classifier.identities, provenance, whole)


def save_projection(folder: str | Path, classifier: InheritedClassifier) -> Path | None:
    """Write the classifier's projection into a run folder as ``projection.safetensors``.

    Args:
        folder: the run folder.
        classifier: the one that the run is trained with.

    Returns:
        The file, or None where the classifier was not projected; one that an earlier attempt left is then removed.
    """
    import safetensors.torch

    path = Path(folder) / PROJECTION_FILE
    if classifier.projection is None:
        path.unlink(missing_ok=True)
        return None
    write_atomically(path, safetensors.torch.save({"projection": classifier.projection.cpu().contiguous()}))
    return path


def load_projection(folder: str | Path) -> Tensor | None:
    """Return ``[T, D] float32``, the projection of a run folder or of a classifier file; None where there is none.

    Args:
        folder: a run folder, its ``projection.safetensors``, or a classifier file.

    Raises:
        UserError: nothing stands there, or the file is damaged or holds another kind of tensor.
    """
    path = Path(folder)
    if path.is_dir():
        path = path / PROJECTION_FILE
        if not path.exists():
            return None
    found = _read(path)
    if found is not None and (found.ndim != 2 or not found.is_floating_point()):
        raise UserError(f"expected a projection [T, D] in '{path}', found {list(found.shape)} {found.dtype}")
    return None if found is None else found.float()


def _read(path: Path) -> Tensor | None:
    """Return the projection alone: the rows beside it in a classifier file may be gigabytes."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(existing_file(path), framework="pt") as file:
            return file.get_tensor("projection") if "projection" in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"expected a safetensors file at '{path}', found: {error}") from error


def _check(rows: Tensor, dim: int, how: str) -> None:
    if how not in HOWS:
        raise UserError(f"expected a projection by {', '.join(HOWS)}, found '{how}'{nearest(how, HOWS)}")
    if rows.ndim != 2 or not rows.is_floating_point():
        raise UserError(f"expected floating-point rows [C, T], found {list(rows.shape)} {rows.dtype}")
    if not 1 <= dim < rows.shape[1]:
        raise UserError(
            f"expected a dimension from 1 to {rows.shape[1] - 1}, below that of the rows, found {dim}; "
            "a student of the same dimension needs no projection"
        )


def _principal(rows: Tensor, dim: int) -> Tensor:
    """Return the ``[T, dim]`` directions that hold most of the rows' length, the strongest first."""
    second = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)  # [T, T]
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK].double()
        second += part.T @ part
    values, vectors = torch.linalg.eigh(second)  # ascending
    rank = int((values > RANK * values[-1]).sum())
    if rank < dim:
        raise UserError(
            f"expected rows that fill {dim} dimensions, found {len(rows)} rows that fill {rank}; "
            f"project to {rank} dimensions at most, or inherit from more identities"
        )
    directions: Tensor = vectors[:, -dim:].flip(1).float().contiguous()
    return directions


def _refine(rows: Tensor, start: Tensor, *, steps: int, lr: float, generator: torch.Generator) -> Tensor:
    """Return a ``[T, dim]`` map that keeps cosines better than the one it starts from, or that one."""
    held, known = _sample(len(rows), len(rows), generator).tensor_split([int(HELD_OUT * len(rows))])
    unseen, others = rows[held[: 2 * BLOCK]], rows[known[: 2 * BLOCK]]
    if len(held) < 2 or cosine_error(unseen, start) < EXACT:
        return start
    moved = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([moved], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    for _ in range(steps):
        block = rows[known[_sample(len(known), BLOCK, generator)]]  # [b, T]
        (moved.grad,) = torch.autograd.grad(lost_cosines(block, block, moved), [moved])
        optimiser.step()
        schedule.step()
    refined = moved.detach()
    # The start has seen the held-out rows and the refined map has not: a win is one.
    return refined if lost_cosines(unseen, others, refined) < lost_cosines(unseen, others, start) else start


def lost_cosines(first: Tensor, second: Tensor, projection: Tensor) -> Tensor:
    """Return what the refinement minimises: the weighted mean square of what a projection changes in cosines.

    The weight of a pair is its squared cosine, that of :data:`FLOOR` where it is lower: errors matter where identities
    are alike, and there are few such pairs among the many of unlike ones.

    Args:
        first: ``[b, T]`` unit rows.
        second: ``[M, T]`` unit rows, each paired with all of the first. A row paired with itself loses nothing.
        projection: ``[T, dim]``.

    Returns:
        ``[] float32``, at least 0.
    """
    before = first @ second.T  # [b, M] cosine
    after = F.normalize(first @ projection, dim=1) @ F.normalize(second @ projection, dim=1).T
    # A row and itself keep their cosine of 1 whatever the map is: in a block against itself they would dilute the mean.
    weight = before.clamp_min(FLOOR).square() * (before < 1 - EXACT)
    lost: Tensor = (weight * (after - before).square()).sum() / weight.sum().clamp_min(EXACT)
    return lost


def _sample(count: int, most: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:most]
