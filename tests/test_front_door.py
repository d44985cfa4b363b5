"""The front door as a whole: what comes out of it, what it refuses, and what it leaves on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import proxylesskd as pk
from proxylesskd.errors import UserError
from proxylesskd.front_door import inherit_into
from tests.faces import colour_network, write_faces

OPTIONS = "architecture=tests.faces:colour_network,dim=24,size=48"


@dataclass(frozen=True)
class House:
    """Faces, a teacher without a last layer, and the class centres that its embeddings have."""

    faces: str
    teacher: str
    state: dict[str, torch.Tensor]
    centres: pk.InheritedClassifier


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    here = tmp_path_factory.mktemp("door")
    faces = f"folder:{write_faces(here / 'faces', identities=12, images=4)}"
    torch.manual_seed(3)
    network = colour_network(dim=24)
    state = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(state, here / "teacher.pt")
    teacher = f"{here / 'teacher.pt'}:{OPTIONS}"
    return House(faces, teacher, state, pk.inherit(teacher, faces))


def with_head(house: House, path: Path, rows: torch.Tensor) -> str:
    """A checkpoint that holds backbone and last layer."""
    torch.save({**house.state, "head.weight": rows}, path)
    return f"{path}:{OPTIONS}"


def test_estimated_rows_come_with_an_audit_and_its_page(house: House, tmp_path: Path) -> None:
    found = inherit_into(tmp_path / "c.safetensors", house.teacher, data=house.faces, rows="mean")
    saved = pk.InheritedClassifier.load(tmp_path / "c.safetensors")
    torch.testing.assert_close(saved.rows, house.centres.rows, atol=1e-3, rtol=0)
    assert found.page == tmp_path / "c-audit" / "audit.html"
    assert "label order" in found.page.read_text(encoding="utf-8")
    assert saved.provenance["audit"]["passed"] is True
    assert {"number of rows", "names", "agreement"} <= {f["check"] for f in saved.provenance["audit"]["findings"]}


def test_the_own_last_layer_is_taken_and_compared_with_the_images(house: House, tmp_path: Path) -> None:
    teacher = with_head(house, tmp_path / "t.pt", 3.0 * house.centres.rows)
    found = inherit_into(tmp_path / "c.safetensors", teacher, data=house.faces)
    torch.testing.assert_close(found.classifier.rows, house.centres.rows)
    assert found.classifier.identities == house.centres.identities
    assert found.classifier.provenance["key"] == "head.weight"
    checks = {finding.check: finding.level for finding in found.audit.findings if found.audit}
    assert checks["norms"] == checks["agreement"] == "passed"


def test_a_checkpoint_that_cannot_be_run_is_taken_with_a_note(house: House, tmp_path: Path) -> None:
    torch.save({"head.weight": house.centres.rows}, tmp_path / "head.pt")
    found = inherit_into(tmp_path / "c.safetensors", str(tmp_path / "head.pt"), data=house.faces)
    assert any("cannot be run" in line for line in found.lines())


def test_shifted_rows_are_refused_and_mended(house: House, tmp_path: Path) -> None:
    teacher = with_head(house, tmp_path / "t.pt", house.centres.rows.roll(5, dims=0))
    with pytest.raises(UserError, match=r"the audit failed: .*shift"):
        inherit_into(tmp_path / "c.safetensors", teacher, data=house.faces)
    assert not (tmp_path / "c.safetensors").exists()
    assert "failed" in (tmp_path / "c-audit" / "audit.html").read_text(encoding="utf-8")
    taken = inherit_into(tmp_path / "wrong.safetensors", teacher, data=house.faces, audit=False)
    torch.testing.assert_close(taken.classifier.rows, house.centres.rows.roll(5, dims=0))
    mended = inherit_into(tmp_path / "c.safetensors", teacher, data=house.faces, mend=True)
    order = mended.classifier.rows_of(house.centres.identities)
    torch.testing.assert_close(mended.classifier.rows[order], house.centres.rows)
    assert any("order" in line for line in mended.lines())


def test_the_number_of_rows_must_fit(house: House, tmp_path: Path) -> None:
    teacher = with_head(house, tmp_path / "t.pt", house.centres.rows[:9])
    with pytest.raises(UserError, match=r"12.*9|9.*12"):
        inherit_into(tmp_path / "c.safetensors", teacher, data=house.faces, key="head.weight")


def test_untrained_rows_are_seen_by_their_norms(house: House, tmp_path: Path) -> None:
    rows = house.centres.rows.clone()
    rows[[2, 7]] *= 0.01
    with pytest.raises(UserError, match="norm"):
        inherit_into(tmp_path / "c.safetensors", with_head(house, tmp_path / "t.pt", rows), data=house.faces)


def test_names_of_rows_may_be_given(house: House, tmp_path: Path) -> None:
    names = house.centres.identities[::-1]
    teacher = with_head(house, tmp_path / "t.pt", house.centres.rows.flip(0))
    found = inherit_into(tmp_path / "c.safetensors", teacher, data=house.faces, names=names)
    assert found.classifier.identities == names


def test_extended_by_new_identities(house: House, tmp_path: Path) -> None:
    house.centres.save(tmp_path / "old.safetensors")
    more = f"folder:{write_faces(tmp_path / 'more', identities=6, images=3, first=9)}"
    out = tmp_path / "c.safetensors"
    found = inherit_into(out, house.teacher, data=more, rows="mean", extend_with=tmp_path / "old.safetensors")
    assert torch.equal(found.classifier.rows[:12], house.centres.rows)
    assert found.classifier.identities[12:] == ["id-012", "id-013", "id-014"]
    merged = inherit_into(out, house.teacher, data=more, rows="mean", merge_with=tmp_path / "old.safetensors")
    assert len(merged.classifier.identities) == 15
    assert merged.classifier.provenance["shared_identities"] == 3
    mean = F.normalize(house.centres.rows[9] + pk.inherit(house.teacher, more).rows[0], dim=0)
    torch.testing.assert_close(merged.classifier.rows[9], mean, atol=1e-3, rtol=0)


def test_two_teachers_in_one_space_and_projected(house: House, tmp_path: Path) -> None:
    torch.manual_seed(8)
    torch.save(colour_network(dim=16).state_dict(), tmp_path / "other.pt")
    teacher = f"{tmp_path / 'other.pt'}:architecture=tests.faces:colour_network,dim=16,size=48"
    house.centres.save(tmp_path / "first.safetensors")
    out = tmp_path / "c.safetensors"
    both = inherit_into(out, teacher, data=house.faces, rows="mean", concatenate_with=tmp_path / "first.safetensors")
    own = pk.inherit(teacher, house.faces)
    cosines = 0.5 * (house.centres.rows @ house.centres.rows.T + own.rows @ own.rows.T)
    torch.testing.assert_close(both.classifier.rows @ both.classifier.rows.T, cosines, atol=2e-3, rtol=0)
    small = inherit_into(out, house.teacher, data=house.faces, rows="mean", dim=6).classifier
    assert (small.dim, small.teacher_dim) == (6, 24)
    assert small.projection is not None
    torch.testing.assert_close(small.rows, F.normalize(house.centres.rows @ small.projection, dim=1), atol=2e-3, rtol=0)
    cut = inherit_into(out, house.teacher, data=house.faces, rows="mean", dim=6, projection="truncation").classifier
    torch.testing.assert_close(cut.rows, F.normalize(house.centres.rows[:, :6], dim=1), atol=2e-3, rtol=0)
    with pytest.raises(UserError, match="did you mean 'random'"):
        inherit_into(out, house.teacher, data=house.faces, rows="mean", dim=6, projection="randon")


def test_a_clean_list_leaves_out_what_looks_wrong(house: House, tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", identities=12, images=6)
    (faces / "id-003" / "000.jpg").write_bytes((faces / "id-008" / "001.jpg").read_bytes())
    clean = tmp_path / "clean.csv"
    out = tmp_path / "c.safetensors"
    found = inherit_into(out, house.teacher, data=f"folder:{faces}", rows="robust", clean=clean)
    assert "id-003/000.jpg" not in clean.read_text()
    assert "id-003/000.jpg" in (tmp_path / "clean-dropped.csv").read_text()
    assert any("71 of 72" in line for line in found.lines())
    kept = inherit_into(out, house.teacher, data=f"folder:{faces}", rows="mean", keep=clean)
    assert kept.classifier.provenance["images"] == 71


def test_a_clean_list_of_the_first_images_names_the_images_that_were_judged(house: House, tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", identities=12, images=8)
    (faces / "id-003" / "000.jpg").write_bytes((faces / "id-008" / "001.jpg").read_bytes())
    clean = tmp_path / "clean.csv"
    out = tmp_path / "c.safetensors"
    inherit_into(out, house.teacher, data=f"folder:{faces}", rows="mean", images_per_identity=6, clean=clean)
    assert "id-003/000.jpg" in (tmp_path / "clean-dropped.csv").read_text()
    assert len(clean.read_text().splitlines()) == 1 + 12 * 6 - 1


def test_nothing_to_inherit_from(house: House, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data"):
        inherit_into(tmp_path / "c.safetensors", house.teacher)
    with pytest.raises(UserError, match="--data"):
        inherit_into(tmp_path / "c.safetensors", house.teacher, rows="mean")
