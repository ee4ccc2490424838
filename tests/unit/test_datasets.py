"""Datasets in small copies of their official layouts, the bundled split lists, and bad tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssrl.datasets import DATASET_NAMES, describe_missing, load_catalog, load_dataset, shanghaitech, ucsd_ped2
from ssrl.datasets.manifest import to_id
from ssrl.datasets.video import Dataset, Video
from ssrl.errors import UserError


def by_id(dataset: Dataset) -> dict[str, Video]:
    return {video.id: video for video in dataset.videos}


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_unknown_names_list_the_known(tmp_path: Path) -> None:
    assert DATASET_NAMES == ("shanghaitech", "ucf-crime", "ucsd-ped2", "manifest")
    with pytest.raises(UserError, match="'avenue'; allowed are shanghaitech, ucf-crime, ucsd-ped2, manifest"):
        load_dataset("avenue", tmp_path)


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="but is missing"):
        load_dataset("shanghaitech", tmp_path / "absent")
    with pytest.raises(UserError, match="but is a file"):
        load_dataset("shanghaitech", touch(tmp_path / "file"))


@pytest.mark.parametrize("name", DATASET_NAMES[:3])
def test_a_dataset_that_is_not_there_says_how_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"(looked for|is not below).* [Gg]et .*(page|Lab)") as caught:
        load_dataset(name, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert ("ssrl-synth --out" in str(caught.value)) == (name == "shanghaitech")


@pytest.mark.parametrize("name", DATASET_NAMES[:3])
def test_tables_go_with_the_manifest_alone(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="--dataset manifest"):
        load_dataset(name, tmp_path, manifest=tmp_path / "videos.csv")


# ShanghaiTech

# The videos of the official testing part that have a mask, by scene: those with an anomaly.
MASKED = {
    "01": "0014 0015 0016 0025 0026 0027 0028 0029 0030 0051 0052 0053 0054 0055 0056 0063 0064 0073 0076 0129 "
    "0130 0131 0132 0133 0134 0135 0136 0138 0139 0140 0141 0162 0163 0177",
    "02": "0128 0161 0164",
    "03": "0031 0032 0033 0035 0036 0039 0041 0059 0060 0061",
    "04": "0001 0003 0004 0010 0011 0012 0013 0046 0050",
    "05": "0017 0018 0019 0020 0021 0022 0023 0024",
    "06": "0144 0145 0147 0150 0153 0155",
    "07": "0005 0006 0007 0008 0009 0047 0048 0049",
    "08": "0044 0058 0077 0078 0079 0080 0156 0157 0158 0159 0178 0179",
    "09": "0057",
    "10": "0037 0038 0042 0074 0075",
    "11": "0176",
    "12": "0142 0143 0148 0149 0151 0152 0154 0173 0174 0175",
}


def test_the_bundled_split_of_shanghaitech() -> None:
    split_of = shanghaitech.read_split(shanghaitech.BUNDLED)
    counts = Counter((split, shanghaitech.infer_label(video_id)) for video_id, split in split_of.items())
    assert counts == {("train", 0): 175, ("train", 1): 63, ("test", 0): 155, ("test", 1): 44}
    masked = {f"{scene}_{number}" for scene, numbers in MASKED.items() for number in numbers.split()}
    assert {video_id for video_id in split_of if shanghaitech.infer_label(video_id)} == masked


def make_shanghaitech(root: Path) -> Path:
    touch(root / "training" / "videos" / "01_001.avi")
    touch(root / "training" / "videos" / "01_002.avi")
    for video_id, mask in {"01_0014": [0, 1, 1, 0, 0, 1], "01_0015": [1, 1, 0]}.items():
        touch(root / "testing" / "frames" / video_id / "000.jpg")
        (root / "testing" / "test_frame_mask").mkdir(exist_ok=True)
        np.save(root / "testing" / "test_frame_mask" / f"{video_id}.npy", np.array(mask, dtype=np.uint8))
    return root


def test_shanghaitech(tmp_path: Path) -> None:
    root = make_shanghaitech(tmp_path)
    dataset = load_dataset("shanghaitech", root)
    videos = by_id(dataset)
    assert list(videos) == ["01_001", "01_0014", "01_0015", "01_002"]
    assert videos["01_001"] == Video("01_001", root / "training/videos/01_001.avi", 0, "test", anomalies=())
    assert videos["01_0014"] == Video(
        "01_0014", root / "testing/frames/01_0014", 1, "train", num_frames=6, anomalies=((1, 3), (5, 6))
    )
    assert videos["01_0015"].split == "test" and videos["01_0015"].anomalies == ((0, 2),)
    assert len(dataset.missing) == 437 - 4
    assert f"01_0016: {root / 'testing/frames/01_0016'}" in dataset.missing
    assert describe_missing(dataset).startswith("433 of 437 videos are missing, e.g. 01_0016: ")


def test_shanghaitech_in_the_folder_below(tmp_path: Path) -> None:
    make_shanghaitech(tmp_path / "shanghaitech")
    assert len(load_dataset("shanghaitech", tmp_path).videos) == 4


def test_a_missing_mask_leaves_the_frames_unknown(tmp_path: Path) -> None:
    root = make_shanghaitech(tmp_path)
    mask = root / "testing" / "test_frame_mask" / "01_0015.npy"
    mask.unlink()
    dataset = load_dataset("shanghaitech", root)
    video = by_id(dataset)["01_0015"]
    assert (video.label, video.anomalies, video.num_frames) == (1, None, None)
    assert f"01_0015: {mask}" in dataset.missing
    assert describe_missing(dataset).endswith(f"1 of 437 videos has no frame labels, e.g. 01_0015: {mask}")


def test_shanghaitech_with_its_own_split(tmp_path: Path) -> None:
    root = make_shanghaitech(tmp_path)
    (root / "SH_Train.txt").write_text("\ufeff01_001 \r\n\r\n01_0015\r\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds SH_Train\.txt but not the other"):
        load_dataset("shanghaitech", root)
    (root / "SH_Test.txt").write_text("01_002\n01_0014\n")
    dataset = load_dataset("shanghaitech", root)
    splits = {video.id: video.split for video in dataset.videos}
    assert splits == {"01_001": "train", "01_0015": "train", "01_002": "test", "01_0014": "test"}
    assert dataset.missing == () and describe_missing(dataset) == ""


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("01_001", "duplicate id"), ("../evil", "not a Sh"), ("01_14", "not a Sh"), ("01_0014,1", "not a Sh")],
)
def test_bad_split_lists(tmp_path: Path, line: str, complaint: str) -> None:
    root = make_shanghaitech(tmp_path)
    (root / "SH_Train.txt").write_text("01_001\n")
    (root / "SH_Test.txt").write_text(f"01_002\n{line}\n")
    with pytest.raises(UserError, match=rf"SH_Test\.txt, line 2: .*{complaint}"):
        load_dataset("shanghaitech", root)


@pytest.mark.parametrize("masks", ["test_frame_mask", "testing/test_frame_mask"])
def test_the_catalog_of_shanghaitech_needs_no_videos(tmp_path: Path, masks: str) -> None:
    (tmp_path / masks).mkdir(parents=True)
    np.save(tmp_path / masks / "01_0015.npy", np.array([1, 1, 0], dtype=np.uint8))
    dataset = load_catalog("shanghaitech", tmp_path / "absent", annotations=tmp_path)
    assert len(dataset.videos) == 437 and len(dataset.missing) == 63 + 44 - 1
    video = by_id(dataset)["01_0015"]
    assert (video.split, video.label, video.num_frames, video.anomalies) == ("test", 1, 3, ((0, 2),))
    bare = load_catalog("shanghaitech", tmp_path / "absent")
    assert by_id(bare)["01_0015"].anomalies is None and bare.missing == ()
    assert [(v.id, v.label, v.split) for v in bare.videos] == [(v.id, v.label, v.split) for v in dataset.videos]


@pytest.mark.parametrize("content", [b"no array", b"", None])
def test_bad_masks(tmp_path: Path, content: bytes | None) -> None:
    root = make_shanghaitech(tmp_path)
    mask = root / "testing" / "test_frame_mask" / "01_0015.npy"
    if content is None:
        np.save(mask, np.array([0, 1, 2]))
    else:
        mask.write_bytes(content)
    with pytest.raises(UserError, match=r"01_0015\.npy"):
        load_dataset("shanghaitech", root)


# UCF-Crime

EVENTS = "Temporal_Anomaly_Annotation_for_Testing_Videos.txt"


def make_ucf_crime(root: Path, lists: Path) -> Path:
    touch(root / "Anomaly-Videos-Part-1" / "Abuse" / "Abuse001_x264.mp4")
    touch(root / "Anomaly-Videos-Part-1" / "Abuse" / "Abuse028_x264.mp4")
    touch(root / "Anomaly-Videos-Part-1" / "Arson" / "Arson011_x264.mp4")
    touch(root / "Training-Normal-Videos-Part-1" / "Normal_Videos003_x264.mp4")
    touch(root / "Another-Copy" / "Normal_Videos_003_x264.mp4")
    touch(root / "Testing_Normal_Videos_Anomaly" / "Normal_Videos_003_x264.mp4")
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "Anomaly_Train.txt").write_text(
        "Abuse/Abuse001_x264.mp4\nAbuse/Abuse002_x264.mp4\nTraining_Normal_Videos_Anomaly/Normal_Videos003_x264.mp4\n"
    )
    (lists / "Anomaly_Test.txt").write_text(
        "Abuse/Abuse028_x264.mp4\nArson/Arson011_x264.mp4\nTesting_Normal_Videos_Anomaly/Normal_Videos_003_x264.mp4\n"
    )
    (lists / EVENTS).write_text(
        "Abuse028_x264.mp4  Abuse  165  240  -1  -1  \n"
        "Arson011_x264.mp4  Arson  150  420  680  1267  \n"
        "Normal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1  \n"
    )
    return root


@pytest.mark.parametrize("lists", [".", "annotations", "UCF_Crimes/Anomaly_Detection_splits"])
def test_ucf_crime(tmp_path: Path, lists: str) -> None:
    root = make_ucf_crime(tmp_path, tmp_path / lists)
    dataset = load_dataset("ucf-crime", root)
    part = root / "Anomaly-Videos-Part-1"
    arson = part / "Arson" / "Arson011_x264.mp4"
    normal_test = root / "Testing_Normal_Videos_Anomaly" / "Normal_Videos_003_x264.mp4"
    assert dataset.videos == (
        Video("Abuse001_x264", part / "Abuse/Abuse001_x264.mp4", 1, "train", "Abuse", anomalies=None),
        Video("Abuse028_x264", part / "Abuse/Abuse028_x264.mp4", 1, "test", "Abuse", anomalies=((164, 240),)),
        Video("Arson011_x264", arson, 1, "test", "Arson", anomalies=((149, 420), (679, 1267))),
        Video(
            "Normal_Videos003_x264",
            root / "Training-Normal-Videos-Part-1/Normal_Videos003_x264.mp4",
            0,
            "train",
            "Normal",
            anomalies=(),
        ),
        Video("Normal_Videos_003_x264", normal_test, 0, "test", "Normal", anomalies=()),
    )
    assert dataset.missing == (f"Abuse002_x264: {root}/**/Abuse002_x264.mp4",)
    assert describe_missing(dataset).startswith("1 of 6 videos is missing, e.g. Abuse002_x264")


def test_ucf_crime_without_events(tmp_path: Path) -> None:
    root = make_ucf_crime(tmp_path, tmp_path)
    (root / EVENTS).unlink()
    dataset = load_dataset("ucf-crime", root)
    assert by_id(dataset)["Abuse028_x264"].anomalies is None
    assert by_id(dataset)["Normal_Videos_003_x264"].anomalies == ()
    assert "2 of 6 videos have no frame labels" in describe_missing(dataset)


def test_the_bundled_lists_of_ucf_crime() -> None:
    videos = load_catalog("ucf-crime", Path("absent")).videos
    counts = Counter((video.split, video.label) for video in videos)
    assert counts == {("train", 0): 800, ("train", 1): 810, ("test", 0): 150, ("test", 1): 140}
    assert len({video.category for video in videos}) == 13 + 1


def test_ucf_crime_without_lists_takes_the_bundled_ones(tmp_path: Path) -> None:
    root = make_ucf_crime(tmp_path, tmp_path)
    (root / "Anomaly_Train.txt").unlink()
    with pytest.raises(UserError, match=r"Anomaly_Train\.txt is not below .*, but the other"):
        load_dataset("ucf-crime", root)
    (root / "Anomaly_Test.txt").unlink()
    dataset = load_dataset("ucf-crime", root)
    assert len(dataset.videos) == 5 - 1  # Normal_Videos003 is not in the official lists
    assert by_id(dataset)["Abuse028_x264"].anomalies == ((164, 240),)


def test_the_catalog_of_ucf_crime_needs_no_videos(tmp_path: Path) -> None:
    make_ucf_crime(tmp_path / "videos", tmp_path / "lists")
    dataset = load_catalog("ucf-crime", tmp_path / "absent", annotations=tmp_path / "lists")
    loaded = load_dataset("ucf-crime", make_ucf_crime(tmp_path / "videos", tmp_path / "videos"))
    assert {**by_id(dataset), **by_id(loaded)}.keys() == by_id(dataset).keys()
    for video in loaded.videos:
        assert replace(by_id(dataset)[video.id], path=video.path) == video


@pytest.mark.parametrize(
    ("name", "line", "complaint"),
    [
        ("Anomaly_Test.txt", "Abuse028_x264.mp4", "expected <class>/<file>"),
        ("Anomaly_Test.txt", "Abuse/Abuse001_x264.mp4", r"Anomaly_Train\.txt, line 1"),
        (EVENTS, "Abuse028_x264.mp4 Abuse 165 240", "four whole numbers"),
        (EVENTS, "Abuse028_x264.mp4 Abuse 9 5 -1 -1", "9 to 5 ends before"),
    ],
)
def test_bad_ucf_crime_lists(tmp_path: Path, name: str, line: str, complaint: str) -> None:
    root = make_ucf_crime(tmp_path, tmp_path)
    with (root / name).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=rf"{name}, line 4: .*{complaint}"):
        load_dataset("ucf-crime", root)


# UCSD Ped2


def test_the_bundled_split_of_ucsd_ped2() -> None:
    rows = ucsd_ped2.read_split()
    assert Counter((split, label) for _, label, split, _ in rows) == {
        ("train", 0): 4,
        ("train", 1): 6,
        ("test", 0): 12,
        ("test", 1): 6,
    }
    assert sum(frames for *_, frames in rows) == 2550 + 2010  # the published numbers of frames
    assert {video_id for video_id, *_ in rows} == {
        *(f"Train{number:03d}" for number in range(1, 17)),
        *(f"Test{number:03d}" for number in range(1, 13)),
    }
    assert all(label == video_id.startswith("Test") for video_id, label, *_ in rows)


@pytest.mark.parametrize("below", [".", "UCSDped2", "UCSD_Anomaly_Dataset.v1p2/UCSDped2"])
def test_ucsd_ped2(tmp_path: Path, below: str) -> None:
    root = tmp_path / below
    touch(root / "Train" / "Train001" / "001.tif")
    for number, is_set in enumerate([False, True, True, False], start=1):
        mask = np.zeros((6, 8), dtype=np.uint8)
        mask[2, 3] = 255 if is_set else 0
        path = touch(root / "Test" / "Test001_gt" / f"{number:03d}.bmp")
        Image.fromarray(mask).convert("1").save(path)
        Image.fromarray(mask).save(touch(root / "Test" / "Test001" / f"{number:03d}.tif"))
    touch(root / "Test" / "Test001_gt" / "._001.bmp")
    touch(root / "Test" / "Test002" / "001.tif")
    dataset = load_dataset("ucsd-ped2", tmp_path)
    videos = by_id(dataset)
    assert videos["Train001"] == Video("Train001", root / "Train/Train001", 0, "test", num_frames=120, anomalies=())
    assert videos["Test001"] == Video("Test001", root / "Test/Test001", 1, "test", num_frames=4, anomalies=((1, 3),))
    assert videos["Test002"].anomalies is None and videos["Test002"].num_frames == 180
    assert f"Test002: {root / 'Test/Test002'}_gt/*.bmp" in dataset.missing
    assert len(dataset.missing) == 25 + 1


# A dataset of one's own

VIDEOS = """video,label,split,class,num_frames,comment
a/normal.mp4,0,train,,,
a/walk.mp4,0,test,,90,"fine, really"
b/event.avi,1,test,Fight,100,
b/frames.1,1,train,Fight,,
b/unlabeled.mp4,1,test,,,
"""
FRAMES = """video,first_frame,last_frame
b/event.avi,91,100
b/event.avi,1,10
b/frames.1,5,5
"""


def make_own(root: Path, videos: str = VIDEOS, frames: str = FRAMES) -> Path:
    for name in ("a/normal.mp4", "a/walk.mp4", "b/event.avi", "b/frames.1/000.jpg", "b/unlabeled.mp4"):
        touch(root / name)
    (root / "videos.csv").write_text(videos, encoding="utf-8")
    (root / "frames.csv").write_text(frames, encoding="utf-8")
    return root


def load_own(root: Path, frame_labels: bool = True) -> Dataset:
    tables = {"manifest": root / "videos.csv", "frame_labels": root / "frames.csv" if frame_labels else None}
    return load_dataset("manifest", root, **tables)


def test_a_manifest(tmp_path: Path) -> None:
    root = make_own(tmp_path)
    assert load_own(root).videos == (
        Video("a/normal", root / "a/normal.mp4", 0, "train", anomalies=()),
        Video("a/walk", root / "a/walk.mp4", 0, "test", num_frames=90, anomalies=()),
        Video("b/event", root / "b/event.avi", 1, "test", "Fight", 100, anomalies=((0, 10), (90, 100))),
        Video("b/frames.1", root / "b/frames.1", 1, "train", "Fight", anomalies=((4, 5),)),
        Video("b/unlabeled", root / "b/unlabeled.mp4", 1, "test", anomalies=None),
    )
    assert load_own(root).missing == ()
    assert {video.anomalies for video in load_own(root, frame_labels=False).videos} == {None}


def test_a_manifest_from_a_spreadsheet(tmp_path: Path) -> None:
    videos = "\ufeffVideo , LABEL, split\r\n\r\n ./a/normal.mp4 , 0 , train \r\nb/frames.1/,1,test\r\n,,\r\n"
    root = make_own(tmp_path, videos, "video,first_frame,last_frame\r\nb/frames.1,1,2")
    assert [video.id for video in load_own(root).videos] == ["a/normal", "b/frames.1"]


def test_videos_that_are_not_on_disk(tmp_path: Path) -> None:
    root = make_own(tmp_path)
    (root / "a" / "walk.mp4").unlink()
    dataset = load_own(root)
    assert len(dataset.videos) == 4
    assert dataset.missing == (f"a/walk: {root / 'a/walk.mp4'}",)
    assert describe_missing(dataset) == f"1 of 5 videos is missing, e.g. a/walk: {root / 'a/walk.mp4'}"
    with pytest.raises(UserError, match="none of the 5 videos"):
        load_dataset("manifest", root / "b", manifest=root / "videos.csv")


def test_ids() -> None:
    assert to_id("a/b.c/clip.MP4") == "a/b.c/clip"
    assert to_id("testing/frames/01") == "testing/frames/01"
    assert to_id("cam.1/") == "cam.1" and to_id("./x.mkv") == "x"


@pytest.mark.parametrize(
    ("videos", "complaint"),
    [
        ("video,label\na/normal.mp4,0\n", "line 1: missing columns split, found 'video', 'label'; needed are"),
        ("video:label:split\na/normal.mp4:0:train\n", "line 1: missing columns video, label, split.*by commas"),
        ("video,label,split,label\na/normal.mp4,0,train,1\n", "line 1: duplicate columns label"),
        ("video,label,split\na/normal.mp4,2,train\n", "line 2: label is '2'; allowed are 0"),
        ("video,label,split\na/normal.mp4,normmal,train\n", "line 2: label is 'normmal'.*did you mean normal"),
        ("video,label,split\na/normal.mp4,0.5,train\n", "line 2: label is '0.5'; allowed are 0"),
        ("video,label,split\na/normal.mp4,-1,train\n", "line 2: label is '-1'; allowed are 0"),
        ("video,label,split\na/normal.mp4,0,val\n", "line 2: split is 'val'; allowed are train and test"),
        ("video,label,split\na/normal.mp4,0\n", "line 2: split is empty"),
        ("video,label,split\na/normal.mp4,0,train,x\n", "line 2: 4 cells under 3 columns"),
        ("video,label,split\n\n../up.mp4,0,train\n", "line 3: '../up' is not a video id"),
        ("video,label,split\n/etc/clip.mp4,0,train\n", "line 2: '/etc/clip.mp4' is an absolute path"),
        ("video,label,split\nC:\\a\\b.mp4,0,train\n", "line 2: 'C:/a/b.mp4' is an absolute path"),
        ("video,label,split\na/x.mp4,0,train\na/x.avi,0,test\n", r"line 3: a/x\.avi and a/x\.mp4 \(.*line 2\)"),
        ("video,label,split,num_frames\na/normal.mp4,0,train,ten\n", "line 2: num_frames is 'ten'"),
        ("video,label,split,num_frames\na/normal.mp4,0,train,0\n", "line 2: num_frames is '0'"),
        ("video,label,split\n", "has no rows"),
        ("", "has no rows"),
        ('video,label,split\n"a/normal.mp4,0,train\n', "not a CSV table"),
    ],
)
def test_bad_manifests(tmp_path: Path, videos: str, complaint: str) -> None:
    with pytest.raises(UserError, match=rf"videos\.csv.*{complaint}"):
        load_own(make_own(tmp_path, videos), frame_labels=False)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("b/event.avi,0,5", "first_frame is '0'; allowed are whole numbers from 1"),
        ("b/event.avi,-1,-1", "first_frame is '-1'"),
        ("b/event.avi,7,5", "first_frame 7 comes after last_frame 5"),
        ("b/event.avi,7,x", "last_frame is 'x'"),
        ("b/absent.mp4,1,5", "'b/absent.mp4' is not in the manifest"),
        ("a/walk.mp4,1,5", r"a/walk\.mp4 has the label 0"),
        ("../b/event.avi,1,5", "is not a video id"),
    ],
)
def test_bad_frame_labels(tmp_path: Path, row: str, complaint: str) -> None:
    with pytest.raises(UserError, match=rf"frames\.csv, line 2: .*{complaint}"):
        load_own(make_own(tmp_path, frames=f"video,first_frame,last_frame\n{row}\n"))


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "vidéo,label,split\n".encode("latin-1")])
def test_tables_that_are_not_text(tmp_path: Path, content: bytes) -> None:
    root = make_own(tmp_path)
    (root / "videos.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"videos\.csv is not a text file in UTF-8"):
        load_own(root)


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    root = make_own(tmp_path)
    with pytest.raises(UserError, match=r"--manifest videos\.csv"):
        load_dataset("manifest", root)
    with pytest.raises(UserError, match=r"absent\.csv cannot be read \(No such file"):
        load_dataset("manifest", root, manifest=root / "absent.csv")
