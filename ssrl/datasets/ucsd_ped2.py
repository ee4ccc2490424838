"""UCSD Ped2 (Mahadevan et al., CVPR 2010) with the weakly supervised re-split that published work uses.

Train/Train001/001.tif ...      16 normal videos
Test/Test001/001.tif ...        12 abnormal videos
Test/Test001_gt/001.bmp ...     one mask per frame: a frame is anomalous if any pixel is set
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ssrl.datasets.video import Dataset, Split, Video, to_intervals
from ssrl.errors import UserError

BUNDLED = Path(__file__).parent / "splits" / "ucsd_ped2_weak.csv"


def load(root: Path) -> Dataset:
    """Find the 28 videos; `root` is UCSDped2 or a folder that holds it."""
    nested = [root / "UCSDped2", root / "UCSD_Anomaly_Dataset.v1p2" / "UCSDped2"]
    if not (root / "Train").is_dir() and not (root / "Test").is_dir():
        root = next((folder for folder in nested if folder.is_dir()), root)
    videos, missing = [], []
    for row in read_split():
        video_id, label, *_ = row
        path = build_path(root, video_id, label)
        if not path.is_dir():
            missing.append(f"{video_id}: {path}")
            continue
        video, missing_masks = _read_video(root, *row)
        videos.append(video)
        missing.extend(missing_masks)
    if not videos:
        raise UserError(
            f"no UCSD Ped2 videos below {root}: looked for Train/Train001 ... and Test/Test001 ... . Point --root to "
            f"UCSDped2 or its parent folder, or get the UCSD Anomaly Detection Dataset from the Statistical Visual "
            f"Computing Lab, University of California San Diego"
        )
    return Dataset("ucsd-ped2", tuple(videos), tuple(missing))


def load_catalog(annotations: Path | None) -> Dataset:
    """List the 28 videos at their paths in the official layout, present or not.

    `annotations` is UCSDped2, or a folder with only its Test/<id>_gt; None: labels and lengths only.
    """
    videos = [_read_video(annotations or BUNDLED.parent, *row) for row in read_split()]
    missing = [mask for _, masks in videos for mask in masks] if annotations else []
    return Dataset("ucsd-ped2", tuple(video for video, _ in videos), tuple(missing))


def build_path(root: Path, video_id: str, label: int) -> Path:
    return root / ("Test" if label else "Train") / video_id


def _read_video(root: Path, video_id: str, label: int, split: Split, num_frames: int) -> tuple[Video, list[str]]:
    """Read a video's annotations; also returns the missing ones."""
    path = build_path(root, video_id, label)
    if not label:
        return Video(video_id, path, label, split, num_frames=num_frames, anomalies=()), []
    masks = sorted(path.with_name(f"{video_id}_gt").glob("[!.]*.bmp"))
    if not masks:
        return Video(video_id, path, label, split, num_frames=num_frames), [f"{video_id}: {path}_gt/*.bmp"]
    anomalies = to_intervals(np.array([is_anomalous(mask) for mask in masks]))
    return Video(video_id, path, label, split, num_frames=len(masks), anomalies=anomalies), []


def read_split() -> list[tuple[str, int, Split, int]]:
    """Read (id, label, split, number of frames) of each video in the bundled re-split."""
    with BUNDLED.open(encoding="utf-8", newline="") as table:
        return [
            (row["video"], int(row["label"]), "train" if row["split"] == "train" else "test", int(row["num_frames"]))
            for row in csv.DictReader(table)
        ]


def is_anomalous(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return bool(np.asarray(image.convert("L")).any())
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not a readable image ({error}); get the file again") from error
