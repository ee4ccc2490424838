"""ssrl-extract: videos → patch-feature store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ssrl.commands.options import HELP, make_request, option, parse_numbers, parse_size, show_numbers, show_size
from ssrl.console import EXIT_FAILED, handle_errors, list_results, results
from ssrl.datasets import DATASET_NAMES
from ssrl.errors import UserError
from ssrl.extract.sharing import Shard
from ssrl.workflows.extract import ExtractRequest, extract_features

if TYPE_CHECKING:
    from ssrl.extract.pipeline import Summary
    from ssrl.workflows.extract import ExtractResult


def parse_memory(context: Any, parameter: Any, value: str | None) -> int | None:
    from ssrl.extract.memory import parse_bytes

    return None if value is None else _parse(parse_bytes, value)


def parse_shard(context: Any, parameter: Any, value: str) -> Shard:
    shard: Shard = _parse(Shard.parse, value)
    return shard


def _parse(parse: Any, value: str) -> Any:
    try:
        return parse(value)
    except UserError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings=HELP)
@option(ExtractRequest, "dataset", type=click.Choice(DATASET_NAMES), help="Dataset layout.")
@option(ExtractRequest, "root", help="Dataset folder.  [default: data/DATASET]")
@option(ExtractRequest, "out", help="Store folder.  [default: features/DATASET]")
@option(ExtractRequest, "manifest", help="CSV table of a custom dataset: video,label,split.")
@option(ExtractRequest, "frame_labels", help="CSV table video,first_frame,last_frame (from 1) or ..._second.")
@option(ExtractRequest, "encoder", help="Encoder of the patch cubes.")
@option(ExtractRequest, "weights", help="embedded, kinetics400, random:SEED, or a file.  [default: the encoder's]")
@option(ExtractRequest, "runtime", help="Inference runtime of the encoder.")
@option(ExtractRequest, "device", help="Device to run the encoder on.")
@option(ExtractRequest, "precision", help="Precision of the encoder.")
@option(ExtractRequest, "decoder", help="Decoder of video files; auto is pyav.")
@option(ExtractRequest, "decoders", type=click.IntRange(min=1), help="Decoding processes.  [default: 1; GPU: 4]")
@option(ExtractRequest, "memory", callback=parse_memory, show=lambda _: None, help="Total memory limit, e.g. 4G.")
@option(ExtractRequest, "scales", callback=parse_numbers, show=show_numbers, help="Patch grids to extract.")
@option(ExtractRequest, "time_limit", type=click.FloatRange(min=1), help="Seconds without a frame, at most.")
@option(ExtractRequest, "size", callback=parse_size, show=show_size, help="Frame height x width in pixels.")
@option(ExtractRequest, "dtype", help="Data type of the stored features.")
@option(ExtractRequest, "train_sampling", help="segments: 32 snippets of each long training video, one per segment.")
@option(ExtractRequest, "reuse_static", help="Reuse the features of unchanged patches.")
@option(ExtractRequest, "shard", callback=parse_shard, show=str, help="Extract part I of N of the videos, as I/N.")
@option(ExtractRequest, "check", help="Read the tables and every video, and encode nothing.")
@handle_errors
def main(**options: Any) -> None:
    """Encode the videos of a dataset into a patch-feature store. Videos already in the store are skipped.

    Example: ssrl-extract --dataset manifest --root videos --manifest videos.csv --out features/mine
    """
    from ssrl.commands.progress import ExtractionProgress

    request = make_request(ExtractRequest, **options)
    with ExtractionProgress() as progress:
        result = extract_features(request, progress)
    if request.check:
        report_check(result)
    else:
        report(result)
    if not result.complete:
        sys.exit(EXIT_FAILED)


def report_check(result: ExtractResult) -> None:
    """Print the summary of a check, and its findings."""
    summary = result.summary
    results.print(
        f"{len(summary.done)} videos read ({summary.num_frames} frames), {len(summary.failed)} failed, "
        f"{len(result.missing)} missing",
        markup=False,
    )
    list_results("annotations", {video_id: "; ".join(told) for video_id, told in summary.warnings.items()})
    _report_damage(summary)
    for entry in result.missing:
        results.print(f"missing: {entry}", markup=False)


def report(result: ExtractResult) -> None:
    """Print the summary of a run, its failures and its substituted frames."""
    summary = result.summary
    rate = f", {summary.num_frames / summary.seconds:.0f} frames/s" if summary.num_frames else ""
    results.print(
        f"{result.store}: {len(summary.done)} videos extracted ({summary.num_snippets} snippets, "
        f"{summary.seconds:.0f} s{rate}), {len(summary.skipped)} skipped, {len(summary.updated)} with new annotations, "
        f"{len(summary.failed)} failed, "
        f"{len(result.missing)} missing",
        markup=False,
    )
    if summary.num_reused:
        results.print(f"unchanged patch cubes reused: {summary.num_reused}")
    _report_damage(summary)


def _report_damage(summary: Summary) -> None:
    substituted, truncated = summary.substituted.items(), summary.truncated.items()
    list_results("substituted", {video_id: f"{count} frames failed to decode" for video_id, count in substituted})
    list_results("truncated", {video_id: f"{count} declared frames are missing" for video_id, count in truncated})
    list_results("failed", summary.failed)


if __name__ == "__main__":
    main()
