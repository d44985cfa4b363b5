from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxylesskd.errors import UserError
from proxylesskd.protocols import ijb_meta
from proxylesskd.protocols.ijb_meta import positions_of, read_ijb
from tests.protocols.ijb_files import GALLERIES, IMAGES, PAIRS, POINTS, PROBES, SUBJECT, score, write_set

LISTS = [
    "ijbc_name_5pts_score.txt",
    "ijbc_face_tid_mid.txt",
    "ijbc_template_pair_label.txt",
    "ijbc_1N_gallery_G1.csv",
    "ijbc_1N_gallery_G2.csv",
    "ijbc_1N_probe_mixed.csv",
]


def change(root: Path, name: str, line: int, text: str) -> None:
    path = root / "meta" / name
    lines = path.read_text().split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines))


@pytest.mark.parametrize("subset", ["ijbb", "ijbc"])
def test_all_lists_are_read(tmp_path: Path, subset: str) -> None:
    titles = ("S1", "S2") if subset == "ijbb" else ("G1", "G2")
    ijb = read_ijb(write_set(tmp_path, subset, titles), subset=subset)
    assert ijb.name == {"ijbb": "IJB-B", "ijbc": "IJB-C"}[subset]
    assert ijb.names == [f"{i + 1}.png" for i in range(len(IMAGES))]
    np.testing.assert_allclose(ijb.landmarks[3], np.array(POINTS) + 14, atol=1e-9)
    assert ijb.detector.tolist() == [score(i) for i in range(len(IMAGES))]
    assert [(int(ijb.ids[t]), int(m)) for t, m in zip(ijb.template, ijb.media, strict=True)] == [
        (template, medium) for _, template, medium in IMAGES
    ]
    assert ijb.pairs is not None
    ids = ijb.ids
    found = zip(ids[ijb.pairs.first].tolist(), ids[ijb.pairs.second].tolist(), ijb.pairs.same.tolist(), strict=True)
    assert list(found) == PAIRS
    assert ijb.probes is not None
    for listed, templates in zip([*ijb.galleries.values(), ijb.probes], [*GALLERIES.values(), PROBES], strict=True):
        assert tuple(ids[listed.templates].tolist()) == templates
        assert listed.subjects.tolist() == [SUBJECT[t] for t in templates]


