"""The synthetic set: its layout, its determinism, its masks, and that nothing but the event tells the label."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ssrl.commands.synth import main
from ssrl.datasets import shanghaitech
from ssrl.datasets.synthetic.camera import SUPERSAMPLING, Ball, Camera, Canvas, Face
from ssrl.datasets.synthetic.codec import compress_like_camera, from_jpeg, to_jpeg, write_avi
from ssrl.datasets.synthetic.config import DEFAULT_WORKERS, SynthConfig
from ssrl.datasets.synthetic.dataset import make_video, synthesize
from ssrl.datasets.synthetic.events import EVENTS, Event, populate
from ssrl.datasets.synthetic.plan import LONGEST, SHORTEST, VideoPlan, plan_videos
from ssrl.datasets.synthetic.scene import PLACES, build_scene
from ssrl.datasets.synthetic.video import compute_frame_labels, film
from ssrl.errors import UserError
from ssrl.files import TEMPORARY_MARK

SMALL = SynthConfig(seed=3, height=96, width=172, num_train=3, num_test=2)


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "set"
    synthesize(out, SMALL, workers=1)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# The set on disk


def test_two_processes_write_the_same_bytes_as_one(small_set: Path, tmp_path: Path) -> None:
    summary = synthesize(tmp_path / "set", SMALL, workers=2)
    assert (summary.made, summary.skipped) == (5, 0)
    assert contents(tmp_path / "set") == contents(small_set)


def test_another_seed_gives_other_frames(small_set: Path, tmp_path: Path) -> None:
    config = SynthConfig(4, SMALL.height, SMALL.width, SMALL.num_train, SMALL.num_test)
    plan = next(plan for plan in plan_videos(config) if plan.label)
    make_video(tmp_path, config, plan)
    ours = {path.read_bytes() for path in plan.path(tmp_path).iterdir()}
    theirs = {path.read_bytes() for path in (small_set / "testing" / "frames").rglob("*.jpg")}
    assert not ours & theirs


@pytest.mark.parametrize("plan", plan_videos(SMALL), ids=lambda plan: plan.id)
def test_each_video_has_its_planned_frames(small_set: Path, plan: VideoPlan) -> None:
    num_frames = plan.conditions.recording.num_frames
    path = plan.path(small_set)
    if plan.label:
        names = sorted(frame.name for frame in path.iterdir())
        assert names == [f"{index:03d}.jpg" for index in range(num_frames)]
        with Image.open(path / "000.jpg") as image:
            assert image.size == (SMALL.width, SMALL.height)
    else:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "mpeg4" and stream.average_rate == 24
            assert (stream.height, stream.width, stream.frames) == (SMALL.height, SMALL.width, num_frames)
            assert sum(1 for _ in container.decode(video=0)) == num_frames


def test_pixel_masks_mark_pixels_in_exactly_the_abnormal_frames(small_set: Path) -> None:
    abnormal = [plan for plan in plan_videos(SMALL) if plan.label]
    for plan in abnormal:
        labels = np.load(small_set / "testing" / "test_frame_mask" / f"{plan.id}.npy")
        pixels = np.load(small_set / "testing" / "test_pixel_mask" / f"{plan.id}.npy")
        assert (labels.dtype, pixels.dtype) == (np.uint8, np.bool_)
        assert pixels.shape == (plan.conditions.recording.num_frames, SMALL.height, SMALL.width)
        assert np.array_equal(pixels.any(axis=(1, 2)), labels == 1)
        assert 0 < labels.sum() < len(labels) and not labels[0] and not labels[-1]
    masks = list((small_set / "testing" / "test_frame_mask").iterdir())
    assert len(masks) == len(abnormal) == 2


def test_abnormal_pixels_move_and_the_rest_stands_still(tmp_path: Path) -> None:
    """The masks fit the stored frames: a bus that fills the frame changes what is under its mask."""
    config = SynthConfig(height=96, width=172, num_train=26, num_test=2)
    plan = next(plan for plan in plan_videos(config) if plan.label and plan.conditions.event.farthest == 0.0)
    make_video(tmp_path, config, plan)
    frames = np.stack([np.asarray(Image.open(path)) for path in sorted(plan.path(tmp_path).iterdir())]).astype(float)
    pixels = np.load(tmp_path / "testing" / "test_pixel_mask" / f"{plan.id}.npy")
    change = np.abs(frames - np.median(frames[~pixels.any(axis=(1, 2))], axis=0)).mean(axis=-1)
    assert change[pixels].mean() > 4 * change[~pixels].mean()


def test_it_is_read_as_shanghaitech(small_set: Path) -> None:
    dataset = shanghaitech.load(small_set)
    assert dataset.missing == ()
    planned = {plan.id: (plan.label, plan.split) for plan in plan_videos(SMALL)}
    assert {video.id: (video.label, video.split) for video in dataset.videos} == planned
    assert all(len(video.anomalies or ()) >= (video.label or 0) for video in dataset.videos)


def test_without_pixel_masks(tmp_path: Path) -> None:
    config = SynthConfig(height=96, width=172, num_train=2, num_test=2, pixel_masks=False)
    synthesize(tmp_path, config, workers=1)
    assert not (tmp_path / "testing" / "test_pixel_mask").exists()
    assert "--no-pixel-masks" in (tmp_path / "README.txt").read_text()


# Going on, and refusing


def test_an_interrupted_run_goes_on_where_it_stopped(small_set: Path, tmp_path: Path) -> None:
    def stop_after_two(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        synthesize(out, SMALL, workers=1, on_progress=stop_after_two)
    assert not list(out.rglob(f"*{TEMPORARY_MARK}*")) and not (out / "SH_Train.txt").exists()
    summary = synthesize(out, SMALL, workers=1)
    assert (summary.made, summary.skipped) == (3, 2)
    assert contents(out) == contents(small_set)


def test_a_video_cut_short_leaves_nothing_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("ssrl.datasets.synthetic.dataset.write_masks", full_disk)
    plan = next(plan for plan in plan_videos(SMALL) if plan.label)
    with pytest.raises(OSError, match="no space"):
        make_video(tmp_path, SMALL, plan)
    assert contents(tmp_path) == {}


def test_complete_videos_are_left_alone(small_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    shutil.copytree(small_set, out)
    normal = next(plan.path(out) for plan in plan_videos(SMALL) if not plan.label)
    normal.write_bytes(b"mine")
    assert synthesize(out, SMALL, workers=1).skipped == 5
    assert normal.read_bytes() == b"mine"


def test_a_set_of_another_configuration_is_refused(small_set: Path) -> None:
    config = SynthConfig(5, SMALL.height, SMALL.width, SMALL.num_train, 4)
    with pytest.raises(UserError, match=r"seed: 5, not 3; num_test: 4, not 2"):
        synthesize(small_set, config)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UserError, match="choose a new folder"):
        synthesize(tmp_path, SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"width": 427}, "even numbers"),
        ({"height": 40}, "from 96 to 2160"),
        ({"num_test": 1}, "at least 2"),
    ],
)
def test_what_cannot_be_made_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SynthConfig(**changes)


# The plan: nothing but the event tells the label


def test_the_default_set() -> None:
    plans = plan_videos(SynthConfig())
    counts = Counter((plan.split, plan.label) for plan in plans)
    assert counts == {("train", 0): 30, ("train", 1): 30, ("test", 0): 16, ("test", 1): 14}
    assert len({plan.id for plan in plans}) == 90
    for plan in plans:
        assert re.fullmatch(r"\d\d_\d{4}" if plan.label else r"\d\d_\d{3}", plan.id)
        assert SHORTEST <= plan.conditions.recording.num_frames <= LONGEST
    assert {plan.conditions.recording.num_frames % 16 for plan in plans} > {0, 1}
    small = [plan for plan in plans if plan.label and plan.conditions.event.nearest > 0.6]
    assert len(small) >= 14, "four in ten events are far away"


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_abnormal_video_has_a_normal_twin(split: str) -> None:
    plans = [plan for plan in plan_videos(SynthConfig()) if plan.split == split]
    conditions = {label: {plan.conditions for plan in plans if plan.label == label} for label in (0, 1)}
    assert conditions[1].issubset(conditions[0])
    assert {plan.scene for plan in plans if plan.label} == set(range(1, len(PLACES) + 1))


@pytest.mark.parametrize("index", range(len(EVENTS)))
@pytest.mark.parametrize("num_frames", [SHORTEST, 160])
def test_events_begin_and_end_inside_the_video(index: int, num_frames: int) -> None:
    event, height, width = EVENTS[index], 96, 172
    scene = build_scene(1 + (index + num_frames) % len(PLACES), 0, height, width)
    rng = np.random.default_rng([index, num_frames])
    actors = populate(event, True, scene, num_frames, event.num_people, rng)
    pixels = np.stack([shot.abnormal_pixels for shot in film(scene, actors, num_frames)])
    labels = compute_frame_labels(pixels.sum(axis=(1, 2)), height * width)
    seen = np.flatnonzero(labels)
    assert seen[0] >= 8 and seen[-1] < num_frames - 8 and 12 <= len(seen) <= 0.65 * num_frames
    share = np.median([np.ptp(np.flatnonzero(frame.any(axis=0))) + 1 for frame in pixels[seen]]) / width
    if event.nearest > 0.6 and event.kind != "vehicle":
        assert 1 / 45 < share < 1 / 11
    if event.farthest == 0.0:
        assert pixels.mean(axis=(1, 2)).max() > 0.4, "a vehicle close by fills the frame"


@pytest.mark.parametrize("event", {event.kind: event for event in EVENTS}.values(), ids=lambda event: event.kind)
def test_the_counterpart_has_as_many_figures_and_no_event(event: Event) -> None:
    scene = build_scene(1, 0, 96, 172)
    casts = [populate(event, abnormal, scene, 120, 7, np.random.default_rng(0)) for abnormal in (False, True)]
    people = [[actor for actor in cast if type(actor).__name__ != "LooseObject"] for cast in casts]
    assert len(people[0]) == len(people[1]) == 7
    assert not any(actor.abnormal.any() for actor in casts[0])
    assert any(actor.abnormal.any() for actor in casts[1])
    assert max(float(actor.track.speed.max()) for actor in casts[0]) < 2.6, "nobody runs in a normal video"


def test_storing_as_avi_or_as_jpeg_does_not_show(tmp_path: Path) -> None:
    """The same recording stored in both ways has the same brightness, noise, frozen share and detail.

    Tolerances are below half of what these figures differ by (one standard deviation) between recordings of one set:
    brightness 16, changes 0.75 of 2.4, frozen share 0.17, detail 23 %.
    """
    height, width, num_frames = 240, 428, 14
    scene = build_scene(2, 0, height, width)
    still = np.asarray(scene.background.resize((width, height))).astype(float)
    rng = np.random.default_rng(0)
    noisy = [
        np.clip(still + 3 * rng.standard_normal((height, width, 1)), 0, 255).astype(np.uint8) for _ in range(num_frames)
    ]
    camera = list(compress_like_camera(noisy, height, width, quantizer=3))
    assert len(camera) == num_frames
    as_jpeg = np.stack([from_jpeg(to_jpeg(frame, 85)) for frame in camera]).astype(float)
    write_avi(tmp_path / "a.avi", (from_jpeg(to_jpeg(frame, 80)) for frame in camera), height, width)
    with av.open(str(tmp_path / "a.avi")) as container:
        as_avi = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(float)
    assert abs(as_avi.mean() - as_jpeg.mean()) < 0.5
    change_avi, change_jpeg = np.diff(as_avi, axis=0), np.diff(as_jpeg, axis=0)
    assert change_avi.std() == pytest.approx(change_jpeg.std(), rel=0.12)
    assert (np.abs(change_avi) < 1.5).mean() == pytest.approx((np.abs(change_jpeg) < 1.5).mean(), abs=0.08)
    detail_avi, detail_jpeg = (np.abs(np.diff(x[..., 1], axis=2)).mean() for x in (as_avi, as_jpeg))
    assert detail_avi == pytest.approx(detail_jpeg, rel=0.08)


# Drawing


CAMERA = Camera(height=120, width=200, focal=100.0, horizon=40.0, camera_height=3.0)


def test_projection_by_hand() -> None:
    assert CAMERA.project((0.0, 3.0, 10.0)) == (100.0, 40.0)  # at the camera's height: on the horizon
    assert CAMERA.project((2.0, 0.0, 10.0)) == (120.0, 70.0)  # 10 pixels a meter
    assert CAMERA.nearest_ground == pytest.approx(100 * 3 / 80)
    assert CAMERA.half_view(10.0) == pytest.approx(10.0)


def test_the_mask_of_a_ball_and_what_hides_it() -> None:
    canvas = Canvas(Image.new("RGB", (200 * SUPERSAMPLING, 120 * SUPERSAMPLING)), CAMERA)
    canvas.add([Ball((0.0, 1.0, 10.0), 2.0, (255, 0, 0))], abnormal=True)
    assert canvas.abnormal_pixels().sum() == pytest.approx(np.pi * 20**2, rel=0.05)
    assert tuple(canvas.frame()[60, 100]) == (255, 0, 0)
    wall = Face([(-9.0, 0.0, 5.0), (0.0, 0.0, 5.0), (0.0, 3.0, 5.0), (-9.0, 3.0, 5.0)], (0, 0, 255))
    canvas.add([wall], abnormal=False)
    assert canvas.abnormal_pixels()[:, :100].sum() == 0
    assert canvas.abnormal_pixels().sum() == pytest.approx(np.pi * 20**2 / 2, rel=0.12)


def test_frame_labels_need_a_fifth_of_the_usual_area() -> None:
    visible = np.array([0, 5, 100, 100, 100, 30, 10, 0])
    assert compute_frame_labels(visible, 10_000).tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert compute_frame_labels(np.zeros(3), 10_000).tolist() == [0, 0, 0]


# The command


def test_the_command_prints_path_and_counts_and_ends_with_0(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path / "s"), "--size", "96x172", "--train", "2", "--test", "2", "--workers", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "s") in result.stdout
    assert "4 videos (1 normal train, 1 abnormal train, 1 normal test, 1 abnormal test)" in result.stdout
    refused = CliRunner().invoke(main, [*arguments, "--seed", "9"])
    assert refused.exit_code == 1
    assert "seed: 9, not 0" in refused.stderr and refused.stdout == ""


@pytest.mark.parametrize("arguments", [[], ["--out", "x", "--size", "240"], ["--out", "x", "--train", "1"]])
def test_wrong_use_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_option_defaults_are_the_configuration_s() -> None:
    defaults = {option.name: option.default for option in main.params}
    config = SynthConfig()
    assert defaults["size"] == f"{config.height}x{config.width}"
    assert defaults["workers"] == DEFAULT_WORKERS
    for name in ("seed", "num_train", "num_test", "pixel_masks"):
        assert defaults[name] == getattr(config, name)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from ssrl.commands.synth import main; "
        "main(['--help'], standalone_mode=False); print([m for m in ('torch', 'av', 'PIL') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Example:" in result.stdout
    assert result.stdout.endswith("[]\n")
