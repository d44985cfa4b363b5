from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.audit.clean import joined_names, write_clean_list
from proxylesskd.audit.suspects import Inconsistent, Levels, Merged, Mislabelled, Split, Suspects
from proxylesskd.data.listed import listed
from proxylesskd.errors import UserError
from tests.faces import MemorySource

LEVELS = Levels(0.2, 0.4, 0.6, (-1.0, 0.0, 1.0), (0, 1), (1, 0))


def _suspects(
    mislabelled: list[Mislabelled] | None = None,
    inconsistent: list[Inconsistent] | None = None,
    split: list[Split] | None = None,
) -> Suspects:
    merged = [Merged("id-003", (2, 2), 0.01, (9,), (10,))]
    return Suspects(12, 4, mislabelled or [], merged, split or [], inconsistent or [], LEVELS)


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_suspects_are_left_out_with_reasons_and_split_identities_joined(tmp_path: Path) -> None:
    source = MemorySource(4, 3)
    suspects = _suspects(
        [Mislabelled(1, "id-000", -0.1, "id-002", 0.8, True), Mislabelled(4, "id-001", 0.05, "id-000", 0.3, False)],
        [Inconsistent("id-001", 0.02, (3, 4))],
        [Split("id-000", "id-002", 0.9, 0.7)],
    )
    kept = write_clean_list(tmp_path / "new" / "keep.csv", source, suspects)
    expected = [[f"image {k}", f"id-00{k // 3}"] for k in range(12) if k not in (1, 3, 4)]
    expected = [[image, "id-000" if name == "id-002" else name] for image, name in expected]
    assert _rows(tmp_path / "new" / "keep.csv") == [["image", "identity"], *expected]
    assert kept == len(expected) == 9
    # image 4 was suspected twice: what looks wrong with it alone says more
    assert _rows(tmp_path / "new" / "keep-dropped.csv") == [
        ["image", "identity", "reason"],
        ["image 1", "id-000", "looks like 'id-002': -0.100 to its own identity, 0.800 to 'id-002'"],
        ["image 3", "id-001", "the images of 'id-001' do not agree"],
        ["image 4", "id-001", "looks like nobody here: 0.050 to its own identity, 0.300 to 'id-000'"],
    ]


def test_the_list_opens_the_cleaned_source(tmp_path: Path) -> None:
    source = MemorySource(4, 3)
    suspects = _suspects(
        [Mislabelled(0, "id-000", -0.1, "id-002", 0.8, True)], split=[Split("id-003", "id-001", 0.9, 0.7)]
    )
    write_clean_list(tmp_path / "keep.csv", source, suspects)
    cleaned = listed(source, tmp_path / "keep.csv")
    assert list(cleaned.identities) == ["id-000", "id-002", "id-003"]
    assert cleaned.labels.tolist() == [0, 0, 2, 2, 2, 1, 1, 1, 2, 2, 2]


def test_names_with_commas_quotes_and_other_letters_survive(tmp_path: Path) -> None:
    source = MemorySource(2, 1)
    source.identities = ['Møller, "Jo"', "李\n雷"]
    write_clean_list(tmp_path / "keep.csv", source, _suspects())
    assert list(listed(source, tmp_path / "keep.csv").identities) == source.identities


def _pairs(*names: str) -> list[Split]:
    return [Split(pair[0], pair[1], 0.99 - 0.01 * k, 0.7) for k, pair in enumerate(names)]


def test_identities_that_all_look_like_each_other_take_one_name() -> None:
    assert joined_names(_pairs("ab", "cb", "de", "ac")) == {"b": "a", "c": "a", "e": "d"}
    assert joined_names([]) == {}


def test_the_most_certain_pair_keeps_its_name() -> None:
    assert joined_names(_pairs("ab", "ca", "cb")) == {"b": "a", "c": "a"}
    assert joined_names(_pairs("cd", "ab", "ac", "ad", "bc", "bd")) == {"a": "c", "b": "c", "d": "c"}
    assert joined_names(_pairs("ab", "cd", "ac", "ad", "bc", "bd")) == {"b": "a", "c": "a", "d": "a"}


def test_a_chain_is_joined_at_its_most_certain_pairs_alone() -> None:
    assert joined_names(_pairs("ab", "bc")) == {"b": "a"}
    assert joined_names(_pairs("ab", "bc", "cd")) == {"b": "a", "d": "c"}
    assert joined_names(_pairs("ab", "cd", "ac", "ad", "bc")) == {"b": "a", "d": "c"}


@pytest.mark.parametrize("seed", range(10))
def test_whoever_is_joined_is_a_pair(seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh" if a < b and random.random() < 0.6]
    random.shuffle(drawn)
    joined = joined_names(_pairs(*drawn))
    person = {name: joined.get(name, name) for name in "abcdefgh"}
    assert all(a + b in drawn for a in "abcdefgh" for b in "abcdefgh" if a < b and person[a] == person[b])
    assert not any(name in joined for name in joined.values())
    assert person[drawn[0][1]] == person[drawn[0][0]] == drawn[0][0]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="expected to be able to write"):
        write_clean_list(tmp_path / "file" / "keep.csv", MemorySource(4, 3), _suspects())
