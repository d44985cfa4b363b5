"""The benchmark of verifying photos, on coloured squares that a stand-in detector finds."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")

import verify_photos
from scipy.stats import binomtest

from tests.photos.pictures import MarkDetector, photo, write
from tests.recognition.stand_in import aligned, write_model


def test_calibrates_on_one_fold_and_counts_on_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["2\t4"]
    for fold in range(2):
        people = [f"P{fold}{k}" for k in range(8)]
        for k, name in enumerate(people):
            for number in (1, 2):
                pixels = photo((40, 40, 1.0))
                pixels[46:146, 46:146] = aligned(8 * fold + k, number)[6:106, 6:106]
                write(tmp_path / f"{name}/{name}_{number:04d}.png", pixels)
        lines += [f"{name}\t1\t2" for name in people[:4]]
        lines += [f"{people[k]}\t1\t{people[k + 4]}\t1" for k in range(4)]
    (tmp_path / "P13/P13_0002.png").write_bytes(b"no photo")
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("\n".join(lines), encoding="utf-8")
    recognizer = verify_photos.Recognizer
    monkeypatch.setattr(
        verify_photos, "Recognizer", lambda model, face, **_: recognizer(model, detector=MarkDetector(), face=face)
    )
    asked = ["--photos", tmp_path, "--pairs", pairs, "--model", write_model(tmp_path / "m.onnx"), "--far", "0.05"]
    monkeypatch.setattr(verify_photos, "FARS", (0.1, 0.05))
    monkeypatch.setattr("sys.argv", ["verify_photos.py", *map(str, asked)])
    verify_photos.main()
    printed = capsys.readouterr().out
    assert "calibrated on 4 genuine and 24 impostor pairs of 8 photos" in printed
    wrong = printed.count("  wrong: ")
    assert "one person: 3 of 3 right" in printed
    assert f"two people: {4 - wrong} of 4 right" in printed
    assert f"all: {7 - wrong} of 7 right" in printed
    assert "no answer: 1" in printed
    assert "P13_0002.png" in printed


@pytest.mark.parametrize(("right", "total"), [(0, 9), (7, 9), (9, 9)])
def test_intervals_are_exact(right: int, total: int) -> None:
    exact = binomtest(right, total).proportion_ci(method="exact")
    assert verify_photos.interval(right, total) == f"{100 * exact.low:.1f} to {100 * exact.high:.1f} %"
