"""Human activity on UCI HAR: a teacher, baselines and a reservoir student alone and distilled, on unseen people.

    python benchmarks/activity.py --data npz:uci-har.npz --out runs/activity
    python benchmarks/activity.py --data npz:uci-har.npz --out runs/activity --seeds 0 1    # a part of it
    python benchmarks/activity.py --data npz:uci-har.npz --out runs/activity --validate  # how settings were chosen
    python benchmarks/activity.py --published  # the paper's costs, corrected

Every seed has a teacher of its own. What is done already is not done again, so several processes may share the work,
each with seeds or folds of its own; the last call, with all of them, prints the tables. ``--validate`` trains on some
of the training subjects and scores on the others: no setting was ever chosen on a test subject.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from interleave import interleave, ratio

from proxylesskd.activity.cost import POWER_SAVING, energy_scores, multiply_adds
from proxylesskd.activity.echo import PatchEcho
from proxylesskd.activity.learn import learn
from proxylesskd.activity.plan import Plan
from proxylesskd.activity.recogniser import load_recogniser
from proxylesskd.activity.windows import open_windows
from proxylesskd.comparison.tables import difference_text
from proxylesskd.evaluation.by_person import Score, difference, estimate, read_score
from proxylesskd.recipe import laid_over

TEACHER, ALONE = "PatchMixer (teacher)", "reservoir, labels alone"
HEARD = ("model.compand=true", "data.jitter=0.03")  # by all models alike
ECHO = (
    *HEARD,
    "model.token=24",
    "train.epochs=20",
    "train.batch=128",
    "train.learning_rate=3e-3",
    "method.cache=cached",
)
PLUS = (*ECHO, "model.hidden=32")  # more than a linear tokeniser, which is not in the paper
LSTM = (*HEARD, "model.name=conv-lstm", "method.name=labels", "model.dropout=0.5", "train.epochs=20")
RUNS: Mapping[str, Sequence[str]] = {
    TEACHER: (
        *HEARD, "model.name=mixer", "method.name=alone", "model.patch=8", "model.dim=112", "model.layers=4",
        "model.dropout=0.3", "data.stretch=0.3", "train.epochs=10",
    ),
    "DeepConvLSTM": (*LSTM, "model.width=1.0"),
    "DeepConvLSTM x0.5": (*LSTM, "model.width=0.5"),
    "DeepConvLSTM x0.25": (*LSTM, "model.width=0.25"),
    "reservoir, ridge readout": (*ECHO, "method.name=ridge(strength=1)"),
    ALONE: (*ECHO, "method.name=labels"),
    "reservoir, KL": (*ECHO, "method.name=kl"),
    "reservoir, JS": (*ECHO, "method.name=js"),
    "reservoir, ProxylessKD": (*ECHO, "method.name=proxyless"),
    "reservoir+, labels alone": (*PLUS, "method.name=labels"),
    "reservoir+, ProxylessKD": (*PLUS, "method.name=proxyless"),
}  # fmt: skip
HEARS = ("reservoir, KL", "reservoir, JS", "reservoir, ProxylessKD", "reservoir+, ProxylessKD")
SEVERAL = (TEACHER, ALONE, "reservoir+, labels alone", *HEARS)
OF = {name: name.partition(",")[0] + ", labels alone" for name in RUNS if name.startswith("reservoir")}


def train(args: argparse.Namespace, names: Sequence[str], test: str, seed: int) -> dict[str, Score]:
    """Train what is not trained yet, the teacher first, and return all scores of a split and a seed."""
    home = args.out / test.replace("/", "-of-") / str(seed)
    found = {}
    for name in names:
        out, teacher = home / name, home / TEACHER if name in HEARS else None
        if not (out / "evaluation.json").is_file() and not args.no_train:
            settings = [f"seed={seed}", f"data.windows={args.data}", f"data.test={test}", *RUNS[name], *args.set]
            score = learn(laid_over(Plan(), None, settings), out, teacher=teacher, resume=out.exists(), quiet=True)
            print(f"{test} seed {seed} {name}: {score.accuracy:.4f}", flush=True)
        if (out / "evaluation.json").is_file():
            found[name] = read_score(json.loads((out / "evaluation.json").read_text()))
    return found


def table(runs: Sequence[Mapping[str, Score]], costs: Mapping[str, Mapping[str, float]]) -> str:
    """Return a Markdown table: means over trainings with intervals over people, and paired differences."""
    names = [name for name in RUNS if any(name in one for one in runs)]
    energy = dict(zip(costs, energy_scores(list(costs.values())), strict=True)) if len(costs) > 1 else {}
    lines = [
        "| model | seeds | accuracy | ± seeds | macro F1 | minus alone | M multiply-adds | accuracy / energy |",
        "|---|" + "---|" * 7,
    ]
    for name in names:
        scores = [one[name] for one in runs if name in one]
        alone = OF.get(name, ALONE)
        pairs = [(one[name], one[alone]) for one in runs if name in one and alone in one]
        one, spread = estimate(scores), np.std([s.accuracy for s in scores], ddof=min(1, len(scores) - 1))
        apart = difference_text(difference(*zip(*pairs, strict=True))) if pairs and name != alone else "-"
        f1 = np.mean([s.macro_f1 for s in scores])
        cost = costs.get(name, {}).get("multiply_adds", float("nan")) / 1e6
        accuracy = f"{100 * one.value:.2f} [{100 * (one.lower or 0):.1f}, {100 * (one.upper or 0):.1f}]"
        per_energy = one.value / (energy.get(name, float("nan")) + 1e-6)
        cells = [name, str(len(scores)), accuracy, f"{100 * spread:.2f}", f"{100 * f1:.1f}", apart.replace("*", "\\*")]
        lines.append("| " + " | ".join([*cells, f"{cost:.3f}", f"{per_energy:.2f}"]) + " |")
    return "\n".join(lines)


def joined(folds: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    """Return scores over all people of disjoint folds, as if one training had answered for everybody."""
    names = [name for name in RUNS if all(name in one for one in folds)]
    return {name: _sum([one[name] for one in folds]) for name in names}


def _sum(parts: Sequence[Score]) -> Score:
    right = {who: count for one in parts for who, count in one.right.items()}
    asked = {who: count for one in parts for who, count in one.asked.items()}
    return Score(sum((one.confusion for one in parts), np.zeros_like(parts[0].confusion)), right, asked)


def costs_of(home: Path) -> dict[str, dict[str, float]]:
    files = {name: home / name / "evaluation.json" for name in RUNS}
    return {name: json.loads(file.read_text())["cost"] for name, file in files.items() if file.is_file()}


def cost_table(costs: Mapping[str, Mapping[str, float]], home: Path) -> str:
    """Return a Markdown table of what a window costs on one thread, times as ratios to the teacher's, interleaved."""
    times = interleave(
        {name: partial(_caller, home / name) for name in costs}, rounds=15, seconds=20.0, device=torch.device("cpu")
    )
    head = (
        "| model | parameters | trained | M multiply-adds | without recurrence | peak MB | file MB | time / teacher's |"
    )
    lines = [head, "|---|" + "---|" * 7]
    for name, one in costs.items():
        counts = [f"{one[key]:,.0f}" for key in ("parameters", "trained")]
        adds = [f"{one[key] / 1e6:.3f}" for key in ("multiply_adds", "without_recurrence")]
        sizes = [f"{one[key] / 1e6:.2f}" for key in ("peak_bytes", "file_bytes")]
        lines.append("| " + " | ".join([name, *counts, *adds, *sizes, str(ratio(times[name], times[TEACHER]))]) + " |")
    return "\n".join(lines)


