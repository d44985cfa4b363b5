from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.errors import UserError
from proxylesskd.protocols.open_set import evaluate_open_set, read_open_set
from tests.protocols.people import Blind, Tinted, embeddings_of, name_of, products, write_csv, write_people

HEADER = "path,identity,role"
Row = tuple[str, object, str]


def rows() -> list[Row]:
    """Two gallery images for some of 6 people, probes of these and of 6 others, 36 distractors."""
    gallery = [(name_of(i, k), f"p{i}", "gallery") for i in range(6) for k in range(1 + i % 2)]
    probes = [(name_of(i, k), f"p{i}", "probe") for i in range(12) for k in (2, 3)]
    return gallery + probes + [(name_of(i, k), "", "distractor") for i in range(12, 21) for k in range(4)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = write_people(tmp_path_factory.mktemp("open"), 21, 4)
    write_csv(place / "set.csv", HEADER, rows())
    return place


def by_hand(folder: Path, gallery: Blind, distractors: int, ranks: list[int], fpir: float) -> tuple[list[float], float]:
    """Hit rates and TPIR at a FPIR, by loops."""
    listed = rows()
    enrolled = [row for row in listed if row[2] == "gallery"]
    enrolled += [row for row in listed if row[2] == "distractor"][:distractors]
    searched = [row for row in listed if row[2] == "probe"]
    similar = products(
        embeddings_of(Blind(), folder, [row[0] for row in searched]),
        embeddings_of(gallery, folder, [row[0] for row in enrolled]),
    )
    found: list[tuple[int, float]] = []
    strangers: list[float] = []
    for probe, scores in zip(searched, similar, strict=True):
        best: dict[object, float] = {}
        for entry, score in zip(enrolled, scores, strict=True):
            who = entry[1] or entry[0]
            best[who] = max(best.get(who, -1.0), float(score))
        if probe[1] in best:
            mate = best[probe[1]]
            found.append((sum(score >= mate for score in best.values()), mate))
        else:
            strangers.append(max(best.values()))
    most = int(fpir * len(strangers) + 1e-9)
    refused = sorted(strangers, reverse=True)[most]
    accepted = sum(rank == 1 and mate > refused for rank, mate in found)
    return [sum(rank <= most for rank, _ in found) / len(found) for most in ranks], accepted / len(found)


def test_both_modes_are_as_loops_find_them(folder: Path) -> None:
    outcome = evaluate_open_set(
        Blind(),
        folder / "set.csv",
        gallery=Tinted(),
        ranks=(1, 3),
        fpirs=(0.25, 0.01),
        replicates=20,
        cache=folder / "kept",
    )
    assert outcome.counts == {
        "gallery images": 9,
        "gallery identities": 6,
        "distractors": 36,
        "mated probes": 12,
        "probes without mate": 12,
    }
    assert (outcome.model, outcome.gallery, outcome.drawn["unit"]) == ("blind", "tinted", "probe identities")
    for mode, gallery in (("single", Blind()), ("cross", Tinted())):
        measures = outcome.measures[mode]
        hits, tpir = by_hand(folder, gallery, 36, [1, 3], 0.25)
        assert [measures["rank-1"].value, measures["rank-3"].value] == hits
        assert measures["tpir@fpir=0.25"].value == tpir
        assert measures["tpir@fpir=0.01"].value is None
        assert measures["distractors=10/rank-1"].value == by_hand(folder, gallery, 10, [1], 0.25)[0][0]
        assert "distractors=100/rank-1" not in measures
        assert measures["rank-1"].lower is not None
        assert set(outcome.curves[mode]) == {"CMC", "DET"}
    assert 0 < outcome.measures["single"]["rank-1"].value < 1  # type: ignore[operator]


def test_a_set_of_one_kind_of_search(folder: Path) -> None:
    closed = [row for row in rows() if row[2] == "gallery" or row[1] in ("p0", "p1")]
    outcome = evaluate_open_set(Blind(), write_csv(folder / "closed.csv", HEADER, closed), replicates=0, name="me")
    assert outcome.measures["single"]["tpir@fpir=0.1"].value is None
    assert (set(outcome.curves["single"]), outcome.drawn, outcome.model) == ({"CMC"}, {}, "me")
    strangers = [row for row in rows() if row[2] != "probe" or row[1] == "p9"]
    outcome = evaluate_open_set(Blind(), write_csv(folder / "strangers.csv", HEADER, strangers), replicates=5)
    assert outcome.measures["single"]["rank-1"].value is None
    assert outcome.curves == {"single": {}}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (lambda listed: [row for row in listed if row[2] != "probe"], "role probe"),
        (lambda listed: [row for row in listed if row[2] != "gallery"], "role gallery"),
        (lambda listed: [*listed, ("x.png", "a", "imposter")], "found 'imposter'"),
        (lambda listed: [*listed, ("x.png", "", "probe")], r"found none: x\.png"),
        (lambda listed: [*listed, listed[0]], "every image once"),
        (lambda listed: [*listed, ("x.png", "p7", "distractor")], "distractors of nobody"),
        (lambda listed: [*listed, ("x.png", "p7", "probe")], "1 of 70 missing"),
    ],
)
def test_refuses_sets_that_mean_something_else(folder: Path, tmp_path: Path, changed, found: str) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    path = write_csv(tmp_path / "set.csv", HEADER, changed(rows()))
    with pytest.raises(UserError, match=found):
        read_open_set(path, folder)


def test_rates_are_checked_before_the_set_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ranks from 1"):
        evaluate_open_set(Blind(), tmp_path / "none.csv", ranks=(0,))
