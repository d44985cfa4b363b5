"""Opening a source by its URI; the kinds of source have tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.data.formats.folder import FolderSource
from proxylesskd.data.formats.recordio import RecordSource, write_record
from proxylesskd.data.source import open_source
from proxylesskd.errors import UserError
from tests.faces import write_faces


def test_a_bare_path_is_told_by_what_stands_there(tmp_path: Path) -> None:
    folder = write_faces(tmp_path / "faces", 2, 2)
    write_record(FolderSource(folder), tmp_path / "set")
    for uri in (str(folder), f"folder:{folder}"):
        assert isinstance(open_source(uri), FolderSource)
    for uri in (str(tmp_path / "set"), f"rec:{tmp_path / 'set'}"):
        assert isinstance(open_source(uri), RecordSource)


def test_a_folder_whose_name_holds_a_colon(tmp_path: Path) -> None:
    assert len(open_source(str(write_faces(tmp_path / "a:b", 1, 1)))) == 1


def test_an_unknown_scheme_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found 'foldr:x'; did you mean 'folder'"):
        open_source("foldr:x")
    with pytest.raises(UserError, match="expected a folder of faces, found nothing at"):
        open_source(str(tmp_path / "nowhere"))


def test_a_broken_synthetic_uri_is_explained() -> None:
    with pytest.raises(UserError, match="identitys"):
        open_source("synthetic:identitys=3")


def test_what_the_system_refuses_to_look_at_is_said() -> None:
    with pytest.raises(UserError, match="too long"):
        open_source("folder:" + "x" * 400)
