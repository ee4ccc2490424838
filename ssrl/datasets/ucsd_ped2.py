"""UCSD Ped2 (Mahadevan et al., CVPR 2010) with the weakly supervised re-split that published work uses.

Train/Train001/001.tif ...      16 normal videos
Test/Test001/001.tif ...        12 abnormal videos
Test/Test001_gt/001.bmp ...     one mask a frame: a frame is anomalous where any pixel is set
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from ssrl.datasets.video import Dataset, Split, Video, intervals
from ssrl.errors import UserError

CARRIED = Path(__file__).parent / "splits" / "ucsd_ped2_weak.csv"


def load(root: Path) -> Dataset:
    """The 28 videos; `root` is UCSDped2 or a folder that holds it."""
    nested = [root / "UCSDped2", root / "UCSD_Anomaly_Dataset.v1p2" / "UCSDped2"]
    if not (root / "Train").is_dir() and not (root / "Test").is_dir():
        root = next((folder for folder in nested if folder.is_dir()), root)
    videos, missing = [], []
    for video_id, label, split, num_frames in read_split():
        path = root / ("Test" if label else "Train") / video_id
        if not path.is_dir():
            missing.append(f"{video_id}: {path}")
            continue
        anomalies: tuple[tuple[int, int], ...] | None = ()
        if label:
            masks = sorted(found for found in path.with_name(f"{video_id}_gt").glob("[!.]*.bmp"))
            anomalies = intervals(np.array([mask_is_set(mask) for mask in masks])) if masks else None
            num_frames = len(masks) or num_frames
        if anomalies is None:
            missing.append(f"{video_id}: {path}_gt/*.bmp")
        videos.append(Video(video_id, path, label, split, num_frames=num_frames, anomalies=anomalies))
    if not videos:
        raise UserError(
            f"no video of UCSD Ped2 below {root}: looked for Train/Train001 ... and Test/Test001 ... . Point --root at "
            f"UCSDped2 or the folder above, or get the UCSD Anomaly Detection Dataset from the Statistical Visual "
            f"Computing Lab, University of California San Diego"
        )
    return Dataset("ucsd-ped2", tuple(videos), tuple(missing))


def read_split() -> list[tuple[str, int, Split, int]]:
    """(id, label, split, number of frames) of each video of the carried re-split."""
    with CARRIED.open(encoding="utf-8", newline="") as table:
        return [
            (row["video"], int(row["label"]), "train" if row["split"] == "train" else "test", int(row["num_frames"]))
            for row in csv.DictReader(table)
        ]


def mask_is_set(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return bool(np.asarray(picture.convert("L")).any())
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not a readable picture ({error}); get the file again") from error
