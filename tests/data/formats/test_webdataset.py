"""WebDataset shards, against the webdataset library as writer and as reader."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from proxylesskd.data.formats import stored_index
from proxylesskd.data.formats import webdataset as module
from proxylesskd.data.formats.shard_index import read_index
from proxylesskd.data.formats.webdataset import WebDatasetSource, write_webdataset
from proxylesskd.data.source import open_source
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import MemorySource, face, jpeg

Sample = dict[str, object]


def written(path: Path, samples: list[Sample]) -> Path:
    """Write one shard by the library; values are bytes or what its encoders take."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as tar:
        for number, sample in enumerate(samples):
            tar.write({"__key__": f"{number:05d}", **sample})
    return path


def image(number: int = 0) -> bytes:
    return jpeg(face(number, 0))


def test_shards_of_the_library(tmp_path: Path) -> None:
    faces = MemorySource(4, 5)
    order = np.random.default_rng(0).permutation(20).tolist()
    with webdataset.ShardWriter(str(tmp_path / "set-%03d.tar"), maxcount=6, verbose=0) as shards:
        for number, index in enumerate(order):
            data, label = faces.read(index)
            shards.write({"__key__": f"a/{number:04d}", "jpg": data, "cls": label * 10, "note.txt": "not a label"})
    source = open_source(f"wds:{tmp_path}")
    assert list(source.identities) == ["0", "10", "20", "30"]
    assert source.labels.dtype == np.int64
    assert [source.read(i) for i in range(20)] == [faces.read(i) for i in order]
    assert source.name(7) == "set-001.tar:a/0007.jpg"
    for pattern in ("set-{000..003}.tar", "set-*.tar", "set-00{0,1,2,3}.tar"):
        again = open_source(f"wds:{tmp_path / pattern}")
        assert again.labels.tolist() == source.labels.tolist()
    assert isinstance(open_source(str(tmp_path)), WebDatasetSource)
    assert len(open_source(str(tmp_path / "set-003.tar"))) == 2


def test_our_shards_are_read_by_the_library(tmp_path: Path) -> None:
    faces = MemorySource(3, 4)
    assert write_webdataset(faces, tmp_path / "set", images=5).images == 12
    url = str(tmp_path / "set" / "shard-{000000..000002}.tar")
    found = list(webdataset.WebDataset(url, shardshuffle=False).decode("rgb8").to_tuple("jpg", "cls", "json"))
    assert [label for _, label, _ in found] == faces.labels.tolist()
    assert [told["identity"] for _, _, told in found] == [faces.identities[i] for i in faces.labels]
    for index, (pixels, _, _) in enumerate(found):
        assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(faces.read(index)[0]))))


def test_round_trip_and_the_limits_of_a_shard(tmp_path: Path) -> None:
    faces = MemorySource(3, 4)
    write_webdataset(faces, tmp_path / "a", images=5)
    write_webdataset(faces, tmp_path / "b", size=9000)
    for name in "ab":
        back = WebDatasetSource(tmp_path / name)
        assert back.identities == faces.identities
        assert [back.read(i) for i in range(12)] == [faces.read(i) for i in range(12)]
    assert len(list((tmp_path / "a").glob("*.tar"))) == 3
    sizes = [path.stat().st_size for path in (tmp_path / "b").glob("*.tar")]
    assert len(sizes) > 2
    assert max(sizes) <= 10240  # 9000, filled up as the format asks
    write_webdataset(faces, tmp_path / "c", size=1)  # smaller than any image: one each
    assert len(list((tmp_path / "c").glob("*.tar"))) == 12
    with pytest.raises(UserError, match="at least one image"):
        write_webdataset(faces, tmp_path / "d", images=0)


def test_a_shard_is_the_same_bytes_whenever_it_is_written(tmp_path: Path) -> None:
    for name in "ab":
        write_webdataset(MemorySource(2, 2), tmp_path / name)
    assert (tmp_path / "a/shard-000000.tar").read_bytes() == (tmp_path / "b/shard-000000.tar").read_bytes()


