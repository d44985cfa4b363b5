from __future__ import annotations

from proxylesskd.serving.rate import Rate


def test_a_bucket_empties_and_fills() -> None:
    now = [0.0]
    rate = Rate(2.0, 3, clock=lambda: now[0])
    assert [rate.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rate.wait("b") == 0
    now[0] = 0.25
    assert rate.wait("a") == 0.25
    now[0] = 0.5
    assert rate.wait("a") == 0
    now[0] = 100.0
    assert [rate.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]  # never more than the burst


def test_buckets_are_bounded() -> None:
    rate = Rate(1e-9, 1, clients=2, clock=lambda: 0.0)
    assert [rate.wait(name) for name in "abc"] == [0, 0, 0]
    assert rate.wait("c") > 0
    assert rate.wait("a") == 0  # forgotten, which costs the service nothing
