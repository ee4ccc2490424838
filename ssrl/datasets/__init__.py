"""Datasets by name: videos with their labels and frame labels, in the official layouts."""

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
    "shanghaitech": shanghaitech.load_catalog,
    "ucf-crime": ucf_crime.load_catalog,
    "ucsd-ped2": ucsd_ped2.load_catalog,
}
DATASET_NAMES = (*_OFFICIAL, MANIFEST)


def load_dataset(name: str, root: Path, *, manifest: Path | None = None, frame_labels: Path | None = None) -> Dataset:
    """Find the videos of the dataset `name` below `root`; what is not on disk is listed in `Dataset.missing`.

    `manifest` and `frame_labels` are the tables of a custom dataset (`ssrl.datasets.manifest`).
    Raises a UserError for an unknown name, a bad table, or if no videos are found.
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
    """List every video of the dataset `name` from its split lists and annotations, without looking for video files.

    `annotations` is a folder with the frame labels of an official dataset; without it, abnormal videos have none.
    Missing labels are listed in `Dataset.missing`. The tables are for "manifest", with paths relative to `root`.
    """
    _check_name(name)
    if (table := _check_tables(name, manifest, frame_labels)) is not None:
        if annotations is not None:
            raise UserError("--annotations is for official datasets; with a manifest, use --frame-labels")
        return manifest_table.load_catalog(root, table, Path(frame_labels) if frame_labels else None)
    if annotations is not None:
        _check_folder(annotations, "the folder of annotations", "--annotations")
    dataset = _CATALOGS[name](annotations)
    if annotations is not None and not any(video.anomalies for video in dataset.videos):
        raise UserError(
            f"{annotations} holds no frame labels of {name}; looked for, e.g., {next(iter(dataset.missing), 'none')}. "
            f"Point --annotations to the folder that holds them, or omit it to use video labels only"
        )
    return dataset


def _check_name(name: str) -> None:
    if name not in DATASET_NAMES:
        raise UserError(f"unknown dataset {name!r}; allowed are {', '.join(DATASET_NAMES)}")


def _check_folder(folder: Path, what: str, option: str) -> None:
    if not folder.is_dir():
        actual = "a file" if folder.exists() else "missing"
        raise UserError(f"{what} {folder} must be a folder, but is {actual}; fix {option}")


def _check_tables(name: str, manifest: Path | None, frame_labels: Path | None) -> Path | None:
    """Return the table of a custom dataset; None for an official dataset, which takes no tables."""
    if name == MANIFEST:
        if manifest is None:
            raise UserError("the dataset 'manifest' needs a table of videos; give it with --manifest videos.csv")
        return Path(manifest)
    if manifest is not None or frame_labels is not None:
        raise UserError(
            f"{name} has its own labels: --manifest and --frame-labels are only for --dataset manifest; "
            f"omit them, or use that dataset"
        )
    return None


def describe_missing(dataset: Dataset) -> str:
    """Summarize what is missing, as in "37 of 437 videos are missing, e.g. ..."; "" if nothing is."""
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