def _caller(run: Path) -> Callable[[], object]:
    model, told = load_recogniser(run / "model.safetensors")
    window = torch.zeros(1, told["channels"], told["samples"])
    return torch.no_grad()(partial(model, window))


# arXiv 2505.22985, tables 1 to 3 and 5: "FLOPS" of a batch of 64, memory and file in MB, accuracy after KL on SHL 2023.
PUBLISHED = {
    "1D MLP-Mixer": (39_985_479_680, 4870, 12.7, 94.6),
    "DeepConvLSTM": (9_105_719_296, 725, 1.19, 90.6),
    "DeepConvLSTM x0.5": (2_315_460_608, 532, 0.304, 87.4),
    "DeepConvLSTM x0.25": (598_380_544, 550, 0.0817, 80.2),
    "Echo p32 R1000": (92_446_720, 977, 4.21, 82.7),
    "Echo p64 R1000": (341_549_056, 942, 4.37, 85.2),
    "Echo p128 R1000": (1_161_797_632, 874, 4.78, 86.0),
    "Echo p128 R4000": (1_164_869_632, 2030, 66.5, 87.0),
}


def published() -> str:
    """Return the paper's costs, what they are with the recurrence, and its accuracy-energy ratio of each."""
    counts = {name: _counts(name, said[0]) for name, said in PUBLISHED.items()}  # as published, stride 1, stride p
    energies = [
        energy_scores([_cost(counts[name][k], said) for name, said in PUBLISHED.items()], POWER_SAVING)
        for k in range(3)
    ]
    titles = ("model", "published", "without recurrence", "stride 1", "stride = patch")
    titles += ("ratio as published", "ratio, stride 1", "ratio, stride = patch")
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---|" * 7]
    for n, (name, said) in enumerate(PUBLISHED.items()):
        forgotten = f"{_forgotten(name):,}" if name.startswith("Echo") else "-"
        whole = [f"{counts[name][k] / 1e9:.2f} G" if name.startswith("Echo") else "-" for k in (1, 2)]
        ratios = [f"{said[3] / 100 / (energies[k][n] + 1e-6):.2f}" for k in range(3)]
        lines.append("| " + " | ".join([name, f"{said[0]:,}", forgotten, *whole, *ratios]) + " |")
    return "\n".join(lines)


