"""Events, overlays, clips and timelines of scored videos: what is made, and what a later run makes again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ssrl.checkpoints import Checkpoint, FeatureSource, save_checkpoint
from ssrl.commands.extract import main as extract_main
from ssrl.commands.score import main as score_main
from ssrl.evaluate.events import find_events
from ssrl.evaluate.plots import plot_scores
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.scoring import score_snippets
from ssrl.extract.encoders import load_encoder
from ssrl.extract.readers import open_reader
from ssrl.media import encoding
from ssrl.media.overlay import OverlayDrawer
from ssrl.model.build import Network, build_network
from ssrl.model.recipes import linear_model
from ssrl.store.reader import Store
from ssrl.workflows.events import LocatedEvent
from ssrl.workflows.heat import HeatMaker
from ssrl.workflows.media import MediaKinds, VideoMedia, write_media
from ssrl.workflows.origin import Origin, read_made, write_made
from ssrl.workflows.overlays import compute_strengths
from tests.media import number_of, numbered_frames, write_frames, write_h264
from tests.scores import make_scores

SCORES = np.array([0.1, 0.9, 0.8, 0.1, 0.1, 0.2])
IDS = ["day/v", "pictures"]


@dataclass
class Scene:
    """Two videos of 90 frames, scored by hand, in a store."""

    store: Store
    network: Network
    checkpoint: Checkpoint
    videos: list[VideoScores]

    def make(self, folder: Path, threshold: float = 0.5, kinds: MediaKinds | None = None) -> dict[str, VideoMedia]:
        heat = HeatMaker(self.network, self.store.config.geometry, encoder=load_encoder("micro3d"))
        videos = [replace(video, threshold=threshold) for video in self.videos]
        return write_media(folder, self.store, videos, self.checkpoint, heat, kinds)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("scene")
    write_h264(root / "day" / "v.mp4", 90, times=[*range(40), *range(290, 340)])  # ten seconds pass after frame 39
    write_frames(root / "pictures", numbered_frames(90, 49, 81))
    (root / "videos.csv").write_text("video,label,split\nday/v.mp4,1,test\npictures,0,test\n")
    folders = ["--root", str(root), "--manifest", str(root / "videos.csv"), "--out", str(root / "store")]
    outcome = CliRunner().invoke(extract_main, ["--dataset", "manifest", *folders, "--size", "96x210"])
    assert outcome.exit_code == 0, outcome.output
    store = Store(root / "store")
    model = linear_model(store.config.feature_dim, (1, 2), store.config.grids)
    network = build_network(model).eval()
    torch.manual_seed(0)
    weights = {
        name: torch.randn_like(each) if "linear" in name else each for name, each in network.state_dict().items()
    }
    network.load_state_dict(weights)
    videos = [
        VideoScores(store.record(video_id), SCORES, threshold=0.5, seconds=store.seconds(video_id)) for video_id in IDS
    ]
    return Scene(store, network, Checkpoint(model, network.state_dict()), videos)


def list_files(folder: Path) -> dict[str, int]:
    """When each file was last changed."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def read_numbers(path: Path) -> list[int]:
    with open_reader(path) as reader:
        return [number_of(frame) for frame in reader.frames()]


@pytest.fixture(scope="module")
def made(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, VideoMedia]]:
    folder = tmp_path_factory.mktemp("made")
    return folder, scene.make(folder)


def test_events_have_times_and_places(made: tuple[Path, dict[str, VideoMedia]]) -> None:
    folder, results = made
    for video_id in IDS:
        (event,) = results[video_id].events
        assert (event.start_frame, event.stop_frame, event.peak_frame, event.confidence) == (16, 48, 24, 0.9)
        assert event.box is not None and 0 <= event.box.left < event.box.right <= 1
        assert 0 <= event.box.top < event.box.bottom <= 1
        written = json.loads((folder / "events" / f"{video_id}.json").read_text())["events"]
        assert written == [event.to_json()] and LocatedEvent.from_json(written[0]) == event
    (event,) = results["day/v"].events
    seconds = [event.start_seconds, event.stop_seconds, event.peak_seconds]
    np.testing.assert_allclose(seconds, [16 / 25, 298 / 25, 24 / 25], atol=0.002)  # type: ignore[arg-type]
    (event,) = results["pictures"].events
    assert event.start_seconds is event.stop_seconds is event.peak_seconds is None


def test_an_event_that_ends_at_a_pause_ends_before_it() -> None:
    times = np.array([*range(16), *range(266, 282)]) / 25
    video = replace(make_scores("v", None, "", 32, 25.0, np.array([0.9, 0.1])), seconds=times)
    (found,) = find_events(replace(video, scores=np.array([0.9, 0.9])))
    assert LocatedEvent.of(video, replace(found, stop=1)).stop_seconds == pytest.approx(16 / 25)


