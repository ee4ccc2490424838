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
_CATALOGS: dict[str, Callable[[Path | None], Dataset]] = {
    "shanghaitech": shanghaitech.catalog,
    "ucf-crime": ucf_crime.catalog,
    "ucsd-ped2": ucsd_ped2.catalog,
}
DATASET_NAMES = (*_OFFICIAL, MANIFEST)


def load_dataset(name: str, root: Path, *, manifest: Path | None = None, frame_labels: Path | None = None) -> Dataset:
    """The videos of the dataset `name` below `root`; what is not on disk is listed in `Dataset.missing`.

    `manifest` and `frame_labels` are the two tables of a dataset of one's own (`ssrl.datasets.manifest`).
    Raises `UserError` for an unknown name, a bad table, or where not one video is there.
    """
    _check_name(name)
    root = Path(root)
    _check_folder(root, "the dataset's root", "--root")
    if (table := _check_tables(name, manifest, frame_labels)) is not None:
        return manifest_table.load(root, table, Path(frame_labels) if frame_labels else None)
    return _OFFICIAL[name](root)


def load_catalog(
    name: str,
    root: Path,
    *,
    annotations: Path | None = None,
    manifest: Path | None = None,
    frame_labels: Path | None = None,
) -> Dataset:
    """Every video of the dataset `name` with what its lists and annotations tell; no video file is looked for.

    `annotations` is a folder with the official frame labels of an official dataset; without it, abnormal videos have
    none. What it lacks is listed in `Dataset.missing`. The tables go with "manifest", whose paths start from `root`.
    """
    _check_name(name)
    if (table := _check_tables(name, manifest, frame_labels)) is not None:
        if annotations is not None:
            raise UserError("--annotations goes with an official dataset; give a manifest's frames in --frame-labels")
        return manifest_table.catalog(root, table, Path(frame_labels) if frame_labels else None)
    if annotations is not None:
        _check_folder(annotations, "the folder of annotations", "--annotations")
    found = _CATALOGS[name](annotations)
    if annotations is not None and not any(video.anomalies for video in found.videos):
        raise UserError(
            f"{annotations} holds no frame labels of {name}; looked for, e.g., {next(iter(found.missing), 'none')}. "
            f"Point --annotations at the folder that holds them, or leave it out to have video labels alone"
        )
    return found


def _check_name(name: str) -> None:
    if name not in DATASET_NAMES:
        raise UserError(f"there is no dataset {name!r}; known are {', '.join(DATASET_NAMES)}")


def _check_folder(folder: Path, what: str, option: str) -> None:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise UserError(f"{what} {folder} must be a folder, but is {found}; correct {option}")


def _check_tables(name: str, manifest: Path | None, frame_labels: Path | None) -> Path | None:
    """The table of a dataset of one's own; None for an official dataset, which takes no tables."""
    if name == MANIFEST:
        if manifest is None:
            raise UserError("the dataset 'manifest' needs a table of videos: give it with --manifest videos.csv")
        return Path(manifest)
    if manifest is not None or frame_labels is not None:
        raise UserError(
            f"{name} brings its own labels: --manifest and --frame-labels go with --dataset manifest alone; "
            f"leave them out, or name that dataset"
        )
    return None


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
