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


def test_nearest_word() -> None:
    assert nearest("labl", ["image", "label"]) == "; did you mean 'label'?"
    assert nearest("x", ["image"]) == ""
