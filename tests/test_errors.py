from __future__ import annotations

import pytest

from proxylesskd.errors import CorruptImageError, UserError, nearest


@pytest.mark.parametrize("kind", [UserError, CorruptImageError])
def test_a_message_is_one_line_that_every_terminal_can_print(kind: type[UserError]) -> None:
    hostile = "found 'a\nb\r\t\x1b[2J\x07\udcff\u202e李é '; mend it"
    assert str(kind(hostile)) == r"found 'a\nb\r\t\x1b[2J\x07\udcff\u202e李é '; mend it"
    str(kind(hostile)).encode()
    assert str(kind("plain é")) == "plain é"
    assert str(kind()) == ""


def test_a_message_that_quotes_a_whole_file_keeps_both_its_ends() -> None:
    text = str(UserError("expected a name, found '" + "x\n" * 9000 + "'; mend it"))
    assert len(text) <= UserError.LONGEST + 3
    assert text.startswith("expected a name, found 'x")
    assert text.endswith("; mend it")
    assert str(UserError("y" * UserError.LONGEST)) == "y" * UserError.LONGEST


def test_nearest_word() -> None:
    assert nearest("labl", ["image", "label"]) == "; did you mean 'label'?"
    assert nearest("x", ["image"]) == ""
