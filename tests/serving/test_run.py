"""Tokens, addresses and settings: what stops before anything is served."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxylesskd.cli import app
from proxylesskd.errors import UserError
from proxylesskd.recognition.gallery import Gallery
from proxylesskd.serving import run


def test_tokens_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(run.TOKEN, raising=False)
    assert run.read_token(None) is None
    (tmp_path / "token").write_text("0123456789abcdef\n")
    assert run.read_token(tmp_path / "token") == "0123456789abcdef"
    monkeypatch.setenv(run.TOKEN, "from the environment")
    assert run.read_token(None) == "from the environment"
    monkeypatch.setenv(run.TOKEN, "short")
    with pytest.raises(UserError, match="at least 16"):
        run.read_token(None)
    with pytest.raises(UserError, match="expected a token in"):
        run.read_token(tmp_path / "none")


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False), ("x", False)],
)
def test_only_this_machine_asks_without_a_token(host: str, alone: bool) -> None:
    run.check_open(host, "0123456789abcdef")
    if alone:
        run.check_open(host, None)
    else:
        with pytest.raises(UserError, match="expected a token for a service that listens"):
            run.check_open(host, None)


def test_the_verb_hands_on_what_it_was_given(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    started: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(uvicorn, "run", lambda what, **options: started.append((what, options)))
    monkeypatch.delenv(run.TOKEN, raising=False)
    monkeypatch.setenv(run.SETTINGS, "")
    words = ["serve", "-m", str(model), "-g", str(tmp_path / "g.db"), "--aligned", "--port", "8123"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    assert "http://127.0.0.1:8123" in answer.output
    assert started[0][1]["access_log"] is False  # addresses hold names
    assert Gallery(tmp_path / "g.db").counts() == {}
    assert CliRunner().invoke(app, [*words, "--workers", "3", "--rate", "5"]).exit_code == 0
    what, options = started[1]
    assert (what, options["workers"], options["factory"]) == ("proxylesskd.serving.run:worker", 3, True)
    settings = json.loads(os.environ[run.SETTINGS])
    assert settings["service"]["each_second"] == 5
    assert "token" not in settings
    assert run.worker().title == "ProxylessKD recognition"
