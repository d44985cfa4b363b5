"""Which photos a folder holds, whose they are, and how they are grouped."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.errors import UserError
from proxylesskd.recognition.folder import identity_of, in_groups, photos_of


def test_whose_a_photo_is() -> None:
    assert identity_of("Ann/1.jpg") == "Ann"
    assert identity_of("staff/Ann/1.jpg") == "staff/Ann"
    assert identity_of("Ann Lee.jpg") == "Ann Lee"
    assert identity_of(b"\xff\xfe/1.jpg".decode("utf-8", "surrogateescape")) == "\\udcff\\udcfe"


def test_photos_are_listed_sorted_and_others_passed_over(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.PNG", "a.webp", "b/notes.txt", ".hidden/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert photos_of(tmp_path) == [(tmp_path, name) for name in ("a.webp", "b/1.PNG", "b/2.jpg")]
    with pytest.raises(UserError, match="expected a folder of photos"):
        photos_of(tmp_path / "a.webp")


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (3, [3]), (16, [16]), (33, [16, 16, 1])])
def test_groups_say_how_many_were_read(count: int, sizes: list[int]) -> None:
    found = list(in_groups(iter(range(count))))
    assert [len(group) for _, group in found] == sizes
    assert [one for _, group in found for one in group] == list(range(count))
    assert [done for done, _ in found] == [sum(sizes[: k + 1]) for k in range(len(sizes))]
