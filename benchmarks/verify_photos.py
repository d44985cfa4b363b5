"""Does ``verify`` answer rightly on photos as they are, not aligned? Calibrated on some people, tested on others.

From the folds of an LFW pair list two are taken, which share no person. On the one the model is calibrated: its genuine
pairs against all pairs of photos of different people give the threshold at the asked FAR and the curve to
probabilities. On the other every pair is verified from the two photos' files, as a user would. Counted are right and
wrong answers, with exact (Clopper-Pearson) 95 % intervals, and photos of which no face could be taken.

    python benchmarks/verify_photos.py --photos LFW --pairs pairs.txt --model MODEL.onnx --detector YUNET.onnx
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from proxylesskd.data.pair_lists import Row, lfw_rows
from proxylesskd.evaluation.calibration import calibrate
from proxylesskd.evaluation.roc import roc_curve, tar_at_far
from proxylesskd.recognition.faces import PhotoError
from proxylesskd.recognition.model import open_model
from proxylesskd.recognition.recognizer import Recognizer
from proxylesskd.recognition.thresholds import SINGLE, Scale

FARS = (1e-2, 1e-3, 1e-4)


def calibrated(recognizer: Recognizer, root: Path, rows: Sequence[Row]) -> Scale:
    """Return thresholds and curve from the genuine pairs of a list, and all its photos of different people."""
    names = sorted({name for row in rows if row.same for name in (row.first, row.second)})
    found = {}
    for name in names:
        try:
            found[name] = recognizer.embed([root / name])[0]
        except PhotoError as error:
            print(f"  left out: {error}")
    used = list(found)
    people = np.unique([PurePosixPath(name).parent.name for name in used], return_inverse=True)[1]
    embeddings = np.stack([found[name] for name in used]).astype(np.float64)
    first, second = np.triu_indices(len(used), k=1)
    different = people[first] != people[second]
    impostor = np.einsum("pd,pd->p", embeddings[first[different]], embeddings[second[different]])
    pairs = [row for row in rows if row.same and row.first in found and row.second in found]
    genuine = np.array([float(found[row.first] @ found[row.second]) for row in pairs])
    scores = np.concatenate([genuine, impostor])
    same = np.arange(len(scores)) < len(genuine)
    roc = roc_curve(scores, same)
    print(f"calibrated on {len(genuine)} genuine and {len(impostor):,} impostor pairs of {len(used)} photos")
    return Scale({far: tar_at_far(roc, far)[1] for far in FARS if far * len(impostor) >= 1}, calibrate(scores, same))


def interval(right: int, total: int) -> str:
    """Return the exact 95 % interval of a share."""
    from scipy.stats import beta

    low = beta.ppf(0.025, right, total - right + 1) if right else 0.0
    high = beta.ppf(0.975, right + 1, total - right) if right < total else 1.0
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def measured(recognizer: Recognizer, root: Path, rows: Sequence[Row], far: float) -> None:
    """Verify every pair from its two files and print what came of it."""
    counts = {True: [0, 0], False: [0, 0]}
    squares, lost = [], 0
    for row in rows:
        try:
            found = recognizer.verify(root / row.first, root / row.second, far=far)
        except PhotoError as error:
            lost += 1
            print(f"  no answer: {error}")
            continue
        right = found.same == row.same
        counts[row.same][0] += right
        counts[row.same][1] += 1
        squares.append(((found.probability or 0.0) - row.same) ** 2)
        if not right:
            print(f"  wrong: {row.first} {row.second} {found}")
    for same, (right, total) in counts.items():
        kind = "one person" if same else "two people"
        print(f"{kind}: {right} of {total} right ({100 * right / total:.1f} %, {interval(right, total)})")
    right, total = (sum(count[k] for count in counts.values()) for k in (0, 1))
    print(f"all: {right} of {total} right ({100 * right / total:.1f} %, {interval(right, total)}); no answer: {lost}")
    print(f"probabilities: Brier score {np.mean(squares):.4f} (0.25 is a coin)")


def chosen(rows: Sequence[Row], fold: int, most: int) -> list[Row]:
    """Return so many pairs of each kind of a fold."""
    mine = [row for row in rows if row.fold == fold]
    return [row for kind in (True, False) for row in [row for row in mine if row.same == kind][:most]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder Name/Name_0001.jpg of photos not aligned")
    parser.add_argument("--pairs", type=Path, required=True, help="LFW's pairs.txt")
    parser.add_argument("--model", required=True)
    parser.add_argument("--detector", type=Path, default=None)
    parser.add_argument("--face", default="central", help="LFW's photos show their person in the middle")
    parser.add_argument("--far", type=float, default=1e-3)
    parser.add_argument("--folds", type=int, nargs=2, default=(0, 1), help="to calibrate on, to test on")
    parser.add_argument("--calibrate", type=int, default=300, help="genuine pairs")
    parser.add_argument("--test", type=int, default=100, help="pairs of each kind")
    asked = parser.parse_args()
    rows = lfw_rows(asked.pairs.read_text(encoding="utf-8"), asked.photos)
    model = open_model(asked.model)
    recognizer = Recognizer(model, detector=asked.detector, face=asked.face)
    scale = calibrated(recognizer, asked.photos, chosen(rows, asked.folds[0], asked.calibrate))
    print(f"{model.name}: threshold at FAR {asked.far:g} is {scale.at(asked.far)}")
    recognizer = Recognizer(replace(model, scales={SINGLE: scale}), detector=asked.detector, face=asked.face)
    measured(recognizer, asked.photos, chosen(rows, asked.folds[1], asked.test), asked.far)


if __name__ == "__main__":
    main()
