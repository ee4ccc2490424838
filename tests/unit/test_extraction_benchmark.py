"""The extraction benchmark ends in time: it measures less where a snippet takes long."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks import extraction
from benchmarks.extraction import Budget, fit, measure_seconds


def play(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> list[float]:
    """Let each call of `measure_once` take the next of these times; returns those left."""
    left = list(seconds)
    monkeypatch.setattr(extraction, "measure_once", lambda work: (work(), left.pop(0)))
    return left


def encode() -> dict[int, np.ndarray]:
    return {1: np.zeros(1)}


@pytest.mark.parametrize(
    ("seconds", "repeats"),
    [(0.1, 9), (10.0, 6), (30.0, 2), (61.0, 1), (400.0, 1)],
)
def test_repeats_fit_into_the_time(seconds: float, repeats: int) -> None:
    assert fit(60.0, seconds, least=1, most=9) == repeats


def test_time_overdrawn_leaves_the_least() -> None:
    assert fit(-5.0, 0.1, least=4, most=100) == 4


def test_a_fast_snippet_is_repeated_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    left = play(monkeypatch, [9.0, 1.0, 3.0, 2.0, 7.0])
    assert measure_seconds(encode, share=60.0, most=3)[1] == 2.0 and left == [7.0]


def test_a_slow_snippet_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left = play(monkeypatch, [90.0, 80.0])
    assert measure_seconds(encode, share=100.0, most=3)[1] == 90.0 and left == [80.0]


def test_what_compiles_at_first_is_measured_without_that(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, [90.0, 20.0])
    assert measure_seconds(encode, share=100.0, most=3, least=1)[1] == 20.0


def test_time_that_is_saved_goes_to_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 90.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    budget = Budget(deadline=90.0, num_measurements=3)
    assert [budget.take_share() for _ in range(3)] == [30.0, 40.0, 0.0]
