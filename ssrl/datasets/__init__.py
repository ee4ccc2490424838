"""Datasets by name: videos with their labels and frame labels, found in the official layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ssrl.datasets import manifest as manifest_table
from ssrl.datasets import shanghaitech, ucf_crime, ucsd_ped2
from ssrl.datasets.video import Dataset
from ssrl.errors import UserError

MANIFEST = "manifest"
_OFFICIAL: dict[str, Callable[[Path], Dataset]] = {
    "shanghaitech": shanghaitech.load,
    "ucf-crime": ucf_crime.load,
    "ucsd-ped2": ucsd_ped2.load,
}
DATASET_NAMES = (*_OFFICIAL, MANIFEST)


def load_dataset(name: str, root: Path, *, manifest: Path | None = None, frame_labels: Path | None = None) -> Dataset:
    """The videos of the dataset `name` below `root`; what is not on disk is listed in `Dataset.missing`.

    `manifest` and `frame_labels` are the two tables of a dataset of one's own (`ssrl.datasets.manifest`).
    Raises `UserError` for an unknown name, a bad table, or where not one video is there.
    """
    if name not in DATASET_NAMES:
        raise UserError(f"there is no dataset {name!r}; known are {', '.join(DATASET_NAMES)}")
    root = Path(root)
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing there"
        raise UserError(f"the dataset's root {root} must be a folder, but is {found}; correct --root")
    if name == MANIFEST:
        if manifest is None:
            raise UserError("the dataset 'manifest' needs a table of videos: give it with --manifest videos.csv")
        return manifest_table.load(root, Path(manifest), Path(frame_labels) if frame_labels else None)
    if manifest is not None or frame_labels is not None:
        raise UserError(
            f"{name} brings its own labels: --manifest and --frame-labels go with --dataset manifest alone; "
            f"leave them out, or name that dataset"
        )
    return _OFFICIAL[name](root)


def describe_missing(dataset: Dataset) -> str:
    """One line on what the disk lacks, such as "37 of 437 videos are missing, e.g. ..."; "" where all is there."""
    present = {video.id for video in dataset.videos}
    no_labels = [entry for entry in dataset.missing if entry.partition(": ")[0] in present]
    no_video = [entry for entry in dataset.missing if entry.partition(": ")[0] not in present]
    total = len(present) + len(no_video)
    parts = []
    if no_video:
        verb = "is" if len(no_video) == 1 else "are"
        parts.append(f"{len(no_video)} of {total} videos {verb} missing, e.g. {no_video[0]}")
    if no_labels:
        verb = "has" if len(no_labels) == 1 else "have"
        parts.append(f"{len(no_labels)} of {total} videos {verb} no frame labels, e.g. {no_labels[0]}")
    return "; ".join(parts)