@pytest.mark.parametrize(
    ("samples", "names", "labels"),
    [
        ([{"cls": 7}, {"cls": 3}], ["3", "7"], [1, 0]),
        ([{"json": {"identity": "b"}}, {"json": {"identity": "a"}}], ["a", "b"], [1, 0]),
        ([{"json": {"label": 2, "identity": "a"}}, {"json": {"label": 1, "identity": "b"}}], ["b", "a"], [1, 0]),
        ([{"cls": 1, "json": {"identity": "a", "age": 3}}, {"cls": 0, "json": {"identity": "ß"}}], ["ß", "a"], [1, 0]),
        ([{"json": {"class": "b"}}, {"json": {"class": "a"}}, {"json": {"class": "b"}}], ["a", "b"], [1, 0, 1]),
        ([{"json": {"label": 2}, "txt": "a caption"}, {"json": {"label": 1}, "txt": "another"}], ["1", "2"], [1, 0]),
        ([{"txt": "b\n"}, {"txt": "a"}], ["a", "b"], [1, 0]),
        ([{"json": {"age": 3}, "txt": "b"}, {"json": {}, "txt": "a"}], ["a", "b"], [1, 0]),
    ],
)
def test_the_ways_to_tell_an_identity(
    tmp_path: Path, samples: list[Sample], names: list[str], labels: list[int]
) -> None:
    path = written(tmp_path / "a.tar", [{"jpg": image(), **sample} for sample in samples])
    for _ in range(2):  # read, then from the stored index
        source = WebDatasetSource(path)
        assert (list(source.identities), source.labels.tolist()) == (names, labels)


@pytest.mark.parametrize(
    ("samples", "found"),
    [
        ([{"jpg": b"a"}], "neither .cls nor .txt"),
        ([{"jpg": b"a", "cls": b"-1"}], "no number"),
        ([{"jpg": b"a", "cls": b"1.5"}], "no number"),
        ([{"jpg": b"a", "cls": b"9" * 11}], "no number"),
        ([{"jpg": b"a", "cls": b"9" * 10}], "not in"),
        ([{"jpg": b"a", "cls": b""}], "no number"),
        ([{"jpg": b"a", "json": b"[1]"}], "no object"),
        ([{"jpg": b"a", "json": b"{"}], "expected an identity"),
        ([{"jpg": b"a", "json": b"[" * 100_000}], "expected an identity"),
        ([{"jpg": b"a", "json": b'{"label": ' + b"9" * 5000 + b"}"}], "expected an identity"),
        ([{"jpg": b"a", "json": b'{"label": true}'}], "neither"),
        ([{"jpg": b"a", "json": b'{"identity": "\\ud800"}'}], "expected an identity"),
        ([{"jpg": b"a", "json": b'{"identity": ""}'}], "an empty name"),
        ([{"jpg": b"a", "txt": b"\xff"}], "expected an identity"),
        ([{"jpg": b"a", "txt": b" " * (2 << 20)}], "bytes of text"),
        ([{"cls": 1}], "expected one image .* found 0"),
        ([{"jpg": b"a", "png": b"b", "cls": 1}], "expected one image .* found 2"),
        ([{"jpg": b"a", "cls": 1}, {"jpg": b"b", "txt": "x"}], "told in one way"),
        ([{"jpg": b"a", "cls": 1, "json": {"identity": "x"}}, {"jpg": b"b", "cls": 1}], "told in one way"),
        (
            [{"jpg": b"a", "cls": 1, "json": {"identity": "x"}}, {"jpg": b"b", "cls": 1, "json": {"identity": "y"}}],
            "one name for each number",
        ),
        (
            [{"jpg": b"a", "cls": 1, "json": {"identity": "x"}}, {"jpg": b"b", "cls": 2, "json": {"identity": "x"}}],
            "one name for each number",
        ),
        ([], "expected images"),
        ([{"pyd": {"a": 1}}], "expected images"),
    ],
)
def test_samples_that_say_no_identity(tmp_path: Path, samples: list[Sample], found: str) -> None:
    with pytest.raises(UserError, match=found):
        WebDatasetSource(written(tmp_path / "a.tar", samples))


