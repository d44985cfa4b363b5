from __future__ import annotations

import pytest

from proxylesskd.errors import UserError
from proxylesskd.methods.formula import fade, parse_formula, rise


def test_a_sum_is_read_part_by_part() -> None:
    first, second, third = parse_formula(
        "proxyless + 0.5*rkd(angle=2, hard=true, how=cosine) @ fade(0.2, 0.8)+1e+2 * L2"
    )
    assert (first.name, first.weight, dict(first.options)) == ("proxyless", None, {})
    assert (second.name, second.weight) == ("rkd", 0.5)
    assert dict(second.options) == {"angle": 2, "hard": True, "how": "cosine"}
    assert [second.schedule(p) for p in (0.0, 0.2, 0.5, 0.8, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.0, 0.0])
    assert (third.name, third.weight, third.schedule(0.3)) == ("l2", 100.0, 1.0)


def test_schedules_meet_their_corners() -> None:
    assert [rise(0.25, 0.75, p) for p in (0.0, 0.25, 0.5, 0.75, 0.99)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert [fade(0.0, 1.0, p) for p in (0.0, 0.1, 1.0)] == pytest.approx([1.0, 0.9, 0.0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found nothing"),
        ("proxyless +", "found nothing"),
        ("proxyless rkd", "'\\+' or the end"),
        ("proxyless - rkd", "found '- rkd'"),
        ("0.5*", "a method's name"),
        ("rkd(angle)", "option=value"),
        ("rkd(angle=)", "option=value"),
        ("rkd @ grow(0, 1)", "rise\\(a, b\\) or fade"),
        ("rkd @ rise(0.5, 0.5)", "0 <= a < b <= 1"),
        ("rkd @ fade(0, 2)", "0 <= a < b <= 1"),
    ],
)
def test_what_is_no_sum_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_formula(text)
