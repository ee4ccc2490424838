"""Anomalous intervals in frames and in seconds, placed on the frames that a video turns out to have; and `--check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ssrl.commands.extract import main as extract_main
from ssrl.datasets.annotations import annotate
from ssrl.datasets.video import Intervals, Video
from ssrl.errors import UserError
from ssrl.store.reader import Store
from tests.media import break_file, numbered_frames, write_frames, write_h264

HOLE = [*range(10), *range(260, 300)]  # in ticks of 1/25 s: ten seconds pass after the tenth frame


@pytest.mark.parametrize(
    ("seconds", "frames"),
    [
        ((0.0, 0.04), (0, 1)),
        ((0.01, 0.05), (0, 2)),  # all frames that are shown at some time of it
        ((0.08, 0.2), (2, 5)),
        ((0.0, 10.42), (0, 11)),
        ((3.0, 11.0), (10, 25)),  # from the pause on
        ((10.39, 10.41), (10, 11)),
        ((11.96, 12.0), (49, 50)),
    ],
)
def test_seconds_are_placed_by_the_times_of_the_frames(seconds: tuple[float, float], frames: tuple[int, int]) -> None:
    video = Video("v", Path("v.mp4"), 1, "test", anomalous_seconds=(seconds,))
    annotated, problems = annotate(video, 50, np.array(HOLE) / 25)
    assert (annotated.anomalies, annotated.anomalous_seconds, problems) == ((frames,), None, ())


@pytest.mark.parametrize(
    ("seconds", "kept", "problem"),
    [
        (((0.0, 0.2), (5.0, 8.0)), ((0, 5),), "seconds 5 to 8 lie within a pause, where no frame is shown: left out"),
        (((0.0, 0.2), (11.0, 30.0)), ((0, 5), (25, 50)), "11 to 30 go beyond its last frame, at 11.96 s: cut there"),
        (((0.0, 0.2), (30.0, 31.0)), ((0, 5),), "30 to 31 go beyond its last frame, at 11.96 s: left out"),
        (((30.0, 31.0),), None, "its anomalous frames are unknown"),
    ],
)
def test_what_is_not_in_the_video_costs_only_itself(
    seconds: tuple[tuple[float, float], ...], kept: Intervals | None, problem: str
) -> None:
    video = Video("v", Path("v.mp4"), 1, "test", anomalous_seconds=seconds)
    annotated, problems = annotate(video, 50, np.array(HOLE) / 25)
    assert annotated.anomalies == kept and problem in "; ".join(problems)


def test_seconds_need_times() -> None:
    with pytest.raises(UserError, match="give them in frames, as first_frame,last_frame"):
        annotate(Video("v", Path("v"), 1, "test", anomalous_seconds=((1.0, 2.0),)), 50, None)


def extract(root: Path, *more: str) -> Result:
    folders = ["--root", str(root), "--manifest", str(root / "videos.csv"), "--out", str(root / "store")]
    labels = ["--frame-labels", str(root / "events.csv")]
    return CliRunner().invoke(extract_main, ["--dataset", "manifest", *folders, *labels, "--size", "96x210", *more])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_h264(tmp_path / "walk.mp4", 20)
    write_h264(tmp_path / "fight.mp4", 50, times=HOLE)
    (tmp_path / "videos.csv").write_text("video,label,split\nwalk.mp4,0,test\nfight.mp4,1,test\n")
    (tmp_path / "events.csv").write_text("video,first_second,last_second\nfight.mp4,10.4,11\n")
    return tmp_path


@pytest.mark.parametrize(
    "events",
    [
        "video,first_second,last_second\nfight.mp4,10.4,11\n",
        "video;first_second;last_second\nfight.mp4;10,4;0:11\n",
        'sep=,\nvideo,first_second,last_second\nfight.mp4,"0:10,4",00:00:11.0\n',
        "video,first_frame,last_frame\nfight.mp4,11,25\n",
    ],
)
def test_a_table_in_seconds_is_as_one_in_frames(root: Path, events: str) -> None:
    (root / "events.csv").write_text(events)
    outcome = extract(root)
    assert outcome.exit_code == 0, outcome.output
    assert Store(root / "store").record("fight").video.anomalies == ((10, 25),)
    assert Store(root / "store").record("walk").video.anomalies == ()
    again = extract(root)
    assert "2 skipped" in again.output and "anomalous frames" not in again.output
    (root / "events.csv").write_text("video,first_second,last_second\nfight.mp4,10.4,10.6\n")
    assert "fight: anomalous frames 11-25 → 11-15" in extract(root).stderr  # without decoding


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("fight.mp4,5,4", "first_second 5 is not before last_second 4"),
        ("fight.mp4,-1,4", "first_second is '-1'; allowed are seconds"),
        ("fight.mp4,1,ten", "last_second is 'ten'"),
        ("fight.mp4,1:2:3:4,5", "first_second is '1:2:3:4'"),
        ("fight.mp4,0:61,0:62", "first_second is '0:61'"),
        ("fight.mp4,1:60:00,2:00:00", "first_second is '1:60:00'"),
        ("walk.mp4,1,2", "has the label 0"),
    ],
)
def test_bad_seconds_are_named(root: Path, row: str, complaint: str) -> None:
    (root / "events.csv").write_text(f"video,first_second,last_second\n{row}\n")
    outcome = extract(root)
    assert outcome.exit_code == 1 and "events.csv, line 2" in outcome.stderr and complaint in outcome.stderr


def test_a_check_reads_everything_and_writes_nothing(root: Path) -> None:
    broken = write_h264(root / "broken.mkv", 200, options={"bf": "0"})
    break_file(broken, 0.4, 0.6, "zeros")
    (root / "junk.mp4").write_bytes(b"no video")
    write_frames(root / "pictures", numbered_frames(17))
    with (root / "videos.csv").open("a") as table:
        table.write("broken.mkv,1,train\njunk.mp4,1,train\npictures,0,train\nabsent.mp4,0,train\n")
    with (root / "events.csv").open("a") as table:
        table.write("broken.mkv,7,20\n")
    outcome = extract(root, "--check")
    assert outcome.exit_code == 1 and not (root / "store").exists()
    assert "4 videos read (287 frames), 1 failed, 1 missing" in outcome.stdout
    assert "fight: 50 frames" in outcome.stderr and "pictures: 17 frames" in outcome.stderr
    assert "60 frames failed to decode" in outcome.stdout
    assert "seconds 7 to 20 go beyond its last frame, at 7.96 s: cut there" in outcome.stdout
    assert "failed: junk: " in outcome.stdout and "missing: absent: " in outcome.stdout


def test_a_check_of_good_videos_succeeds(root: Path) -> None:
    outcome = extract(root, "--check")
    assert outcome.exit_code == 0 and "2 videos read (70 frames), 0 failed, 0 missing" in outcome.stdout
