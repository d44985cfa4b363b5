"""Joined sources against a list of all places, spelt out image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.join_uri import parse_join
from proxylesskd.data.joined import JoinedSource, repeated
from proxylesskd.data.sampler import batch_indices
from proxylesskd.data.source import open_source
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import MemorySource, write_faces


class Words:
    """A source whose images are their own names."""

    def __init__(self, identities: Sequence[str], labels: Sequence[int], mark: str) -> None:
        self.identities, self.labels, self.mark = list(identities), np.array(labels, np.int64), mark

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[bytes, int]:
        if index >= len(self):
            raise IndexError(index)
        return f"{self.mark}{index}".encode(), int(self.labels[index])

    def name(self, index: int) -> str:
        return f"{self.mark}{index}.jpg"


A = Words(["Ann", "Bob"], [0, 1, 1], "a")
B = Words(["Bob", "Cid", "Dan"], [2, 0, 1, 1, 0], "b")


def all_of(source: JoinedSource) -> list[tuple[str, str]]:
    """What is read at each place: image and identity; the labels must say the same."""
    found = []
    for index in range(len(source)):
        data, label = source.read(index)
        assert label == source.labels[index]
        found.append((data.decode(), source.identities[label]))
    return found


def test_namespaces_keep_identities_apart() -> None:
    source = JoinedSource([A, B], names=["one", "two"])
    assert source.identities == ["one/Ann", "one/Bob", "two/Bob", "two/Cid", "two/Dan"]
    assert all_of(source) == [
        ("a0", "one/Ann"),
        ("a1", "one/Bob"),
        ("a2", "one/Bob"),
        ("b0", "two/Dan"),
        ("b1", "two/Bob"),
        ("b2", "two/Cid"),
        ("b3", "two/Cid"),
        ("b4", "two/Bob"),
    ]
    assert [source.name(i) for i in (0, 7)] == ["one/a0.jpg", "two/b4.jpg"]
    assert not source.labels.flags.writeable
    assert JoinedSource([A, B]).identities[0] == "1/Ann"


def test_by_name_the_same_name_is_the_same_person() -> None:
    source = JoinedSource([A, B], identities="by-name")
    assert source.identities == ["Ann", "Bob", "Cid", "Dan"]
    whose = {"a0": "Ann", "a1": "Bob", "a2": "Bob", "b0": "Dan", "b1": "Bob", "b2": "Cid", "b3": "Cid", "b4": "Bob"}
    assert all_of(source) == list(whose.items())


@pytest.mark.parametrize(("weight", "whole", "more"), [(1, 1, 0), (3, 3, 0), (2.4, 2, 2), (0.6, 0, 3), (1.02, 1, 0)])
def test_a_weight_is_how_often_an_image_comes(weight: float, whole: int, more: int) -> None:
    source = JoinedSource([A, B, A], weights=[1, weight, 2], names=["x", "y", "z"])
    read = [data for data, _ in all_of(source)]
    assert read[:3] == ["a0", "a1", "a2"]
    assert read[-6:] == ["a0", "a1", "a2"] * 2
    counts = Counter(read[3:-6])
    assert sorted(counts.values()) == sorted([whole + 1] * more + [whole] * (5 - more))[-len(counts) :]
    assert sum(counts.values()) == 5 * whole + more
    names = [source.name(i) for i in range(len(source))]
    assert len(set(names)) == len(names)
    if whole > 1:
        assert f"y/b4.jpg#{whole}" in names


def test_an_epoch_of_the_sampler_draws_by_weight_and_depends_on_nothing_else() -> None:
    big = Words(["P"], [0] * 40, "p")
    first, again = (JoinedSource([big, B], weights=[0.5, 4]) for _ in range(2))
    steps = [batch_indices(step, length=len(first), batch=8, seed=1) for step in range(len(first) // 8)]
    drawn = Counter(first.read(int(i))[0][:1] for step in steps for i in step)
    assert drawn == {b"p": 20, b"b": 20}
    assert all_of(first) == all_of(again)
    other = JoinedSource([big, B], weights=[0.5, 4], seed=1)
    assert all_of(first)[20:] == all_of(other)[20:]
    assert all_of(first)[:20] != all_of(other)[:20]


def test_the_fraction_is_a_choice_without_repetition() -> None:
    chosen = repeated(1000, 2.25, seed=3)
    assert len(set(chosen.tolist())) == 250
    assert (np.diff(chosen) > 0).all()
    assert 350 < chosen.mean() < 650
    assert len(repeated(1000, 2.0)) == 0


def test_corrupt_images_stay_corrupt_and_joins_may_be_joined() -> None:
    class Broken(Words):
        def read(self, index: int) -> tuple[bytes, int]:
            raise CorruptImageError(f"gone: {index}")

    inner = JoinedSource([A, Broken(["E"], [0], "e")])
    outer = JoinedSource([inner, B], names=["in", "b"])
    assert outer.identities[:3] == ["in/1/Ann", "in/1/Bob", "in/2/E"]
    with pytest.raises(CorruptImageError, match="gone"):
        outer.read(3)


def test_numbers_are_no_names_unless_the_user_says_so() -> None:
    numbers = [Words(["3", "5"], [0, 1], "m"), Words(["5", "7"], [0, 1], "n")]
    with pytest.raises(UserError, match="found numbers alone in sources 1 and 2"):
        JoinedSource(numbers, identities="by-name")
    forced = JoinedSource(numbers, identities="by-name", numbers_are_names=True)
    assert forced.identities == ["3", "5", "7"]
    assert JoinedSource([numbers[0], A], identities="by-name").identities == ["3", "5", "Ann", "Bob"]
    assert len(JoinedSource(numbers).identities) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1]}, "found 2 sources, 1 weights"),
        ({"names": ["x"]}, "found 2 sources, 2 weights, 1 names"),
        ({"names": ["x", "x"]}, "a name of its own for each source, found x, x"),
        ({"names": ["x", ""]}, "a name of its own"),
        ({"weights": [1, 0]}, "weights above 0, found 0"),
        ({"weights": [1, float("nan")]}, "weights above 0, found nan"),
        ({"weights": [1, float("inf")]}, "weights above 0, found inf"),
        ({"weights": [1, 0.01]}, "found none of 5 by the weight 0.01"),
        ({"weights": [1, 1e12]}, "images an epoch"),
        ({"identities": "by-nam"}, "did you mean 'by-name'"),
    ],
)
def test_refuses(options: dict[str, list[float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        JoinedSource([A, B], **options)  # type: ignore[arg-type]


def test_refuses_nothing_to_join() -> None:
    with pytest.raises(UserError, match="found 0 sources"):
        JoinedSource([])


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name, identities in (("a+b", 2), ("c*2", 3), ("2*d+e", 2)):
        write_faces(tmp_path / name, identities, 4)
    return tmp_path


def test_a_line_names_sources_whatever_their_paths_hold(folders: Path) -> None:
    uri = f"join:folder:{folders}/a+b+1.5*folder:{folders}/c*2+2*folder:{folders}/2*d+e"
    source = open_source(uri)
    assert len(source) == 8 + 18 + 16
    assert source.identities == [f"a+b/id-00{i}" for i in range(2)] + [f"c*2/id-00{i}" for i in range(3)] + [
        f"2*d+e/id-00{i}" for i in range(2)
    ]
    merged = open_source(f"join:by-name:folder:{folders}/a+b+2*folder:{folders}/c*2")
    assert merged.identities == ["id-000", "id-001", "id-002"]
    assert len(merged) == 8 + 24
    assert merged.read(8) == merged.read(20) == open_source(f"folder:{folders}/c*2").read(0)
    with pytest.raises(UserError, match=r"found a\+b, a\+b; give names in a file"):
        open_source(f"join:folder:{folders}/a+b+folder:{folders}/a+b")
    with pytest.raises(UserError, match="expected sources behind 'by-name:'"):
        parse_join("by-name:what")
    with pytest.raises(UserError, match="found a join within a join"):
        open_source(f"join:folder:{folders}/a+b+join:folder:{folders}/c*2")


def test_a_file_says_more(folders: Path) -> None:
    path = folders / "faces.toml"
    path.write_text(
        f'identities = "namespaced"\nseed = 5\n[[source]]\nuri = "folder:{folders}/a+b"\nname = "x"\n'
        f'[[source]]\nuri = "folder:{folders}/a+b"\nweight = 0.5\nname = "y"\n'
    )
    source = open_source(f"join:{path}")
    assert source.identities == ["x/id-000", "x/id-001", "y/id-000", "y/id-001"]
    assert len(source) == 12
    same = JoinedSource([open_source(f"folder:{folders}/a+b")] * 2, [1, 0.5], ["x", "y"], seed=5)
    assert [source.name(i) for i in range(12)] == [same.name(i) for i in range(12)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"\[\[source\]\] tables with a uri"),
        ("source = [3]", "tables with a uri"),
        ("[[source]]\nweight = 1", "tables with a uri"),
        ('[[source]]\nuri = "folder:x"\nwieght = 1', "found 'wieght'; did you mean 'weight'"),
        ('[[source]]\nuri = "folder:x"\nweight = "1"', "another type for weight"),
        ('[[source]]\nuri = "folder:x"\nweight = true', "another type for weight"),
        ("sources = 1", "did you mean 'source'"),
        ("[[source", "found: "),
        ('[[source]]\nuri = "join:x"', "a join within a join"),
        ("x = " + "[" * 100_000, "found"),
        ("#" * 2_000_000, "more than 1 MiB"),
    ],
)
def test_refuses_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "j.toml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        open_source(f"join:{tmp_path}/j.toml")
    assert "\n" not in str(caught.value)


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found No such file or directory; or give sources: join:rec:A\+2\*folder:B"):
        open_source(f"join:{tmp_path}/none.toml")


def test_weights_survive_sources_with_pixels() -> None:
    faces = MemorySource(2, 3)
    source = JoinedSource([faces], weights=[2])
    assert [source.read(i) for i in range(12)] == [faces.read(i) for i in range(6)] * 2
