from __future__ import annotations

import statistics
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.protocols.blufr import draw_trials, evaluate_blufr, fuse, read_trials
from proxylesskd.protocols.outcome import Measure
from tests.protocols.people import Blind, Tinted, embeddings_of, name_of, products, write_csv, write_people

HEADER = "trial,path,identity,role"
Row = tuple[str, str, str, str]


def rows() -> list[Row]:
    """Two trials: five enrolled and seven strangers, then four and eight."""
    found = []
    for trial, enrolled in (("1", 5), ("2", 4)):
        for i in range(12):
            for k in range(3):
                role = "gallery" if i < enrolled and k == 0 else "probe"
                found.append((trial, name_of(i, k), f"p{i}", role))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = write_people(tmp_path_factory.mktemp("blufr"), 12, 3)
    write_csv(place / "trials.csv", HEADER, rows())
    return place


def by_hand(folder: Path, trial: str, fpir: float, far: float) -> tuple[float, float]:
    listed = [row for row in rows() if row[0] == trial]
    similar = products(*[embeddings_of(Blind(), folder, [row[1] for row in listed])] * 2)
    pairs = list(combinations(range(len(listed)), 2))
    genuine = [similar[i, j] for i, j in pairs if listed[i][2] == listed[j][2]]
    strangers = sorted((similar[i, j] for i, j in pairs if listed[i][2] != listed[j][2]), reverse=True)
    refused = strangers[int(far * len(strangers) + 1e-9)]
    gallery = [number for number, row in enumerate(listed) if row[3] == "gallery"]
    hits, tops, mated = [], [], 0
    for probe in (number for number, row in enumerate(listed) if row[3] == "probe"):
        mate = [entry for entry in gallery if listed[entry][2] == listed[probe][2]]
        best = max(similar[probe, entry] for entry in gallery)
        mated += bool(mate)
        if not mate:
            tops.append(best)
        elif similar[probe, mate[0]] == best:
            hits.append(best)
    limit = sorted(tops, reverse=True)[int(fpir * len(tops) + 1e-9)]
    return sum(score > refused for score in genuine) / len(genuine), sum(hit > limit for hit in hits) / mated


def test_published_splits(folder: Path) -> None:
    outcome = evaluate_blufr(Blind(), folder / "trials.csv", gallery=Tinted(), fars=(0.05,), fpirs=(0.2,), name="me")
    found = outcome.measures["single"]
    trials = [by_hand(folder, trial, 0.2, 0.05) for trial in ("1", "2")]
    for name, values in zip(("tar@far=0.05", "tpir@fpir=0.2"), zip(*trials, strict=True), strict=True):
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        assert found[name].value == pytest.approx(mean)
        assert found[f"std/{name}"].value == pytest.approx(deviation)
        assert found[f"fused/{name}"].value == pytest.approx(mean - deviation)
    assert outcome.measures["cross"].keys() == found.keys()
    assert (outcome.protocol, outcome.model, outcome.gallery, outcome.drawn) == ("BLUFR, trials", "me", "tinted", {})
    assert outcome.counts["test images of the first"] == 36


def test_drawn_splits_are_of_the_published_sizes() -> None:
    """As many identities as LFW has: 1,500 for training, 1,000 enrolled with one image each."""
    random = np.random.default_rng(0)
    sizes = np.where(np.arange(5749) < 1680, 2 + random.geometric(0.25, 5749), 1)
    ids = random.permutation(np.repeat(np.arange(5749), sizes))
    trials = draw_trials(ids, seed=3)
    assert len(trials) == 10
    for trial in trials:
        enrolled, searched = ids[trial.gallery], ids[trial.probes]
        assert len(np.unique(ids[trial.test])) == 5749 - 1500
        assert len(enrolled) == len(np.unique(enrolled)) == 1000
        assert np.isin(enrolled, searched).all(), "everybody enrolled is searched for"
        assert len(trial.test) == np.isin(ids, ids[trial.test]).sum(), "all images of the test identities"
    again = draw_trials(ids, seed=3)
    assert all((a.test == b.test).all() for a, b in zip(trials, again, strict=True))
    assert not (np.unique(ids[trials[0].test]) == np.unique(ids[trials[1].test])).all()
    first = [np.flatnonzero(ids == ids[g]).tolist().index(g) for g in trials[0].gallery[:200]]
    assert len(set(first)) > 2, "the enrolled image is any of a person's"


def test_a_folder_is_split_anew(folder: Path) -> None:
    outcome = evaluate_blufr(Blind(), str(folder), fars=(0.05,), fpirs=(0.2,), trials=3, seed=5)
    assert outcome.drawn == {"unit": "splits", "replicates": 0, "seed": 5}
    assert outcome.counts == {"trials": 3, "test images of the first": 27, "gallery images of the first": 2}


def test_what_a_trial_lacks_the_mean_lacks() -> None:
    found = fuse([{"a": Measure(0.5, allowed=3)}, {"a": Measure(None, allowed=0)}])
    assert [found[name].value for name in ("a", "std/a", "fused/a")] == [None] * 3
    single = fuse([{"a": Measure(0.5, allowed=3)}])
    assert [single[name].value for name in ("a", "std/a", "fused/a")] == [0.5, None, None]


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (lambda listed: [*listed, listed[0]], "once in trial 1"),
        (lambda listed: [*listed, ("3", listed[0][1], "p0", "probe")], "gallery and probe images in trial 3"),
        (lambda listed: [*listed, ("3", listed[0][1], "p1", "probe")], "one identity for each image"),
        (lambda listed: [*listed, ("3", listed[0][1], "p0", "train")], "found 'train'"),
    ],
)
def test_refuses_splits_that_are_none(folder: Path, tmp_path: Path, changed, found: str) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    with pytest.raises(UserError, match=found):
        read_trials(write_csv(tmp_path / "t.csv", HEADER, changed(rows())), folder)


def test_refuses_sets_without_strangers() -> None:
    with pytest.raises(UserError, match="test identities with one image and with several"):
        draw_trials(np.arange(20))
