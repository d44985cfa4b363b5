from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.formats.folder import FolderSource
from proxylesskd.errors import UserError
from proxylesskd.protocols.embed_set import Models, embed_set, listed_images, source_images
from tests.faces import ColourEmbedder
from tests.protocols.people import Blind, Tinted, embeddings_of, write_people


def test_embeds_as_one_image_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxylesskd.progress.SAID", 0.0)
    source = FolderSource(write_people(tmp_path / "faces", 3, 2))
    names = [source.name(i) for i in range(6)]
    expected = embeddings_of(Blind(), tmp_path / "faces", names)
    for images in (source_images(source), listed_images(tmp_path / "faces", names)):
        assert list(images.names) == names
        assert np.allclose(embed_set(Blind(), images, progress=True), expected, atol=1e-6)
        assert np.allclose(embed_set(Blind(), images, cache=tmp_path / "kept"), expected, atol=1e-6)
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert "embedding with blind: 6 of 6" in capsys.readouterr().err


def test_knows_who_enrols() -> None:
    alone, both = Models.of(Blind()), Models.of(Blind(), Tinted())
    assert (list(alone.enrolling()), alone.gallery_name) == (["single"], None)
    assert [embedder.name for embedder in both.enrolling().values()] == ["blind", "tinted"]
    assert both.gallery_name == "tinted"


def test_refuses_models_without_a_common_space(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dimension 12"):
        Models.of(Blind(), ColourEmbedder())
    with pytest.raises(UserError, match="a gallery model for the projection"):
        Models.of(Blind(), projection=tmp_path)
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=r"found 2 of 3 missing, first 'b\.png'"):
        listed_images(tmp_path, ["a.png", "b.png", "c.png"])
