import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import proxylesskd as pk
from proxylesskd.cli import app
from proxylesskd.errors import UserError
from proxylesskd.inspection.inspect import inspect_source
from proxylesskd.inspection.page import sentence, write_inspection
from tests.faces import ColourEmbedder, face, jpeg, write_faces


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six identities; one picture stands under two, one is compressed again under a third, one is broken."""
    place = write_faces(tmp_path / "faces", 6, 4)
    (place / "id-001/002.jpg").write_bytes((place / "id-000/000.jpg").read_bytes())
    (place / "id-002/003.jpg").write_bytes(jpeg(face(0, 1)) + b"\0")  # the same picture, other bytes
    (place / "id-003/000.jpg").write_bytes(b"broken")
    return place


class Words(HTMLParser):
    """Text and pictures of a page; it must load nothing."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_a_folder_that_explains_itself(root: Path, tmp_path: Path) -> None:
    source = pk.open_source(str(root))
    found = inspect_source(source, teacher=ColourEmbedder(), threshold=0.999)
    page = write_inspection(found, source, tmp_path / "out", identities=3, images=2)
    told = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert (told["images"], told["identities"], told["read"]) == (24, 6, 24)
    assert told["corrupt"][0].startswith("id-003/000.jpg")
    equal = [one["names"] for one in told["twins"] if one["cosine"] is None]
    assert ["id-000/000.jpg", "id-001/002.jpg"] in equal
    near = [one["names"] for one in told["twins"] if one["cosine"] is not None]
    assert ["id-000/001.jpg", "id-002/003.jpg"] in near
    text = page.read_text()
    assert "id-001/002.jpg" in text
    assert all(one.startswith(("data:", "#")) for one in Words(text).sources)
    assert Image.open(tmp_path / "out" / "contact-sheet.png").size == (2 * 112, 3 * 112)
    assert Image.open(tmp_path / "out" / "mean-face.png").size == (112, 112)
    assert "cannot be read" in sentence(found)
    assert "two identities" in sentence(found)


def test_the_verb(root: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["inspect", str(root), "--out", str(tmp_path / "out"), "--sample", "8", "-q"])
    assert run.exit_code == 0, run.output
    assert "8 of them, evenly spaced" in run.output
    assert (tmp_path / "out" / "inspection.html").is_file()


def test_refused(root: Path) -> None:
    source = pk.open_source(str(root))
    with pytest.raises(UserError, match="at least one image"):
        inspect_source(source, sample=-1)
    for path in root.glob("*/*.jpg"):
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match="expected whole images, found 24 corrupt"):
        inspect_source(source)
