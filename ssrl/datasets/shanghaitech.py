"""ShanghaiTech Campus with the weakly supervised re-split of Zhong et al. (CVPR 2019).

training/videos/01_001.avi              normal videos: three digits after the underscore
testing/frames/01_0014/000.jpg ...      abnormal videos: four digits
testing/test_frame_mask/01_0014.npy     (num_frames,) 0 or 1, of abnormal videos; or test_frame_mask/01_0014.npy
SH_Train.txt, SH_Test.txt               ids of the split; if absent, the bundled lists in `splits/` are used
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ssrl.datasets.video import Dataset, Split, Video, to_intervals
from ssrl.errors import UserError

SPLIT_LISTS: dict[Split, str] = {"train": "SH_Train.txt", "test": "SH_Test.txt"}
BUNDLED = Path(__file__).parent / "splits"
_ID = re.compile(r"\d+_(\d{3}|\d{4})")


def load(root: Path) -> Dataset:
    """Find the 437 videos of the re-split, or those of the lists in `root`; `root` may be the parent folder."""
    if not (root / "training").is_dir() and not (root / "testing").is_dir() and (root / "shanghaitech").is_dir():
        root = root / "shanghaitech"
    videos, missing = [], []
    for video_id, split in read_split(find_split_folder(root)).items():
        path = build_path(root, video_id)
        if not path.exists():
            missing.append(f"{video_id}: {path}")
            continue
        video, missing_mask = _read_video(root, video_id, split)
        videos.append(video)
        missing.extend(missing_mask)
    if not videos:
        raise UserError(
            f"no ShanghaiTech videos below {root}: looked for training/videos/<id>.avi and "
            f"testing/frames/<id>/, e.g. {missing[0] if missing else 'nothing, as the split lists are empty'}. "
            f"Point --root to the folder that holds training/ and testing/, get the dataset from the authors' page "
            f"(ShanghaiTech Campus, Liu et al. 2018), or generate a synthetic one: ssrl-synth --out {root}"
        )
    return Dataset("shanghaitech", tuple(videos), tuple(missing))


def load_catalog(annotations: Path | None) -> Dataset:
    """List every video of the re-split at its path in the official layout, present or not.

    `annotations` holds the masks, and optionally split lists; None: labels only.
    """
    root = annotations or BUNDLED
    videos = [_read_video(root, video_id, split) for video_id, split in read_split(find_split_folder(root)).items()]
    missing = [mask for _, masks in videos for mask in masks] if annotations else []
    return Dataset("shanghaitech", tuple(video for video, _ in videos), tuple(missing))


def infer_label(video_id: str) -> int:
    """Tell the label from an id: abnormal videos are those of the official test set (four digits)."""
    return 1 if len(video_id.partition("_")[2]) == 4 else 0


def build_path(root: Path, video_id: str) -> Path:
    if infer_label(video_id):
        return root / "testing" / "frames" / video_id
    return root / "training" / "videos" / f"{video_id}.avi"


def find_split_folder(root: Path) -> Path:
    """Find the folder of the split lists: `root` if it has them, else the bundled ones."""
    own = [name for name in SPLIT_LISTS.values() if (root / name).is_file()]
    if len(own) == 1:
        raise UserError(
            f"{root} holds {own[0]} but not the other of {' and '.join(SPLIT_LISTS.values())}; "
            f"add it, or remove {own[0]} to use the published split"
        )
    return root if own else BUNDLED


def read_split(folder: Path) -> dict[str, Split]:
    """Read the split of each video id. Duplicate ids are an error: they would leak from training into test."""
    split_of: dict[str, Split] = {}
    for split, name in SPLIT_LISTS.items():
        path = folder / name
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            video_id = line.strip()
            if not video_id:
                continue
            if not _ID.fullmatch(video_id):
                raise UserError(
                    f"{path}, line {number}: {video_id!r} is not a ShanghaiTech id; allowed are ids like 01_001 "
                    f"(normal) and 01_0014 (abnormal), one per line"
                )
            if video_id in split_of:
                raise UserError(
                    f"{path}, line {number}: duplicate id {video_id} (first in "
                    f"{split_of[video_id]}); a video belongs to one split: remove one of the lines"
                )
            split_of[video_id] = split
    return split_of


def _read_video(root: Path, video_id: str, split: Split) -> tuple[Video, list[str]]:
    """Read a video's annotations; also returns the missing ones."""
    path = build_path(root, video_id)
    if not infer_label(video_id):
        return Video(video_id, path, 0, split, anomalies=()), []
    mask_path = _find_mask_folder(root) / f"{video_id}.npy"
    if not mask_path.exists():
        return Video(video_id, path, 1, split), [f"{video_id}: {mask_path}"]
    mask = read_mask(mask_path)
    return Video(video_id, path, 1, split, num_frames=len(mask), anomalies=to_intervals(mask)), []


def _find_mask_folder(root: Path) -> Path:
    official, flat = root / "testing" / "test_frame_mask", root / "test_frame_mask"
    return flat if flat.is_dir() and not official.is_dir() else official


def read_mask(path: Path) -> np.ndarray:
    """Read frame labels: (num_frames,), 0 or 1."""
    try:
        mask: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not a NumPy array ({error}); get the file again") from error
    if mask.ndim != 1 or not len(mask) or not np.isin(mask, (0, 1)).all():
        raise UserError(f"{path} must hold one label per frame, 0 or 1, but is {mask.dtype} {mask.shape}; get it again")
    return mask
