"""Markdown tables of finished comparisons, for the docs.

    python benchmarks/table.py demo-0 demo-1 demo-2
    python benchmarks/table.py runs/real/*

Each folder holds the run folders `teacher`, `alone` and `student`, as the demo and `real_faces.py` leave them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from proxylesskd.data.pairs import read_pairs
from proxylesskd.evaluation import paired_difference

NAMES = {"teacher": "teacher", "alone": "student alone", "student": "ProxylessKD"}


def percent(entry: dict[str, Any] | None) -> str:
    """Return `93.1 [92.0, 94.2]`, or a dash."""
    if entry is None:
        return "-"
    return f"{100 * entry['value']:.1f} [{100 * entry['lower']:.1f}, {100 * entry['upper']:.1f}]"


def rows(folder: Path, fars: list[float]) -> Iterator[str]:
    """Yield one row per mode and model."""
    for mode in ("single", "cross"):
        for part, name in NAMES.items():
            found = json.loads((folder / part / "evaluation.json").read_text())
            if mode not in found:
                continue
            rates = {rate["far"]: rate["tar"] for rate in found[mode]["tar"]}
            cells = [
                percent(found[mode]["accuracy"]),
                *(percent(rates[far]) for far in fars),
                percent(found[mode]["auc"]),
            ]
            gallery = name if mode == "single" else "teacher"
            yield "| " + " | ".join([folder.name, gallery, name, *cells]) + " |"


def difference(folder: Path, pairs: Path, root: Path | None, mode: str, far: float) -> str:
    """Return ProxylessKD minus the student alone with its paired interval, from the saved scores."""
    ours, alone = (np.load(folder / part / "scores.npz")[mode] for part in ("student", "alone"))
    found = paired_difference(ours, alone, read_pairs(pairs, root), metric=f"tar@far={far!r}")
    return f"{100 * found.value:+.1f} [{100 * found.lower:+.1f}, {100 * found.upper:+.1f}]"


def main() -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--fars", nargs="+", type=float, default=[1e-2, 1e-3])
    parser.add_argument("--pairs", type=Path, help="verification set; FOLDER/test-pairs.csv unless given")
    parser.add_argument("--root", type=Path, help="folder of its images")
    args = parser.parse_args()
    titles = ["run", "gallery", "probe", "accuracy", *(f"TAR@FAR={far:g}" for far in args.fars), "AUC"]
    print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
    for folder in args.folders:
        print("\n".join(rows(folder, args.fars)))
    print("\nProxylessKD minus the student alone, points of TAR, paired bootstrap:\n")
    heads = [f"{mode}, FAR={far:g}" for mode in ("single", "cross") for far in args.fars]
    print("| run | " + " | ".join(heads) + " |\n|" + "---|" * (1 + len(heads)))
    for folder in args.folders:
        pairs = args.pairs or folder / "test-pairs.csv"
        cells = [difference(folder, pairs, args.root, m, far) for m in ("single", "cross") for far in args.fars]
        print(f"| {folder.name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