def test_a_second_label_of_one_sample(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("0.jpg", "0.cls", "0.CLS"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(UserError, match=r"a second \.cls of the sample '0'"):
        WebDatasetSource(tmp_path / "a.tar")


def test_nothing_that_a_name_says_is_run(tmp_path: Path) -> None:
    """The library runs ``pipe:`` patterns as commands."""
    with pytest.raises(UserError, match="expected a shard at 'pipe:touch"):
        open_source(f"wds:pipe:touch {tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_a_huge_image_is_a_corrupt_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.tar", [{"jpg": image(), "cls": 0}])
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 100)
    with pytest.raises(CorruptImageError, match="expected an image file below"):
        WebDatasetSource(path).read(0)


def test_a_shard_that_goes_or_shrinks_while_it_is_open(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", [{"jpg": image(), "cls": 0}])
    source = WebDatasetSource(path)
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(CorruptImageError, match="the end of the file"):
        source.read(0)
    path.unlink()
    lost = WebDatasetSource(written(tmp_path / "b.tar", [{"jpg": image(), "cls": 0}]))
    (tmp_path / "b.tar").unlink()
    with pytest.raises(CorruptImageError, match="expected a shard at"):
        lost.read(0)


def test_more_shards_than_stay_open(tmp_path: Path) -> None:
    faces = MemorySource(15, 10)
    write_webdataset(faces, tmp_path / "set", images=1)
    source = WebDatasetSource(tmp_path / "set")
    for index in [*range(150), 3, 149, 0]:
        assert source.read(index) == faces.read(index)


def _read_all(source: WebDatasetSource) -> list[tuple[bytes, int]]:
    return [source.read(index) for index in range(len(source))]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(tmp_path: Path, method: str) -> None:
    faces = MemorySource(2, 2)
    write_webdataset(faces, tmp_path / "set")
    source = WebDatasetSource(tmp_path / "set")
    expected = _read_all(source)
    if method == "spawn":  # what it amounts to: the source travels as a pickle
        assert _read_all(pickle.loads(pickle.dumps(source))) == expected
        return
    with get_context("fork").Pool(1) as pool:
        assert pool.apply(_read_all, (source,)) == expected


def test_the_index_is_kept_and_made_anew_when_a_shard_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.tar", [{"jpg": image(), "cls": 5}])
    WebDatasetSource(path)
    assert len(list(tmp_path.glob(".proxylesskd-index-*.safetensors"))) == 1
    monkeypatch.setattr("proxylesskd.data.formats.shard_index._built", lambda _: pytest.fail("walked again"))
    assert WebDatasetSource(path).identities == ["5"]
    monkeypatch.undo()
    written(tmp_path / "a.tar", [{"jpg": image(), "cls": 6}, {"jpg": image(), "cls": 7}])
    assert WebDatasetSource(path).identities == ["6", "7"]


@pytest.mark.parametrize("harm", ["bytes", "label", "shape", "kind", "name", "shard", "negative", "missing"])
def test_a_hostile_index_is_not_believed(tmp_path: Path, harm: str) -> None:
    path = written(tmp_path / "a.tar", [{"jpg": image(i), "cls": i} for i in range(3)])
    good = read_index([path])
    arrays = stored_index.load_index([path])
    assert arrays is not None
    changed: dict[str, np.ndarray] = {
        "label": np.array([0, 1, 3]),
        "shape": np.array([0, 1]),
        "kind": np.array([0.0, 1.0, 2.0]),
        "name": np.frombuffer(b"[1,2,3]", np.uint8),
        "shard": np.array([0, 0, 7]),
        "negative": np.array([0, -5, 7]),
    }
    places = {"name": "identities", "shard": "shard", "negative": "offset"}
    index = next(tmp_path.glob(".proxylesskd*"))
    if harm == "bytes":
        index.write_bytes(index.read_bytes()[:50])
    elif harm == "missing":
        stored_index.store_index([path], {"labels": np.arange(3)})
    else:
        stored_index.store_index([path], {**arrays, places.get(harm, "labels"): changed[harm]})
    again = read_index([path])
    assert again.labels.tolist() == good.labels.tolist()
    assert again.offset.tolist() == good.offset.tolist()
    assert list(again.identities) == ["0", "1", "2"]


def test_json_of_ours_is_plain(tmp_path: Path) -> None:
    faces = MemorySource(1, 1)
    faces.identities = ['a/"ü"\n']
    write_webdataset(faces, tmp_path / "set")
    with tarfile.open(tmp_path / "set/shard-000000.tar") as tar:
        assert tar.getnames() == ["000000000.jpg", "000000000.cls", "000000000.json"]
        told = tar.extractfile("000000000.json")
        assert told is not None
        assert json.loads(told.read()) == {"identity": 'a/"ü"\n'}
    assert list(WebDatasetSource(tmp_path / "set").identities) == ['a/"ü"\n']
