"""Where groups are known, the page says how far they lie apart."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from proxylesskd.protocols.groups import evaluate_groups
from proxylesskd.report.page import write_report
from tests.protocols.people import Blind, name_of, write_csv, write_people


def test_the_gap_between_groups_is_on_the_page(run_folder: Path, tmp_path: Path) -> None:
    place, listed = write_people(tmp_path / "groups", 12, 3), []
    for group, people in (("North", range(6)), ("South", range(6, 12))):
        images = [(i, k) for i in people for k in range(3)]
        for number, (one, other) in enumerate(combinations(images, 2)):
            listed.append((name_of(*one), name_of(*other), int(one[0] == other[0]), group, number % 3))
    write_csv(place / "set.csv", "first,second,same,group,fold", listed)
    outcome = evaluate_groups(Blind(), place / "set.csv", common=0.05, replicates=20)
    outcome.save(run_folder / "protocols" / "groups")
    text = write_report(run_folder).read_text()
    gap = outcome.measures["single"]["gap/far@common-far=0.05"]
    assert gap.value is not None
    assert gap.lower is not None
    assert "gap/far at common-far" in text
    assert f"{100 * gap.value:.2f} %" in text
    assert f"{100 * gap.lower:.2f} to" in text
