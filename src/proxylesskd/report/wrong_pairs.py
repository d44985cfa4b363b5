"""The pairs on which a model errs most, as pictures: where numbers end and looking begins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError

FOLDER = "wrong_pairs"
LIST = "wrong_pairs.json"


@dataclass(frozen=True)
class WrongPair:
    """One pair on the wrong side of the threshold.

    Attributes:
        first: ``[3, H, W] uint8`` RGB, the gallery's side in cross-model mode.
        second: ``[3, H, W] uint8`` RGB.
        score: similarity that the model gave.
        same: whether the two are in truth the same person.
        names: what the pair list calls the two images.
    """

    first: npt.NDArray[np.uint8]
    second: npt.NDArray[np.uint8]
    score: float
    same: bool
    names: tuple[str, str]


def most_wrong_pairs(pairs: Pairs, scores: npt.NDArray[Any], threshold: float, count: int = 6) -> list[WrongPair]:
    """Return the worst false accepts (highest score first), then the worst false rejects (lowest first).

    Args:
        pairs: the P pairs.
        scores: ``[P]`` similarity of each pair.
        threshold: pairs with at least this score count as the same person.
        count: at most this many of each kind.

    Raises:
        UserError: the scores do not match the pairs or are not finite.
    """
    if scores.shape != (len(pairs.same),) or not np.isfinite(scores).all():
        raise UserError(
            f"expected one finite score for each of the {len(pairs.same)} pairs, found {scores.shape} "
            f"with {int((~np.isfinite(scores)).sum())} not finite; score the same pair list"
        )
    accepts = np.flatnonzero(~pairs.same & (scores >= threshold))
    rejects = np.flatnonzero(pairs.same & (scores < threshold))
    accepts = accepts[np.argsort(-scores[accepts], kind="stable")][:count]
    rejects = rejects[np.argsort(scores[rejects], kind="stable")][:count]
    return [_pair(pairs, int(k), float(scores[k])) for k in (*accepts, *rejects)]


def _pair(pairs: Pairs, k: int, score: float) -> WrongPair:
    a, b = int(pairs.first[k]), int(pairs.second[k])
    names = (pairs.image_names[a], pairs.image_names[b])
    return WrongPair(pairs.images[a], pairs.images[b], score, bool(pairs.same[k]), names)


def save_wrong_pairs(folder: Path, wrong: Sequence[WrongPair], *, threshold: float, model: str) -> Path:
    """Write ``wrong_pairs/`` into a run folder: two JPEGs per pair and ``wrong_pairs.json``; return the latter.

    Args:
        folder: the run folder.
        wrong: from :func:`most_wrong_pairs`; may be empty, which the report then says.
        threshold: the one that was used.
        model: what a person calls the model and mode that erred.
    """
    where = folder / FOLDER
    where.mkdir(parents=True, exist_ok=True)
    for old in where.glob("*.jpg"):
        old.unlink()
    entries = [_save(where, number, pair) for number, pair in enumerate(wrong)]
    path = where / LIST
    told = {"model": model, "threshold": threshold, "pairs": entries}
    path.write_text(json.dumps(told, indent=1), encoding="utf-8")
    return path


def _save(where: Path, number: int, pair: WrongPair) -> dict[str, Any]:
    from proxylesskd.data.decode import encode_jpeg

    files = []
    for side, image in (("a", pair.first), ("b", pair.second)):
        files.append(f"{number:02d}-{side}.jpg")
        (where / files[-1]).write_bytes(encode_jpeg(image))
    return {"files": files, "names": list(pair.names), "score": pair.score, "same": pair.same}
