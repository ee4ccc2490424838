"""ssrl-extract: videos → patch-feature store."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssrl.commands.options import HELP, parse_scales, parse_size
from ssrl.console import EXIT_FAILED, command_errors, note, notes, progress_bar, results, warn
from ssrl.datasets import DATASET_NAMES

if TYPE_CHECKING:
    from ssrl.extract.pipeline import Summary
    from ssrl.store.layout import VideoRecord


DECODERS = ("auto", "pyav", "decord")  # of video files; folders of frames need none


@click.command(context_settings=HELP)
@click.option("--dataset", required=True, type=click.Choice(DATASET_NAMES), help="Which layout the videos are in.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the dataset lies.  [default: data/NAME]")
@click.option("--out", type=click.Path(path_type=Path), help="The store's folder.  [default: features/NAME]")
@click.option("--manifest", type=click.Path(path_type=Path), help="Table video,label,split of your own videos.")
@click.option("--frame-labels", type=click.Path(path_type=Path), help="Table video,first_frame,last_frame, from 1.")
@click.option("--encoder", default="micro3d", show_default=True, help="micro3d, or i3d_r50.")
@click.option("--weights", help="embedded, kinetics400, random:SEED, or a file.  [default: the encoder's own]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", default="auto", show_default=True, help="auto, float32 or bfloat16.")
@click.option("--decoder", default="auto", type=click.Choice(DECODERS), show_default=True, help="auto is pyav.")
@click.option("--scales", default="1,2,3,4", show_default=True, callback=parse_scales, help="Which patch grids.")
@click.option("--size", default="480x840", show_default=True, callback=parse_size, help="Height x width in pixels.")
@click.option("--dtype", default="float16", show_default=True, help="Of the features on disk: float16 or float32.")
@command_errors
def main(
    dataset: str,
    root: Path | None,
    out: Path | None,
    manifest: Path | None,
    frame_labels: Path | None,
    encoder: str,
    weights: str | None,
    device: str,
    precision: str,
    decoder: str,
    scales: tuple[int, ...],
    size: tuple[int, int],
    dtype: str,
) -> None:
    """Encode the videos of a dataset into a patch-feature store. Videos that are in it already are skipped.

    Example: ssrl-extract --dataset manifest --root videos --manifest videos.csv --out features/mine
    """
    from ssrl.datasets import describe_missing, load_dataset
    from ssrl.extract.encoders import load_encoder
    from ssrl.extract.pipeline import extract, store_config
    from ssrl.extract.runtime import TorchRuntime
    from ssrl.geometry import Geometry
    from ssrl.store.writer import StoreWriter

    found = load_dataset(dataset, root or Path("data") / dataset, manifest=manifest, frame_labels=frame_labels)
    note(str(found))
    if found.missing:
        warn(describe_missing(found))
    loaded = load_encoder(encoder, weights)
    runtime = TorchRuntime(loaded, device, precision)
    note(f"encoder: {runtime}, weights {loaded.weights.name}")
    config = store_config(dataset, loaded, runtime, Geometry.with_paper_grids(*size), scales, dtype)
    writer = StoreWriter(out or Path("features") / dataset, config)
    with ExtractionProgress() as progress:
        summary = extract(found, writer, runtime, progress, decoder)
    _report(summary, writer.root, len(found.missing))


class ExtractionProgress:
    """A bar on a terminal; a line a video elsewhere."""

    def __enter__(self) -> ExtractionProgress:
        self._bar = progress_bar("videos")
        self._bar.start()
        self._task = self._bar.add_task("extracting", total=None, news="")
        self._began, self._snippets = time.monotonic(), 0
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def run_begins(self, num_videos: int, num_kept: int) -> None:
        self._num_videos, self._num_finished = num_videos, 0
        self._bar.update(self._task, total=num_videos)
        if num_kept:
            note(f"{num_kept} videos are in the store already")

    def snippet_done(self, video_id: str, num_snippets: int) -> None:
        self._snippets += 1
        rate = self._snippets / (time.monotonic() - self._began)
        self._bar.update(self._task, news=f"{video_id}, snippet {num_snippets}, {rate:.2f} snippets/s")

    def video_done(self, record: VideoRecord, seconds: float) -> None:
        self._advance(f"{record.id}: {record.num_frames} frames in {seconds:.1f} s")
        if record.substituted_frames:
            warn(f"{record.id}: {record.substituted_frames} frames did not decode and repeat their neighbour")

    def video_failed(self, video_id: str, reason: str) -> None:
        self._advance(f"{video_id}: failed")
        warn(f"{video_id}: {reason}")

    def _advance(self, line: str) -> None:
        self._num_finished += 1
        self._bar.advance(self._task)
        if not notes.is_terminal:
            note(f"[{self._num_finished}/{self._num_videos}] {line}")


def _report(summary: Summary, root: Path, num_missing: int) -> None:
    rate = f", {summary.num_frames / summary.seconds:.0f} frames/s" if summary.num_frames else ""
    results.print(
        f"{root}: {len(summary.done)} videos extracted ({summary.num_snippets} snippets, "
        f"{summary.seconds:.0f} s{rate}), {len(summary.kept)} kept, {len(summary.failed)} failed, "
        f"{num_missing} missing",
        markup=False,
    )
    for video_id, reason in summary.failed.items():
        results.print(f"failed: {video_id}: {reason}", markup=False)
    if summary.failed or num_missing:
        sys.exit(EXIT_FAILED)
