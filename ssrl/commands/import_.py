"""ssrl-import: what others have released, made into ours."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ssrl.commands.options import HELP
from ssrl.console import EXIT_FAILED, ProgressBar, command_errors, note, results, warn
from ssrl.datasets import DATASET_NAMES
from ssrl.datasets.video import Dataset
from ssrl.geometry import ROWS
from ssrl.store.importing import SCALES, ImportConfig, Summary

NAMED_MISSING = 5  # videos without files that are named; the others are counted


@click.group(context_settings=HELP)
def main() -> None:
    """Make released files into ones of this program.

    Example: ssrl-import checkpoint released.pkl --out best.pt
    """


@main.command(context_settings=HELP)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The checkpoint to write.")
@command_errors
def checkpoint(file: Path, out: Path) -> None:
    """A state dict of the authors' release (stages 1 to 4), or of RTFM, as a checkpoint."""
    from ssrl.checkpoints import Checkpoint, load_tensors, save_checkpoint
    from ssrl.model.network import SSRL
    from ssrl.model.released_weights import load_released, model_of

    state = load_tensors(file)
    network = SSRL(model_of(state, file))
    load_released(network, state)
    model = network.config
    save_checkpoint(out, Checkpoint(model, network.state_dict(), imported_from=file.name))
    results.print(f"{out}: D = {model.feature_dim}, scales {','.join(map(str, model.scales))}", markup=False)


@main.command(context_settings=HELP)
@click.option("--layout", required=True, type=click.Choice(list(SCALES)), help="Whose files these are.")
@click.option("--dataset", required=True, type=click.Choice(DATASET_NAMES), help="Whose videos these are.")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="The folder that holds the files.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--annotations", type=click.Path(path_type=Path), help="Folder with the official frame labels.")
@click.option("--manifest", type=click.Path(path_type=Path), help="Table video,label,split of your own videos.")
@click.option("--frame-labels", type=click.Path(path_type=Path), help="Table video,first_frame,last_frame, from 1.")
@click.option("--rows", default=ImportConfig.rows, type=click.Choice(ROWS), show_default=True, help="What a row is.")
@click.option("--dtype", default=ImportConfig.dtype, show_default=True, help="On disk: float32 (exact) or float16.")
@click.option("--encoder", default=ImportConfig.encoder, show_default=True, help="What to call their encoder.")
@command_errors
def features(
    layout: str,
    dataset: str,
    root: Path,
    out: Path,
    annotations: Path | None,
    manifest: Path | None,
    frame_labels: Path | None,
    rows: str,
    dtype: str,
    encoder: str,
) -> None:
    """Features that others released, as a store. Videos that are in it already are skipped.

    \b
    released  SSRL's ten-crop and patch features of ShanghaiTech or UCF-Crime
    rtfm      ten-crop features alone (scale 1), as RTFM released them
    npy       ROOT/<video>.npy, (T, D) or (T, crops, D), with --dataset manifest --manifest videos.csv

    A row is a snippet of 16 frames, or (--rows segments) one of S segments spread evenly over the video.

    Example: ssrl-import features --layout released --dataset shanghaitech --root released --annotations
    shanghaitech --out features/released
    """
    from ssrl.datasets import load_catalog
    from ssrl.store.importing import import_features

    config = ImportConfig(dataset, layout, rows, dtype, encoder)  # type: ignore[arg-type]  # checked in there
    found = load_catalog(dataset, root, annotations=annotations, manifest=manifest, frame_labels=frame_labels)
    note(str(found))
    with ProgressBar() as bar:
        bar.begin("importing", len(found.videos))
        summary = import_features(config, found, root, out, bar.advance)
    _warn_of_labels(found, summary)
    _report(summary, out)


def _warn_of_labels(found: Dataset, summary: Summary) -> None:
    """What evaluation will not be able to count, and why."""
    imported = {*summary.done, *summary.skipped}
    judged = [video for video in found.videos if video.split == "test" and video.id in imported]
    unlabeled = [video.id for video in judged if video.anomalies is None]
    if unlabeled:
        warn(
            f"test videos without frame labels: {len(unlabeled)} of {len(judged)}, e.g. {unlabeled[0]}; frame-level "
            f"figures leave them out. The labels come from --annotations, or from --frame-labels for a manifest"
        )
    if summary.unplaced:
        warn(
            f"videos of segments that go without their frame labels: {len(summary.unplaced)}, e.g. "
            f"{summary.unplaced[0]}; their numbers of frames are not known, which a manifest can state (num_frames)"
        )
    if summary.guessed:
        warn(f"videos of which the number of frames is not known: {len(summary.guessed)}; 16 a row were taken")


def _report(summary: Summary, out: Path) -> None:
    results.print(
        f"{out}: {len(summary.done)} videos imported ({summary.num_rows} rows), {len(summary.skipped)} skipped, "
        f"{len(summary.failed)} failed, {len(summary.missing)} missing",
        markup=False,
    )
    for video_id, reason in summary.failed.items():
        results.print(f"failed: {video_id}: {reason}", markup=False)
    for video_id, reason in list(summary.missing.items())[:NAMED_MISSING]:
        results.print(f"missing: {video_id}: {reason}", markup=False)
    if len(summary.missing) > NAMED_MISSING:
        results.print(f"missing: {len(summary.missing) - NAMED_MISSING} more")
    if summary.failed or summary.missing:
        sys.exit(EXIT_FAILED)


@main.command(context_settings=HELP)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The state dict to write.")
@command_errors
def export(file: Path, out: Path) -> None:
    """The other way: a checkpoint of --recipe released as a state dict of the authors' release.

    Example: ssrl-import export best.pt --out released.pth
    """
    from ssrl.checkpoints import load_checkpoint, save_tensors
    from ssrl.model.released_weights import released_state

    loaded = load_checkpoint(file)
    state = released_state(loaded)
    save_tensors(out, state)
    scales = ",".join(map(str, loaded.model.scales))
    results.print(f"{out}: {len(state)} tensors, D = {loaded.model.feature_dim}, scales {scales}", markup=False)
