"""Zones act on scores and events of new videos."""

import json
from pathlib import Path

import pytest

from ssrl.workflows.score import ScoreRequest, ScoreResult, score_videos
from tests.watching import make_checkpoint, write_scene

SCENE = "..###..."  # in the three busy snippets, something flickers in the left upper quarter


def score_with(folder: Path, left: float, top: float, right: float, bottom: float) -> ScoreResult:
    """Ignore a rectangle."""
    zones = folder / "zones.json"
    points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    zones.write_text(json.dumps({"zones": [{"name": "screen", "mode": "ignore", "points": points}]}))
    checkpoint, video = folder / "best.pt", folder / "gate.mp4"
    request = ScoreRequest([video], checkpoint, folder / "out", zones=zones, overlay=False, clips=False, pictures=False)
    return score_videos(request)


@pytest.mark.slow
def test_what_happens_in_an_ignored_zone_raises_no_alarm(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "best.pt")
    write_scene(tmp_path / "gate.mp4", SCENE)
    ignored = score_with(tmp_path, 0, 0, 0.65, 0.8)
    assert ignored.events["gate"] == () and max(ignored.videos[0].scores) < 0.5
    elsewhere = score_with(tmp_path, 0.75, 0, 1, 1)
    (event,) = elsewhere.events["gate"]
    assert (event.start_frame, event.stop_frame) == (32, 80)
