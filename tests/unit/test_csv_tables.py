"""Tables as people have them: every dialect is read as the same dataset, or refused with what to do."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ssrl.datasets import load_catalog
from ssrl.datasets.csv_tables import DELIMITERS
from ssrl.datasets.manifest import find_relative
from ssrl.datasets.video import Video
from ssrl.errors import UserError

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
LABELS = {  # spelling → (normal, abnormal)
    "digits": ("0", "1"),
    "decimals": ("0.0", "1.0"),
    "words": ("normal", "Abnormal"),
    "booleans": ("False", "TRUE"),
    "ucf": ("Normal_Videos_event", "anomaly"),
}
SPLITS = {"digits": "train", "decimals": "Train", "words": "TRAINING", "booleans": "train", "ucf": "Training"}
DIALECTS = list(itertools.product(DELIMITERS, (False, True), ENCODINGS, ("\n", "\r\n"), LABELS))


@pytest.mark.parametrize(("delimiter", "sep", "encoding", "newline", "labels"), DIALECTS)
def test_every_dialect_is_the_same_dataset(
    tmp_path: Path, delimiter: str, sep: bool, encoding: str, newline: str, labels: str
) -> None:
    normal, abnormal = LABELS[labels]
    rows = [
        ["video", "Label", "split", "num_frames", "comment"],
        ["gate/día.mp4", normal, SPLITS[labels], "100", f'"a{delimiter}b"'],
        ["", "", "", "", ""],
        ["gate\\tuesday.mp4", abnormal, SPLITS[labels], "120.0", ""],
        [f"{tmp_path}/yard.mp4", f" {abnormal} ", "Testing", '"80"', ""],
    ]
    lines = [f"sep={delimiter}"] * sep + [delimiter.join(row) for row in rows]
    (tmp_path / "videos.csv").write_bytes(newline.join(lines).encode(encoding))
    loaded = load_catalog("manifest", tmp_path, manifest=tmp_path / "videos.csv").videos
    assert loaded == (
        Video("gate/día", tmp_path / "gate/día.mp4", 0, "train", "", 100),
        Video("gate/tuesday", tmp_path / "gate/tuesday.mp4", 1, "train", "", 120),
        Video("yard", tmp_path / "yard.mp4", 1, "test", "", 80),
    )


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas_are_numbers(tmp_path: Path, delimiter: str) -> None:
    rows = [["video", "label", "split"], ["a.mp4", "0,0", "train"], ["b.mp4", "1,0", "test"]]
    events = [["video", "first_frame", "last_frame"], ["b.mp4", "5,0", "9,0"]]
    for name, table in (("videos.csv", rows), ("events.csv", events)):
        (tmp_path / name).write_text("\n".join(map(delimiter.join, table)))
    tables = {"manifest": tmp_path / "videos.csv", "frame_labels": tmp_path / "events.csv"}
    videos = load_catalog("manifest", tmp_path, **tables).videos
    assert [(video.label, video.anomalies) for video in videos] == [(0, ()), (1, ((4, 9),))]


def test_a_class_is_the_label_of_an_abnormal_video(tmp_path: Path) -> None:
    (tmp_path / "videos.csv").write_text("video,label,split\na.mp4,Fighting,train\nb.mp4,normal,train\n")
    videos = load_catalog("manifest", tmp_path, manifest=tmp_path / "videos.csv").videos
    assert [(video.label, video.category) for video in videos] == [(1, "Fighting"), (0, "")]


@pytest.mark.parametrize("label", ["normmal", "abnormall", "truue", "falsee", "2", "1.5", "-1", "?", "1,2"])
def test_a_label_that_may_be_a_slip_is_refused(tmp_path: Path, label: str) -> None:
    (tmp_path / "videos.csv").write_text(f"video;label;split\na.mp4;{label};train\n")
    with pytest.raises(UserError, match=r"line 2: label is .*; allowed are 0 \(normal\), 1 \(abnormal\), or the class"):
        load_catalog("manifest", tmp_path, manifest=tmp_path / "videos.csv")


@pytest.mark.parametrize("outside", ["/elsewhere/a.mp4", "C:\\videos\\a.mp4", "D:/a.mp4"])
def test_absolute_paths_lie_below_the_root(tmp_path: Path, outside: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert find_relative(str(tmp_path / "a" / "b.mp4"), tmp_path) == "a/b.mp4"
    assert find_relative(str(tmp_path / "a.mp4"), tmp_path / "link") == "a.mp4"
    with pytest.raises(UserError, match="is an absolute path that is not below"):
        find_relative(outside, tmp_path)
