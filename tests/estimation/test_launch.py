from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxylesskd.errors import UserError
from proxylesskd.estimation import launch
from proxylesskd.estimation.asked import Asked, Probed
from proxylesskd.estimation.launch import ask, extended
from tests.estimation.test_memory import ASKED, FOUND


def test_a_line_through_two_trials_is_followed() -> None:
    low = Probed(rest=100, loaded=40, gpu=8, student_seconds=1.0, head_seconds=3.0, data_seconds=0.2, base=5)
    high = Probed(rest=160, loaded=80, gpu=8, student_seconds=1.5, head_seconds=3.0, data_seconds=0.1, base=6)
    found = extended(low, high, 8, 16, 64)
    assert (found.rest, found.loaded, found.gpu, found.base) == (520, 320, 8, 6)
    assert found.student_seconds == pytest.approx(4.5)
    assert found.data_seconds == 0.0
    assert found.head_seconds == 3.0


def test_too_many_images_are_tried_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def answer(asked: Asked) -> Probed:
        tried.append(asked.batch)
        return Probed(smaller=16) if asked.batch == 64 else replace(FOUND, rest=1000 + 10 * asked.batch)

    monkeypatch.setattr(launch, "_launch", answer)
    assert ask(ASKED).rest == 1000 + 10 * 64
    assert tried == [64, 16, 8]


def test_the_neediest_process_counts() -> None:
    assert launch._worst([replace(FOUND, rest=5), replace(FOUND, rest=9)]).rest == 9
    assert launch._worst([replace(FOUND, rest=5), Probed(smaller=8), Probed(smaller=12)]) == Probed(smaller=8)


def test_processes_are_told_what_torchrun_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    alone = launch._environment(0, ASKED, 1234)
    assert "RANK" not in alone
    assert alone["CUDA_VISIBLE_DEVICES"] == ""
    second = launch._environment(1, replace(ASKED, processes=2, device="cuda"), 1234)
    named = {k: second[k] for k in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "OMP_NUM_THREADS")}
    assert named == {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1234", "OMP_NUM_THREADS": "1"}


class Ended:
    def __init__(self, code: int) -> None:
        self.returncode = code

    def wait(self, _seconds: float | None = None) -> int:
        return self.returncode

    def kill(self) -> None:
        pass


@pytest.mark.parametrize(("code", "said"), [(-9, "was ended, as a machine without memory does it"), (1, "code 1")])
def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    def start(folder: Any, rank: int, _asked: Asked, _port: int) -> Ended:
        (folder / f"errors-{rank}.txt").write_text("much\nMemoryError: all gone\n")
        return Ended(code)

    monkeypatch.setattr(launch, "_start", start)
    with pytest.raises(UserError, match=f"{said}: MemoryError: all gone"):
        ask(ASKED)
