"""Zones: their files, the share of each patch that they leave, and what the network makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssrl.errors import UserError
from ssrl.evaluate.localization import Moment, compute_contribution_masks
from ssrl.evaluate.scoring import score_snippets
from ssrl.evaluate.zones import Zone, Zones, load_zones
from ssrl.geometry import Geometry
from ssrl.model.blend import Blend
from ssrl.model.recipes import linear_model
from tests.stores import CONFIG, D

GEOMETRY = Geometry.with_paper_grids(96, 210)
LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
TOP_LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))


def weigh(*zones: Zone, scale: int = 2, video_id: str = "v") -> list[list[float]]:
    shares: list[list[float]] = Zones(zones).weigh(video_id, GEOMETRY.grid(scale)).tolist()
    return shares


def test_patches_are_weighed_by_the_share_of_their_area_that_is_watched() -> None:
    assert weigh(Zone("a", "ignore", LEFT_HALF)) == [[0, 0.5, 1], [0, 0.5, 1]]
    assert weigh(Zone("a", "watch", LEFT_HALF)) == [[1, 0.5, 0], [1, 0.5, 0]]
    assert weigh(Zone("a", "ignore", LEFT_HALF), scale=1) == [[0.5]]
    assert weigh() == [[1, 1, 1], [1, 1, 1]]
    triangle = Zone("a", "ignore", ((0, 0), (1, 0), (0, 1)))
    assert weigh(triangle, scale=1)[0][0] == pytest.approx(0.5, abs=0.01)
    assert weigh(triangle)[0][2] == pytest.approx(1 - (1 / 18) / (1 / 6), abs=0.01)  # legs of 1/3 in the last column


def test_what_is_ignored_wins_over_what_is_watched() -> None:
    zones = Zone("a", "ignore", TOP_LEFT), Zone("b", "watch", LEFT_HALF)
    assert weigh(*zones) == weigh(*zones[::-1]) == [[0, 0, 0], [1, 0.5, 0]]


def test_zones_hold_for_the_videos_that_they_name() -> None:
    zone = Zone("a", "ignore", LEFT_HALF, "gate/*")
    assert weigh(zone, scale=1, video_id="gate/1") == [[0.5]] and weigh(zone, scale=1, video_id="yard/1") == [[1]]


def write(path: Path, **changes: Any) -> Path:
    zone = {"name": "road", "mode": "ignore", "points": [[0, 0], [1, 0], [1, 1]]}
    zone = {key: value for key, value in {**zone, **changes}.items() if value is not None}
    path.write_text(json.dumps({"zones": [zone]}))
    return path


def test_a_file_of_zones(tmp_path: Path) -> None:
    zone = Zone("road", "ignore", ((0, 0), (1, 0), (1, 1)))
    assert load_zones(write(tmp_path / "z.json")) == Zones((zone,))
    assert load_zones(write(tmp_path / "z.json", videos="a*")).zones[0].videos == "a*"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "mask"}, "mode 'mask'; allowed are watch, ignore"),
        ({"points": [[0, 0], [1, 1]]}, "2 points; a polygon has at least 3"),
        ({"points": [[0, 0], [1, 0], [480, 840]]}, r"point \[480.0, 840.0\]; points are \[x, y\] as fractions"),
        ({"points": [[0, 0], [1, 0], [float("nan"), 1]]}, "each in 0..1"),
        ({"points": [[0, 0], [1, 1], [1, 0], [0, 1]]}, "crosses itself"),
        ({"points": [[0, 0], [1, 0], [1, 1], [0.5, 0], [0, 1]]}, "crosses itself"),  # touches its side
        ({"points": [[0, 0], [1, 0, 1], [1, 1]]}, r"a list of \[x, y\], not \[1, 0, 1\]"),
        ({"points": "all"}, "not 'all'"),
        ({"color": "red"}, "the unknown key 'color'; its keys are name, mode, points, and optionally videos"),
        ({"points": None}, "has no 'points'"),
        ({"name": 3}, "must be text"),
    ],
)
def test_zones_that_mean_nothing_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_zones(write(tmp_path / "z.json", **changes))
    assert str(tmp_path / "z.json") in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"zones": 1}', '{"zones": [], "more": 1}', '{"zones": [1]}'])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "z.json").write_text(text)
    with pytest.raises(UserError, match=r"z\.json"):
        load_zones(tmp_path / "z.json")


def test_what_is_ignored_neither_scores_nor_glows() -> None:
    torch.manual_seed(0)
    network = Blend(linear_model(D, (2,), CONFIG.grids)).eval()
    state = network.state_dict()
    network.load_state_dict(state | {name: torch.rand_like(each) for name, each in state.items() if "linear" in name})
    quiet = {2: np.zeros((40, 6, D), np.float16)}  # the mean of the training videos
    loud = {2: quiet[2].copy()}
    loud[2][20, 0] = 3
    seen, _ = score_snippets(network, loud)
    expected, _ = score_snippets(network, quiet)
    assert seen[20] > expected[20] + 0.1
    zones = {name: Zones((Zone(name, "ignore", points),)) for name, points in (("there", TOP_LEFT), ("all", LEFT_HALF))}
    elsewhere = Zones((Zone("elsewhere", "ignore", ((0.5, 0), (1, 0), (1, 1), (0.5, 1))),))
    for zone in zones.values():
        scores, _ = score_snippets(network, zone.apply("v", loud, network, GEOMETRY))
        np.testing.assert_allclose(scores, expected, atol=1e-6)
    watched = elsewhere.apply("v", loud, network, GEOMETRY)
    np.testing.assert_allclose(score_snippets(network, watched)[0], seen, atol=1e-6)
    grids = {2: GEOMETRY.grid(2)}
    assert compute_contribution_masks(network, Moment.of(watched, 20), grids)[2][0, 0] == 1
    there = compute_contribution_masks(
        network, Moment.of(zones["there"].apply("v", loud, network, GEOMETRY), 20), grids
    )
    assert not there[2].any()
