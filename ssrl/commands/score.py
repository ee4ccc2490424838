"""ssrl-score: new videos + checkpoint → scores, a map of where, a page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from ssrl.commands.options import HELP, WHERE
from ssrl.console import EXIT_FAILED, command_errors, results
from ssrl.errors import UserError


@click.command(context_settings=HELP)
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--ckpt", required=True, type=click.Path(path_type=Path), help="A checkpoint of ssrl-train.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder for scores and pictures.")
@click.option("--weights", help="The encoder's weights, where they are a file.  [default: the checkpoint's]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@WHERE
@click.option("--pictures/--no-pictures", default=True, show_default=True, help="Pictures of where in the frame.")
@command_errors
def main(
    videos: Sequence[Path], ckpt: Path, out: Path, weights: str | None, where: str, device: str, pictures: bool
) -> None:
    """Score videos (files, or folders of frames) that have no labels.

    Example: ssrl-score gate.mp4 yard.mp4 --ckpt best.pt --out scores
    """
    from ssrl.checkpoints import load_checkpoint
    from ssrl.commands.progress import ExtractionProgress
    from ssrl.datasets.video import Dataset
    from ssrl.evaluate.report.write import write_scores
    from ssrl.evaluate.scoring import score_video
    from ssrl.extract.encoders import ENCODERS, load_encoder
    from ssrl.extract.pipeline import extract
    from ssrl.extract.runtimes import runtime_settings
    from ssrl.hardware import choose_device
    from ssrl.store.layout import StoreConfig
    from ssrl.store.reader import Store
    from ssrl.store.writer import StoreWriter
    from ssrl.workflows.overlays import write_overlays

    checkpoint = load_checkpoint(ckpt)
    if "config" not in checkpoint.store:
        raise UserError(f"{ckpt} does not know what features it was trained on, so it cannot score videos")
    config = StoreConfig.from_json(checkpoint.store["config"], ckpt)
    if config.encoder not in ENCODERS:
        raise UserError(
            f"{ckpt} was trained on imported features ({config.encoder}), whose encoder is not here, so it cannot "
            f"score videos; train on features of ssrl-extract"
        )
    encoder = load_encoder(config.encoder, weights or config.weights)
    if encoder.weights.sha256 != config.weights_sha256:
        raise UserError(
            f"{ckpt} was trained on features of {config.encoder} with the weights {config.weights} "
            f"(SHA-256 {config.weights_sha256[:12]}…), and these are others ({encoder.weights.sha256[:12]}…); "
            f"name the right file with --weights"
        )
    network = checkpoint.network(choose_device(device))
    settings = runtime_settings(encoder, device=device, precision=config.precision)
    writer = StoreWriter(out / "features", replace(config, scales=checkpoint.model.scales))
    found = Dataset("new videos", _as_videos(videos)).videos
    with ExtractionProgress(len(found), config.geometry.frames_per_snippet) as progress:
        summary = extract(found, writer, settings.runtimes(config.geometry), progress)
    store = Store(out / "features")
    scored = [score_video(network, store, store.record(video_id)) for video_id in [*summary.kept, *summary.done]]
    if scored:
        overlays = write_overlays(out, network, store, scored, where) if pictures else {}
        facts = {"checkpoint": str(ckpt), "encoder": f"{config.encoder}, weights {config.weights}"}
        page = write_scores(out, scored, title="Anomaly scores", facts=facts, overlays=overlays)
        for video in sorted(scored, key=lambda video: -video.highest_score):
            results.print(f"{video.highest_score:.3f}  {video.id}", markup=False)
        results.print(f"scores, pictures and page: {page}", markup=False)
    for video_id, reason in summary.failed.items():
        results.print(f"failed: {video_id}: {reason}", markup=False)
    if summary.failed:
        sys.exit(EXIT_FAILED)


def _as_videos(paths: Sequence[Path]) -> tuple:
    """Videos without a label, named by their file or folder; two of one name are refused by the dataset."""
    from ssrl.datasets.video import Video

    return tuple(Video(_id(path), path.resolve(), None, "test") for path in paths)


def _id(path: Path) -> str:
    return path.resolve().name if path.is_dir() else path.stem
