"""ssrl-score: new videos + checkpoint → scores, heatmaps, a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ssrl.commands.options import HELP, make_request, option
from ssrl.console import EXIT_FAILED, handle_errors, results, warn
from ssrl.workflows.score import FOREIGN_ADVICE, ScoreRequest, score_videos

PATH = click.Path(path_type=Path)


class FileCommand(click.Command):
    """Takes an existing file for a file, even if a wildcard gives its name as -night.mp4."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"./{arg}" if arg[:1] == "-" and Path(arg).exists() else arg for arg in args])


@click.command(cls=FileCommand, context_settings=HELP)
@click.argument("videos", nargs=-1, required=True, type=PATH)
@option(ScoreRequest, "checkpoint", "--ckpt", type=PATH, help="Checkpoint from ssrl-train.")
@option(ScoreRequest, "out", type=PATH, help="Folder for scores and heatmaps.")
@option(ScoreRequest, "weights", help="The encoder's weights file.  [default: the checkpoint's weights]")
@option(ScoreRequest, "device", help="Device to run the encoder and the network on.")
@option(ScoreRequest, "false_alarms", help="Share of normal snippets that may raise an alarm: 0.001, 0.01 or 0.05.")
@option(ScoreRequest, "where", help="Heatmaps of the contribution to the score, or of PSR's attention (Fig. 6).")
@option(ScoreRequest, "pictures", "--pictures/--no-pictures", show_default=True, help="Draw heatmaps over frames.")
@option(
    ScoreRequest, "overlay", "--overlay/--no-overlay", show_default=True, help="Make videos with heat and score (MP4)."
)
@option(ScoreRequest, "clips", "--clips/--no-clips", show_default=True, help="Cut each event out of its video.")
@option(ScoreRequest, "zones", type=PATH, help="JSON of parts of the frame to watch or to ignore.")
@handle_errors
def main(**options: Any) -> None:
    """Score unlabeled videos: files, folders of frames, or folders of videos.

    Example: ssrl-score gate.mp4 recordings/ --ckpt best.pt --out scores
    """
    from ssrl.commands.progress import ExtractionProgress

    request = make_request(ScoreRequest, **options)
    with ExtractionProgress() as progress:
        result = score_videos(request, progress)
    for video in sorted(result.videos, key=lambda video: -video.highest_score):
        unlike = f"  unlike the training videos ({video.distance:.1f} times their distance)" if video.is_foreign else ""
        results.print(f"{video.highest_score:.3f}  {video.id}{unlike}", markup=False)
    foreign = sum(video.is_foreign for video in result.videos)
    if 2 * foreign > len(result.videos):  # of videos like the training videos, about one in ten is outside too
        warn(
            f"{foreign} of {len(result.videos)} videos are unlike the videos that this checkpoint was trained on, so "
            f"their scores mean little; {FOREIGN_ADVICE}"
        )
    if result.page is not None:
        results.print(f"scores, heatmaps and page: {result.page}", markup=False)
    for video_id, reason in result.failed.items():
        results.print(f"failed: {video_id}: {reason}", markup=False)
    if result.failed:
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
