"""What ssrl-score takes as videos, and how it names them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ssrl.commands.score import main
from ssrl.datasets.video import Dataset, Video
from ssrl.workflows.score import find_videos


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def ids(*paths: Path) -> list[str]:
    return [video.id for video in find_videos(paths)]


def test_ids_are_paths_below_the_common_folder(tmp_path: Path) -> None:
    cat, dog, other = tmp_path / "cat" / "000.mp4", tmp_path / "dog" / "000.mp4", tmp_path / "dog" / "000.avi"
    touch(cat, dog, other)
    assert ids(cat) == ["000"]
    assert ids(cat, dog) == ["cat/000", "dog/000"]
    assert ids(dog, other) == ["000.mp4", "000.avi"]
    assert ids(cat, cat) == ["000"]


def test_a_folder_is_its_frames_or_the_videos_below_it(tmp_path: Path) -> None:
    touch(tmp_path / "frames" / "1.jpg", tmp_path / "frames" / "2.jpg")
    touch(tmp_path / "day" / "b.MP4", tmp_path / "day" / "more" / "a.mkv", tmp_path / "day" / "._b.mp4")
    assert ids(tmp_path / "frames") == ["frames"]
    assert ids(tmp_path / "day") == ["b", "more/a"]
    assert ids(tmp_path / "day", tmp_path / "frames") == ["day/b", "day/more/a", "frames"]


def test_names_that_begin_with_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "-night.mp4")
    options = ["--ckpt", "absent.pt", "--out", "scores"]
    outcome = CliRunner().invoke(main, ["-night.mp4", *options])
    assert outcome.exit_code == 1 and "absent.pt" in outcome.stderr
    assert CliRunner().invoke(main, ["-knight.mp4", *options]).exit_code == 2


def test_videos_without_labels_are_counted_alone(tmp_path: Path) -> None:
    first, second = (Video(name, tmp_path / name, None, "test") for name in ("a", "b"))
    assert str(Dataset("new videos", (first,))) == "new videos: 1 video"
    assert str(Dataset("new videos", (first, second))) == "new videos: 2 videos"
