"""The benchmark of the exact ROC at the smallest size."""

from __future__ import annotations

import numpy as np
import pytest
import roc_at_scale
from sklearn.metrics import roc_curve

from proxylesskd.evaluation.roc import Roc


def test_every_rate_is_that_of_sorting(capsys: pytest.CaptureFixture[str]) -> None:
    roc_at_scale.check(60, 8)
    roc_at_scale.count(60, 8)
    printed = capsys.readouterr().out
    assert "1,500 impostor scores of 60 images: counting equals sorting to the last bit" in printed
    assert "1,500 impostor and 270 genuine scores, 60 x 8" in printed
    pairs = roc_at_scale.made(60, 8)
    genuine = pairs.genuine().scores
    scores = np.concatenate([genuine, *(block.copy() for block in pairs.impostors())])
    far, tar, _ = roc_curve(np.arange(len(scores)) < len(genuine), scores, drop_intermediate=False)
    (line,) = (line for line in printed.splitlines() if line.startswith("| 0.01 |"))
    assert float(line.split("|")[2]) == pytest.approx(tar[far <= 0.01].max(), abs=1e-6)
    assert float(printed.split("process: ")[1].split(" GiB")[0]) > 0


def test_it_stops_where_counting_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(roc: Roc) -> tuple[float, float]:
        return 0.5, float(roc.threshold[0])

    monkeypatch.setattr(roc_at_scale, "equal_error_rate", shifted)
    with pytest.raises(SystemExit, match="equal error rates"):
        roc_at_scale.check(60, 8)
