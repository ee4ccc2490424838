"""ssrl-import: released features and weights → stores and checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ssrl.commands.options import HELP, make_request, option
from ssrl.console import EXIT_FAILED, ProgressBar, handle_errors, list_results, note, results, warn
from ssrl.datasets import DATASET_NAMES
from ssrl.datasets.video import Dataset
from ssrl.store.importing import ImportConfig, Summary

MAX_LISTED_MISSING = 5  # missing videos listed by name; the rest are counted


@click.group(context_settings=HELP)
def main() -> None:
    """Convert released features and weights.

    Example: ssrl-import checkpoint released.pkl --out best.pt
    """


@main.command(context_settings=HELP)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Checkpoint to write.")
@handle_errors
def checkpoint(file: Path, out: Path) -> None:
    """Convert a state dict of the authors' release (stages 1 to 4), or of RTFM, to a checkpoint."""
    from ssrl.checkpoints import Checkpoint, load_tensors, save_checkpoint
    from ssrl.files import check_output
    from ssrl.model.network import SSRL
    from ssrl.model.released_weights import find_state, infer_model, load_released

    check_output(out)
    state = find_state(load_tensors(file), file)
    network = SSRL(infer_model(state))
    load_released(network, state)
    model = network.config
    save_checkpoint(out, Checkpoint(model, network.state_dict(), imported_from=file.name))
    results.print(f"{out}: D = {model.feature_dim}, scales {','.join(map(str, model.scales))}", markup=False)


@main.command(context_settings=HELP)
@option(ImportConfig, "layout", help="Layout of the files.")
@option(ImportConfig, "dataset", type=click.Choice(DATASET_NAMES), help="Dataset of the videos.")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="Folder of the files.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Store folder.")
@click.option("--annotations", type=click.Path(path_type=Path), help="Folder with the official frame labels.")
@click.option("--manifest", type=click.Path(path_type=Path), help="CSV table of a custom dataset: video,label,split.")
@click.option("--frame-labels", type=click.Path(path_type=Path), help="CSV table video,first_frame,last_frame; from 1.")
@option(ImportConfig, "rows", help="What a row is.")
@option(ImportConfig, "dtype", help="Stored as float32 (exact) or float16.")
@option(ImportConfig, "encoder", help="Name of the encoder.")
@option(ImportConfig, "axes", help="Axes of the arrays, such as crops,time,features; usually inferred.")
@handle_errors
def features(
    root: Path, out: Path, annotations: Path | None, manifest: Path | None, frame_labels: Path | None, **options: Any
) -> None:
    """Convert released features to a store. Videos already in the store are skipped.

    \b
    released  SSRL's ten-crop and patch features of ShanghaiTech or UCF-Crime
    rtfm      ten-crop features only (scale 1), as released by RTFM
    npy       ROOT/<video>.npy, (T, D) or (T, crops, D), or one file (T, D) per crop, ROOT/<video>__0.npy and so on,
              with --dataset manifest --manifest videos.csv

    A row covers a snippet of 16 frames, or (--rows segments) one of S segments spread evenly over the video.

    Example: ssrl-import features --layout released --dataset shanghaitech --root released --annotations
    shanghaitech --out features/released
    """
    from ssrl.commands.progress import describe_unnamed
    from ssrl.datasets import load_catalog
    from ssrl.store.importing import import_features
    from ssrl.store.reader import Store

    config = make_request(ImportConfig, **options)
    catalog = load_catalog(config.dataset, root, annotations=annotations, manifest=manifest, frame_labels=frame_labels)
    note(str(catalog))
    table = f"{config.dataset} {(manifest or root).resolve()}"
    with ProgressBar() as bar:
        bar.begin("importing", len(catalog.videos))
        summary = import_features(config, catalog, root, out, bar.advance, table)
    if summary.reading:
        note(f"arrays read as {summary.reading}")
    _warn_about_videos(catalog, summary)
    if unnamed := Store(out).unnamed_ids():
        warn(describe_unnamed(unnamed, out))
    _report(summary, out)


def _warn_about_videos(catalog: Dataset, summary: Summary) -> None:
    """Warn about features that are not as they should be, and videos that evaluation cannot fully use."""
    imported = {*summary.done, *summary.skipped}
    test_videos = [video for video in catalog.videos if video.split == "test" and video.id in imported]
    unlabeled = [video.id for video in test_videos if video.anomalies is None]
    if unlabeled:
        warn(
            f"test videos without frame labels: {len(unlabeled)} of {len(test_videos)}, e.g. {unlabeled[0]}; "
            f"frame-level metrics exclude them. Give --annotations, or --frame-labels with a manifest"
        )
    if summary.unplaced:
        warn(
            f"segment videos whose frame labels cannot be used: {len(summary.unplaced)}, e.g. "
            f"{summary.unplaced[0]}; their frame counts are unknown: add num_frames to a manifest"
        )
    if summary.guessed:
        warn(f"videos with an unknown frame count: {len(summary.guessed)}; assuming 16 frames per row")
    for video_id, problems in summary.warnings.items():
        warn(f"{video_id}: {'; '.join(problems)}")
    if summary.zeros:
        video_id, count = next(iter(summary.zeros.items()))
        warn(
            f"videos with rows of zeros: {len(summary.zeros)}, e.g. {video_id} ({count} rows); extract their features "
            f"again, or leave them out of the table"
        )


def _report(summary: Summary, out: Path) -> None:
    results.print(
        f"{out}: {len(summary.done)} videos imported ({summary.num_rows} rows), {len(summary.skipped)} skipped, "
        f"{len(summary.failed)} failed, {len(summary.missing)} missing",
        markup=False,
    )
    list_results("changed", {video_id: "; ".join(changes) for video_id, changes in summary.changed.items()})
    list_results("failed", summary.failed)
    list_results("missing", dict(list(summary.missing.items())[:MAX_LISTED_MISSING]))
    if len(summary.missing) > MAX_LISTED_MISSING:
        results.print(f"missing: {len(summary.missing) - MAX_LISTED_MISSING} more")
    if summary.failed or summary.missing:
        sys.exit(EXIT_FAILED)


@main.command(context_settings=HELP)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="State dict to write.")
@handle_errors
def export(file: Path, out: Path) -> None:
    """Convert a checkpoint of --recipe released to a state dict of the authors' release.

    Example: ssrl-import export best.pt --out released.pth
    """
    from ssrl.checkpoints import load_checkpoint, save_tensors
    from ssrl.model.released_weights import to_released_state

    loaded = load_checkpoint(file)
    state = to_released_state(loaded)
    save_tensors(out, state)
    scales = ",".join(map(str, loaded.model.scales))
    results.print(f"{out}: {len(state)} tensors, D = {loaded.model.feature_dim}, scales {scales}", markup=False)
