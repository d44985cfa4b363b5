from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.protocols.ijb import crops, evaluate_ijb
from proxylesskd.protocols.ijb_meta import read_ijb
from proxylesskd.protocols.write_ijb import draw_templates, write_ijb
from tests.faces import MemorySource, face, jpeg
from tests.protocols.test_ijb import Grid


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def source() -> MemorySource:
    return MemorySource(identities=6, images=9)


def test_a_written_set_is_read_and_its_bytes_are_the_sources(tmp_path: Path, source: MemorySource) -> None:
    told: list[tuple[int, int]] = []
    written = write_ijb(source, tmp_path, most=3, progress=lambda done, total: told.append((done, total)))
    assert (written.images, written.skipped, told[-1]) == (54, {}, (54, 54))
    ijb = read_ijb(tmp_path)
    for index, name in enumerate(ijb.names):
        assert (ijb.crops / name).read_bytes() == source.read(index)[0]
    assert ijb.probes is not None
    assert ijb.pairs is not None
    subject: dict[int, int] = {}
    for listed in (*ijb.galleries.values(), ijb.probes):
        subject |= dict(zip(listed.templates.tolist(), listed.subjects.tolist(), strict=True))
    assert len(subject) == len(ijb.ids)
    for image, template in enumerate(ijb.template.tolist()):
        assert subject[template] == source.labels[image] + 1
    sizes = np.bincount(ijb.template)
    assert sizes.min() >= 1
    assert sizes.max() <= 3
    for medium in np.unique(ijb.media):
        assert len(np.unique(ijb.template[ijb.media == medium])) == 1
    enrolled = [gallery.subjects.tolist() for gallery in ijb.galleries.values()]
    assert sorted(enrolled[0] + enrolled[1]) == [1, 2, 3, 4, 5, 6]
    assert [len(each) for each in enrolled] == [3, 3]
    first, second, same = ijb.pairs.first.tolist(), ijb.pairs.second.tolist(), ijb.pairs.same.tolist()
    assert same == [subject[a] == subject[b] for a, b in zip(first, second, strict=True)]
    assert len(set(zip(first, second, strict=True))) == len(first) == 6 * len(ijb.probes.templates)  # all there are
    assert set(second) == set(ijb.probes.templates.tolist())


def test_a_set_is_called_what_its_writer_calls_it(tmp_path: Path, source: MemorySource) -> None:
    write_ijb(source, tmp_path / "a", name="Doormen 2025")
    write_ijb(source, tmp_path / "b")
    assert [read_ijb(tmp_path / place).name for place in "ab"] == ["Doormen 2025", "IJB-C"]


def test_same_seed_same_bytes_and_another_seed_another_set(tmp_path: Path, source: MemorySource) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_ijb(source, tmp_path / name, seed=seed)
    assert digests(tmp_path / "a") == digests(tmp_path / "b") != digests(tmp_path / "c")


def test_impostors_are_as_many_as_asked_for(tmp_path: Path, source: MemorySource) -> None:
    write_ijb(source, tmp_path, impostors=7)
    pairs = read_ijb(tmp_path).pairs
    assert pairs is not None
    assert int((~pairs.same).sum()) == 7


def test_a_written_set_is_evaluated_from_end_to_end(tmp_path: Path, source: MemorySource) -> None:
    pytest.importorskip("cv2", reason="crops are cut by OpenCV")
    write_ijb(source, tmp_path, subset="ijbb")
    assert (tmp_path / "meta/ijbb_1N_gallery_S2.csv").is_file()
    found = evaluate_ijb(Grid(), tmp_path, subset="ijbb", replicates=20)
    assert found["1:1"].protocol.startswith("IJB-B 1:1")
    area, hits = found["1:1"].measures["single"]["auc"].value, found["1:N"].measures["single"]["rank-1"].value
    assert area is not None
    assert hits is not None
    assert area > 0.85  # colours tell these faces apart, though not in any light
    assert hits > 0.8


@pytest.mark.parametrize("size", [56, 112, 224])
def test_faces_of_any_size_are_cut_as_they_lie(tmp_path: Path, size: int) -> None:
    pytest.importorskip("cv2", reason="crops are cut by OpenCV")

    class Sized(MemorySource):
        def read(self, index: int) -> tuple[bytes, int]:
            return jpeg(np.full((size, size, 3), 90, np.uint8)) if index else jpeg(face(0, 0, size)), int(
                self.labels[index]
            )

    write_ijb(Sized(2, 4), tmp_path)
    ijb = read_ijb(tmp_path)
    first, flat = crops(ijb, np.array([0, 1])).read(0), crops(ijb, np.array([0, 1])).read(1)
    assert (np.abs(flat[:, 2:-2, 2:-2].astype(int) - 90) <= 2).all()
    whole = face(0, 0, 112).transpose(2, 0, 1).astype(int)
    middle = slice(4, None, 16)  # of the 16-pixel fields, away from their edges
    assert np.abs(first[:, middle, middle].astype(int) - whole[:, middle, middle]).max() < 12


def test_corrupt_images_are_left_out_and_told(tmp_path: Path, source: MemorySource) -> None:
    source._data[10] = b"nothing"
    written = write_ijb(source, tmp_path)
    assert written.images == 53
    assert list(written.skipped) == [10]
    assert written.skipped[10].startswith("image 10: ")
    assert len(read_ijb(tmp_path).names) == 53


def test_what_was_interrupted_is_no_set_and_is_written_again(tmp_path: Path, source: MemorySource) -> None:
    def stop(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_ijb(source, tmp_path / "a", progress=stop)
    with pytest.raises(UserError, match="expected the list"):
        read_ijb(tmp_path / "a")
    write_ijb(source, tmp_path / "a")
    write_ijb(source, tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    with pytest.raises(UserError, match="without a set"):
        write_ijb(source, tmp_path / "a")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"most": 0}, "at least 1"), ({"impostors": 0}, "at least 1"), ({"subset": "x"}, "ijbb or ijbc")],
)
def test_options_out_of_range_are_refused(
    tmp_path: Path, source: MemorySource, wrong: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        write_ijb(source, tmp_path, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_too_few_to_compare_are_refused(labels: list[int]) -> None:
    with pytest.raises(UserError, match="at least two identities"):
        draw_templates(np.array(labels), 3, np.random.default_rng(0))