def _echo(name: str, stride: int) -> PatchEcho:
    patch, cells = (int(part[1:]) for part in name.split()[1:])
    net = PatchEcho(3, 8, patch=patch, stride=stride, size=cells, seed=None)
    net.reservoir.recurrent.fill_(1e-4)  # full, as the paper's; what stands in it changes no count
    net.reservoir.arriving.fill_(1e-4)
    return net


def _forgotten(name: str) -> int:
    return 64 * multiply_adds(_echo(name, 1), 3, 496, recurrent=False)


def _counts(name: str, told: int) -> tuple[int, int, int]:
    if not name.startswith("Echo"):
        return told, told, told
    return told, 64 * multiply_adds(_echo(name, 1), 3, 496), 64 * multiply_adds(_echo(name, 0), 3, 496)


def _cost(count: int, said: tuple[int, float, float, float]) -> dict[str, float]:
    return {"multiply_adds": count, "peak_bytes": 1e6 * said[1], "file_bytes": 1e6 * said[2]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="windows, such as npz:uci-har.npz")
    parser.add_argument("--out", type=Path, default=Path("runs/activity"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--folds", type=int, nargs="*", default=[1, 2, 3, 4, 5], help="of five, each tested once")
    parser.add_argument("--models", nargs="*", default=list(RUNS), help="names of the table")
    parser.add_argument("--validate", action="store_true", help="score on training subjects that were held out")
    parser.add_argument("--no-train", action="store_true", help="print what is done")
    parser.add_argument("--set", nargs="*", default=[], help="settings for all, such as train.epochs=5")
    parser.add_argument("--published", action="store_true", help="print the paper's costs, corrected")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.published:
        print(published())
        return
    if args.validate:
        learnt, _ = open_windows(args.data).split("official")
        drawn = np.random.default_rng(1).permutation(learnt.people())
        for group in np.array_split(drawn, 3):
            train(args, args.models, ",".join(map(str, group)), 0)
        return
    official = [train(args, args.models, "official", seed) for seed in args.seeds]
    folds = [train(args, [name for name in SEVERAL if name in args.models], f"{k}/5", 0) for k in args.folds]
    print(
        "\nOfficial split:\n\n"
        + table([one for one in official if one], costs := costs_of(args.out / "official" / "0"))
    )
    if len(folds) == 5 and all(folds):
        print("\nFive folds of all subjects:\n\n" + table([joined(folds)], costs))
    if TEACHER in costs:
        print("\nCost of a window on one thread:\n\n" + cost_table(costs, args.out / "official" / "0"))


if __name__ == "__main__":
    main()
