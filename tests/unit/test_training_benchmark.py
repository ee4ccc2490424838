"""The training benchmark compares what computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import training
from benchmarks.training import (
    HALF,
    Baseline,
    count_step_flops,
    make_plain,
    measure_reading,
    measure_steps,
    open_bags,
    take_steps,
    write_features,
)
from ssrl.model.network import SSRL
from ssrl.model.recipes import paper_model
from ssrl.train.features import Features

D = 16


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(training, "FEATURE_DIM", D)
    write_features(tmp_path)
    return tmp_path


def test_the_baseline_reads_the_same_features(folder: Path) -> None:
    bags = open_bags(folder)
    baseline = Baseline(folder, bags, torch.device("cpu"))
    videos = np.array([3, 12])
    for scale, x in Features(bags.view, training.SCALES, torch.device("cpu")).load(videos).scales.items():
        torch.testing.assert_close(baseline.read(scale, videos), x)
    assert 0 < baseline() < 100


def test_the_baseline_has_the_same_network() -> None:
    """With the weights of ours, its convolutions give the same outputs."""
    torch.manual_seed(0)
    ours, plain = SSRL(paper_model(D, (1, 2, 4))).eval(), make_plain(SSRL(paper_model(D, (1, 2, 4)))).eval()
    weights = [value for name, value in ours.state_dict().items()]
    names = list(plain.state_dict())
    assert len(names) == len(weights)
    plain.load_state_dict(dict(zip(names, weights, strict=True)))
    x = {scale: torch.randn(2, 8, count, D) for scale, count in ((1, 1), (2, 6), (4, 28))}
    with torch.no_grad():
        torch.testing.assert_close(plain(x).scores, ours(x).scores, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("way", "names"), [("unfrozen", {"unfrozen", "constant"}), ("frozen", {"frozen"})])
def test_ways_to_train_are_measured(folder: Path, way: str, names: set[str]) -> None:
    measured = measure_steps(way, folder, "cpu", "float32", torch.get_num_threads(), 0.0)
    assert measured.seconds.keys() == names and min(measured.seconds.values()) > 0
    assert measured.peak_bytes > 1 << 20


def test_reading_is_compared(folder: Path) -> None:
    assert measure_reading(folder) > 0


def test_steps_are_counted_until_the_time_is_over() -> None:
    assert len(take_steps(lambda: None, 0.0)) == training.LEAST_STEPS
    assert len(take_steps(lambda: None, 60.0)) == training.MOST_STEPS


def test_flops_are_those_of_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step costs two to three times the forward: there are no gradients of the features."""
    monkeypatch.setattr(training, "FEATURE_DIM", D)
    from ssrl.model.flops import measure_network

    forward = 2 * HALF * measure_network(paper_model(D, training.SCALES)).flops
    assert 2 < count_step_flops() / forward < 3