def test_one_protocol_alone_is_enough(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    (root / "meta" / LISTS[2]).unlink()
    assert read_ijb(root).pairs is None
    for name in LISTS[3:]:
        (root / "meta" / name).unlink()
    with pytest.raises(UserError, match=r"ijbc_template_pair_label.txt' or ijbc_1N_\*"):
        read_ijb(root)


def test_the_search_needs_all_of_its_lists(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    (root / "meta" / LISTS[4]).unlink()
    with pytest.raises(UserError, match=r"found no ijbc_1N_gallery_G2.csv or ijbc_1N_gallery_S2.csv"):
        read_ijb(root)


@pytest.mark.parametrize("name", LISTS[:2])
def test_a_missing_list_is_named(tmp_path: Path, name: str) -> None:
    root = write_set(tmp_path)
    (root / "meta" / name).unlink()
    with pytest.raises(UserError, match=name):
        read_ijb(root)


@pytest.mark.parametrize(
    ("name", "line", "text", "says"),
    [
        (LISTS[0], 2, "2.png 1 2 3", "in line 2"),
        (LISTS[0], 3, "3.png 1 2 3 4 5 6 7 8 9 x 1", "in line 3"),
        (LISTS[0], 4, "4.png 1 2 3 4 5 6 7 8 9 nan 1", "in line 4"),
        (LISTS[0], 4, "4.png 1 2 3 4 5 6 7 8 9 1e30 1", "in line 4"),
        (LISTS[0], 4, "4.png 1 2 3 4 5 6 7 8 9 10 -1", "score >= 0"),
        (LISTS[0], 2, "../2.png 1 2 3 4 5 6 7 8 9 10 1", "below loose_crop in line 2"),
        (LISTS[0], 2, "/etc/passwd 1 2 3 4 5 6 7 8 9 10 1", "below loose_crop in line 2"),
        (LISTS[1], 2, "3.png 10 1", "expected '2.png' in line 2"),
        (LISTS[1], 2, "2.png ten 1", "in line 2"),
        (LISTS[1], 2, "2.png 10 99999999999999999999", "in line 2"),
        (LISTS[1], 17, "", "expected 17 lines"),
        (LISTS[2], 5, "10 99 0", "in pair 5"),
        (LISTS[2], 5, "10 30 2", "in pair 5"),
        (LISTS[2], 5, "10 30", "in line 5"),
        (LISTS[3], 1, "TEMPLATE,SUBJECT", "TEMPLATE_ID and SUBJECT_ID in the header"),
        (LISTS[3], 3, "10,x,img/1.png", "in line 3"),
        (LISTS[3], 3, "10", "in line 3"),
        (LISTS[3], 3, f"10,{1 << 70},img/1.png", "in line 3"),
        (LISTS[3], 3, "10,2,img/1.png", "one subject a template, found 1 and 2 for 10 in line 3"),
        (LISTS[3], 3, "999,2,img/1.png", "found template 999"),
        (LISTS[3], 3, "10,1," + "9" * 200_000, "comma-separated"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, name: str, line: int, text: str, says: str) -> None:
    root = write_set(tmp_path)
    change(root, name, line, text)
    with pytest.raises(UserError, match=says):
        read_ijb(root)


def test_a_set_of_ones_own_has_its_own_name(tmp_path: Path) -> None:
    write_set(tmp_path)
    assert read_ijb(tmp_path).name == "IJB-C"
    (tmp_path / "meta" / "name.txt").write_text("Doormen 2025\n", encoding="utf-8")
    assert read_ijb(tmp_path).name == "Doormen 2025"
    for wrong in ("", " \n", "a\nb", "\x1b[2J", "x" * 81):
        (tmp_path / "meta" / "name.txt").write_text(wrong, encoding="utf-8")
        with pytest.raises(UserError, match="expected a name of at most 80 letters"):
            read_ijb(tmp_path)


def test_lists_without_lines_are_refused(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    (root / "meta" / LISTS[3]).write_text("TEMPLATE_ID,SUBJECT_ID\n")
    with pytest.raises(UserError, match="found none at all"):
        read_ijb(root)
    write_set(tmp_path / "other")
    (tmp_path / "other/meta" / LISTS[2]).write_text("\n")
    with pytest.raises(UserError, match="found none"):
        read_ijb(tmp_path / "other")


def test_bytes_that_are_no_text_and_lists_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_set(tmp_path)
    (root / "meta" / LISTS[1]).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="expected text"):
        read_ijb(root)
    monkeypatch.setattr(ijb_meta, "MAX_LIST_BYTES", 100)
    with pytest.raises(UserError, match="at most"):
        read_ijb(root)


def test_a_subset_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'ijbc'"):
        read_ijb(tmp_path, subset="ijb-c")


@pytest.mark.parametrize("ids", [[3, 5, 9], [-4, 5, 9], [3, 5, 1 << 40]])
def test_positions_are_found_by_table_and_by_search(ids: list[int]) -> None:
    numbers = np.array([5, ids[0], ids[2], 4, -7, 1 << 41, 0], dtype=np.int64)
    expected = [ids.index(n) if n in ids else -1 for n in numbers.tolist()]
    assert positions_of(numbers, np.array(ids)).tolist() == expected


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_in_the_lists_they_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "set"
    if not root.exists():
        write_set(root)
    name = data.draw(st.sampled_from(LISTS))
    path = root / "meta" / name
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    noise = data.draw(
        st.one_of(st.binary(max_size=20), st.sampled_from([b" ", b"\n", b'"', b",", b"-1", b"1e9", b"\r"]))
    )
    try:
        path.write_bytes(whole[:cut] + noise + whole[cut + data.draw(st.integers(0, 5)) :])
        ijb = read_ijb(root)
        assert len(ijb.names) == len(ijb.template) == len(ijb.media)
    except UserError:
        pass
    finally:
        path.write_bytes(whole)
