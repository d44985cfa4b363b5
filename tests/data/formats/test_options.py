from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.data.formats.options import split_options
from proxylesskd.errors import UserError

KNOWN = ("image", "label")


@pytest.mark.parametrize(
    ("where", "path", "options"),
    [
        ("a/b.parquet", "a/b.parquet", {}),
        ("a.parquet?image=img&label=who is it", "a.parquet", {"image": "img", "label": "who is it"}),
        ("part-?.parquet", "part-?.parquet", {}),
        ("part-?.parquet?label=x=y", "part-?.parquet", {"label": "x=y"}),
        ("what?", "what?", {}),
    ],
)
def test_splits(where: str, path: str, options: dict[str, str]) -> None:
    assert split_options(where, KNOWN) == (path, options)


def test_a_path_that_exists_has_no_options(tmp_path: Path) -> None:
    odd = tmp_path / "a?image=b"
    odd.write_text("")
    assert split_options(str(odd), KNOWN) == (str(odd), {})


@pytest.mark.parametrize(
    ("where", "message"),
    [("a?imag=b", "did you mean 'image'"), ("a?image=", "one value"), ("a?image=b&image=c", "one value")],
)
def test_refuses(where: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_options(where, KNOWN)