def test_an_overlay_has_all_frames_at_their_times(scene: Scene, made: tuple[Path, dict[str, VideoMedia]]) -> None:
    for video in scene.videos:
        player = made[1][video.id].media.player
        assert player == made[0] / "overlays" / f"{video.id}.mp4"
        with open_reader(player) as reader:
            frames = list(reader.frames())
            expected = np.arange(90) / 25 if video.seconds is None else video.seconds
            np.testing.assert_allclose(reader.seconds, expected, atol=0.001)  # type: ignore[arg-type]
        height = 2 * (49 // 2 * 2)
        assert len(frames) == 90 and frames[0].shape[1] >= 160 and frames[0].shape[0] > height


def test_clips_hold_their_events(scene: Scene, made: tuple[Path, dict[str, VideoMedia]]) -> None:
    for video_id in IDS:
        (clip,) = made[1][video_id].media.clips
        assert clip == made[0] / "clips" / video_id / "event-01.mp4"
        numbers = read_numbers(clip)
        assert numbers == list(range(numbers[0], numbers[-1] + 1)) and set(range(16, 48)) <= set(numbers)
    assert len(made[1]["pictures"].media.pictures) == 2  # of six snippets, at least four apart
    assert (made[0] / "timelines" / "day" / "v.png").read_bytes()[:4] == b"\x89PNG"


def test_a_second_run_makes_what_is_missing_alone(scene: Scene, tmp_path: Path) -> None:
    first = scene.make(tmp_path)
    before = list_files(tmp_path)
    assert scene.make(tmp_path) == first
    changed = {name for name, time in list_files(tmp_path).items() if before[name] != time}
    assert {name.split("/")[0] for name in changed} == {"timelines"}
    (tmp_path / "overlays" / "pictures.mp4").unlink()
    (tmp_path / "made_from" / "clips" / "day" / "v.json").unlink()  # as if stopped before the clips were complete
    before = list_files(tmp_path)
    assert scene.make(tmp_path) == first
    changed = {name for name, time in list_files(tmp_path).items() if before.get(name) != time}
    remade = {name for name in changed if not name.startswith("timelines")}
    notes = {"made_from/overlays/pictures.json", "made_from/clips/day/v.json"}
    assert remade == {"overlays/pictures.mp4", "clips/day/v/event-01.mp4", *notes}


def test_a_run_that_is_stopped_goes_on(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, num_calls = OverlayDrawer.add, 0

    def stop(*arguments: Any) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 9:  # in the second video
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(OverlayDrawer, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        scene.make(tmp_path)
    before = list_files(tmp_path)
    assert "overlays/day/v.mp4" in before and not [name for name in before if name.startswith("overlays/pictures")]
    results = scene.make(tmp_path)
    assert list_files(tmp_path)["overlays/day/v.mp4"] == before["overlays/day/v.mp4"]
    assert len(read_numbers(results["pictures"].media.player or Path())) == 90


def test_heat_fades_with_the_score_and_ends_where_events_end() -> None:
    video = replace(make_scores("v", None, "", 80, 25.0, np.array([0.1, 0.4, 0.45, 0.5, 1.0])), threshold=0.5)
    np.testing.assert_allclose(compute_strengths(video), [0, 0, 0.35, 0.7, 1], atol=1e-6)


def test_a_timeline_marks_events() -> None:
    video = make_scores("v", None, "", 80, 25.0, np.full(5, 0.9))
    (axes,) = plot_scores(video, [(16, 48)]).axes
    marks = [patch for patch in axes.patches if patch.get_label() == "event"]
    assert [(mark.get_x(), mark.get_width()) for mark in marks] == [(16, 32)]  # type: ignore[attr-defined]


def test_another_threshold_makes_all_anew(scene: Scene, tmp_path: Path) -> None:
    scene.make(tmp_path)
    before = list_files(tmp_path)
    results = scene.make(tmp_path, threshold=0.95)
    assert all(not result.events and not result.media.clips for result in results.values())
    after = list_files(tmp_path)
    assert not [name for name in after if "event-" in name]  # the clips of former events are gone
    assert all(after[name] != before[name] for name in after)


def test_only_what_is_asked_for_is_made(scene: Scene, tmp_path: Path) -> None:
    results = scene.make(tmp_path, kinds=MediaKinds(pictures=False, overlay=False, clips=False, timeline=False))
    assert {path.name for path in tmp_path.iterdir()} == {"events", "made_from"}
    assert results["day/v"].media.player is None and results["day/v"].events[0].box is not None


def test_a_video_that_breaks_costs_itself_alone(scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = scene.videos[0].record
    gone = replace(record, video=replace(record.video, path=tmp_path / "gone.mp4"))
    broken = replace(scene, videos=[replace(scene.videos[0], record=gone), scene.videos[1]])
    results = broken.make(tmp_path / "out")
    assert "no pictures of day/v: there is no video" in caplog.text and "no clip 1 of day/v" in caplog.text
    assert results["day/v"].media.player is None and results["pictures"].media.player is not None
    assert results["day/v"].events[0].box is None and results["day/v"].media.clips == [None]
    assert (tmp_path / "out" / "events" / "day" / "v.json").is_file()


def test_without_an_encoder_there_are_no_overlays(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encoding, "CODEC", "no-such-codec")
    results = scene.make(tmp_path)
    assert "has no libx264" in caplog.text and not (tmp_path / "overlays").exists()
    assert results["day/v"].media.clips[0] is not None  # copied


def save(scene: Scene, path: Path, **changes: object) -> Path:
    features = FeatureSource(str(scene.store.root), replace(scene.store.config, **changes))  # type: ignore[arg-type]
    save_checkpoint(path, replace(scene.checkpoint, weights=scene.network.state_dict(), features=features))
    return path


def test_short_videos_are_scored_watched_and_cut(scene: Scene, tmp_path: Path) -> None:
    """With zones, from the command line: whatever the scores are, they and the events agree."""
    write_h264(tmp_path / "in" / "short.mp4", 5)
    write_frames(tmp_path / "in" / "one", numbered_frames(1))
    zone = {"name": "all", "mode": "ignore", "points": [[0, 0], [1, 0], [1, 1], [0, 1]], "videos": "short"}
    (tmp_path / "zones.json").write_text(json.dumps({"zones": [zone]}))
    checkpoint, out = save(scene, tmp_path / "best.pt"), tmp_path / "out"
    videos = [str(tmp_path / "in" / name) for name in ("short.mp4", "one")]
    options = ["--ckpt", str(checkpoint), "--out", str(out), "--zones", str(tmp_path / "zones.json")]
    outcome = CliRunner().invoke(score_main, [*videos, *options])
    assert outcome.exit_code == 0 and "warning" not in outcome.stderr, outcome.output
    scored = {video["id"]: video for video in json.loads((out / "scores.json").read_text())["videos"]}
    mean = {scale: np.tile(scene.network.baseline(scale).numpy(), (1, count, 1)) for scale, count in ((1, 1), (2, 6))}
    assert scored["short"]["highest_score"] == pytest.approx(score_snippets(scene.network, mean)[0][0], abs=1e-6)
    for video_id, count in (("short", 5), ("one", 1)):
        assert len(read_numbers(out / "overlays" / f"{video_id}.mp4")) == count
        is_high = scored[video_id]["highest_score"] >= scored[video_id]["threshold"]
        assert len(scored[video_id]["events"]) == len(list(out.glob(f"clips/{video_id}/event-01.*"))) == is_high
    assert "all (ignore)" in (out / "index.html").read_text()


def test_an_encoder_whose_weights_are_not_at_hand_is_named(scene: Scene, tmp_path: Path) -> None:
    checkpoint = save(scene, tmp_path / "best.pt", encoder="i3d_r50", weights=str(tmp_path / "mine.pth"))
    write_h264(tmp_path / "v.mp4", 5)
    arguments = [str(tmp_path / "v.mp4"), "--ckpt", str(checkpoint), "--out", str(tmp_path / "out")]
    outcome = CliRunner().invoke(score_main, arguments)
    assert outcome.exit_code == 1 and "needs i3d_r50 with the weights" in outcome.stderr
    assert "mine.pth" in outcome.stderr and "give their file with --weights FILE" in outcome.stderr


def test_what_is_made_is_known_by_its_origin(tmp_path: Path) -> None:
    origin = Origin("a", "b", {"size": (1, 2)})
    note, file = tmp_path / "v.json", tmp_path / "v.mp4"
    assert read_made(note, tmp_path, origin) is None
    file.touch()
    write_made(note, tmp_path, origin, [file])
    made = read_made(note, tmp_path, origin)
    assert made is not None and made["files"] == ["v.mp4"]
    assert read_made(note, tmp_path, replace(origin, settings={"size": (1, 3)})) is None
    assert read_made(note, tmp_path, replace(origin, video="c")) is None
    file.unlink()
    assert read_made(note, tmp_path, origin) is None
    note.write_text("[1, 2")
    assert read_made(note, tmp_path, origin) is None
