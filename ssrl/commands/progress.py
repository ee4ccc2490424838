"""What a user sees of an extraction: progress while it goes on, and a summary at its end."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ssrl.console import EXIT_FAILED, note, notes, progress_bar, results, warn

if TYPE_CHECKING:
    from ssrl.extract.pipeline import Summary
    from ssrl.store.layout import VideoRecord


class ExtractionProgress:
    """A bar on a terminal; a line a video elsewhere.

    With the cost of a snippet and the machine's peak (FLOP/s), it tells what share of the peak is reached.
    """

    def __init__(
        self,
        num_videos: int,
        frames_per_snippet: int,
        flops_per_snippet: float = 0.0,
        peak_flops: float = 0.0,
        name: str = "",
    ) -> None:
        self.num_videos = num_videos
        self._frames = frames_per_snippet
        self.num_finished = 0
        self._per_snippet = flops_per_snippet / peak_flops if peak_flops else 0.0
        self._name = f"{name}: " if name else ""
        self._snippets = 0

    def __enter__(self) -> ExtractionProgress:
        self._bar = progress_bar("videos")
        self._bar.start()
        self._task = self._bar.add_task("extracting", total=self.num_videos, news="")
        self._began = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def video_kept(self, video_id: str) -> None:
        self.num_finished += 1
        self._bar.advance(self._task)

    def snippet_done(self, video_id: str, num_snippets: int) -> None:
        self._snippets += 1
        rate = self._snippets / (time.monotonic() - self._began)
        speed = f"{self._frames * rate:.0f} frames/s{self._share(rate)}"
        self._bar.update(self._task, news=f"{speed}, {video_id}: {num_snippets}")

    def video_done(self, record: VideoRecord, seconds: float) -> None:
        self._advance(f"{record.id}: {record.num_frames} frames in {seconds:.1f} s")
        if record.substituted_frames:
            warn(f"{record.id}: {record.substituted_frames} frames did not decode and repeat their neighbour")
        if record.missing_frames:
            warn(f"{record.id}: {record.missing_frames} of the frames that the file declares did not come")

    def video_failed(self, video_id: str, reason: str) -> None:
        self._advance(f"{video_id}: failed")
        warn(f"{video_id}: {reason}")

    def _share(self, snippets_per_second: float) -> str:
        return f", {self._per_snippet * snippets_per_second:.0%} of peak" if self._per_snippet else ""

    def _advance(self, line: str) -> None:
        self.num_finished += 1
        self._bar.advance(self._task)
        if not notes.is_terminal:
            note(f"{self._name}[{self.num_finished}/{self.num_videos}] {line}")

    def peak_share(self, summary: Summary) -> str:
        """Of a whole run, for its summary."""
        return self._share(summary.num_snippets / summary.seconds) if summary.num_snippets else ""


def report(summary: Summary, root: Path, num_missing: int, peak_share: str) -> None:
    """The summary of a run, every failure and every substituted frame. Exits with 1 where something is not there."""
    rate = f", {summary.num_frames / summary.seconds:.0f} frames/s{peak_share}" if summary.num_frames else ""
    results.print(
        f"{root}: {len(summary.done)} videos extracted ({summary.num_snippets} snippets, "
        f"{summary.seconds:.0f} s{rate}), {len(summary.kept)} kept, {len(summary.failed)} failed, "
        f"{num_missing} missing",
        markup=False,
    )
    if summary.num_reused:
        results.print(f"patch cubes that had not changed and were not encoded: {summary.num_reused}")
    for video_id, count in summary.substituted.items():
        results.print(f"substituted: {video_id}: {count} frames that did not decode", markup=False)
    for video_id, count in summary.cut_off.items():
        results.print(f"cut off: {video_id}: {count} frames that the file declares did not come", markup=False)
    for video_id, reason in summary.failed.items():
        results.print(f"failed: {video_id}: {reason}", markup=False)
    if summary.failed or num_missing:
        sys.exit(EXIT_FAILED)
