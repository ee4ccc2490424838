"""Progress of the workflows: a bar on a terminal, lines elsewhere.

Imports PyTorch, so commands import this module only when they run.
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.table import Table

from ssrl.checkpoints import StageResult
from ssrl.console import ProgressBar, as_percent, note, notes, warn
from ssrl.datasets import describe_missing
from ssrl.datasets.video import Dataset
from ssrl.evaluate.protocol import VideoScores
from ssrl.extract.pipeline import ExtractionWatcher
from ssrl.store.layout import StoredVideo
from ssrl.train.held_out import CrossValidation
from ssrl.train.log import CheckRecord, StepRecord
from ssrl.train.stages import TrainingWatcher
from ssrl.workflows.evaluate import EvaluationWatcher

LINE_SECONDS = 30.0  # between two lines about the steps of training


class ExtractionProgress(ProgressBar, ExtractionWatcher):
    """Finished videos, with warnings about damaged ones."""

    def run_begins(self, found: Dataset, runtime: str, num_videos: int) -> None:
        note(str(found))
        if found.missing:
            warn(describe_missing(found))
        note(f"encoder: {runtime}")
        self.begin("extracting", num_videos)
        self._num_videos, self._num_finished, self._num_snippets = num_videos, 0, 0
        self._began = time.monotonic()

    def videos_left_out(self, video_ids: list[str], store: Path) -> None:
        warn(describe_unnamed(video_ids, store))

    def video_skipped(self, video_id: str) -> None:
        self._num_finished += 1
        self.advance()

    def video_updated(self, video_id: str, changes: tuple[str, ...]) -> None:
        self._finish(f"{video_id}: annotations updated")
        note(f"{video_id}: {'; '.join(changes)}")

    def video_outdated(self, video_id: str, changes: tuple[str, ...]) -> None:
        note(f"{video_id}: to be extracted again, since {'; '.join(changes)}")

    def times_added(self, video_id: str) -> None:
        note(f"{video_id}: times of its frames added")

    def video_warned(self, video_id: str, problem: str) -> None:
        warn(f"{video_id}: {problem}")

    def snippet_done(self, video_id: str, num_snippets: int) -> None:
        self._num_snippets += 1
        rate = self._num_snippets / (time.monotonic() - self._began)
        self.show_status(f"{rate:.1f} snippets/s, {video_id}: {num_snippets}")

    def video_done(self, record: StoredVideo, seconds: float) -> None:
        self._finish(f"{record.id}: {record.num_frames} frames in {seconds:.1f} s")
        if record.substituted_frames:
            warn(f"{record.id}: {record.substituted_frames} frames failed to decode and repeat a neighbor")
        if record.missing_frames:
            warn(f"{record.id}: truncated, {record.missing_frames} declared frames are missing")

    def video_failed(self, video_id: str, reason: str) -> None:
        self._finish(f"{video_id}: failed")
        warn(f"{video_id}: {reason}")

    def _finish(self, line: str) -> None:
        self._num_finished += 1
        self.advance()
        if not notes.is_terminal:
            note(f"[{self._num_finished}/{self._num_videos}] {line}")


class TrainingProgress(ProgressBar, TrainingWatcher):
    """A bar per stage, or a line now and then, and a line at its end."""

    def __init__(self) -> None:
        super().__init__(unit="steps", long_status=True)

    def fold_begins(self, recipe: str, index: int, count: int) -> None:
        note(f"{recipe}, fold {index + 1} of {count}")

    def recipe_chosen(self, result: CrossValidation) -> None:
        notes.print(format_comparison(result))

    def video_pooled(self, done: int, count: int) -> None:
        if done == 1:
            self.begin("pooling into segments", count, unit="videos")
            if not notes.is_terminal:
                note(f"pooling the features of {count} videos into segments")
        self.advance()

    def linear_fitted(self, test_auc: float | None, held_out_auc: float | None) -> None:
        note(f"linear model: {describe_aucs(held_out_auc, test_auc)}")

    def stage_begins(self, stage: int, scales: tuple[int, ...], first_step: int, last_step: int) -> None:
        title = f"stage {stage}, scales {','.join(map(str, scales))}"
        self.begin(title, last_step, first_step)
        self._first_step, self._last_step, self._metric = first_step, last_step, ""
        self._began = self._noted = time.monotonic()
        if not notes.is_terminal:
            note(f"{title}: {last_step - first_step} steps")

    def step_done(self, record: StepRecord) -> None:
        status = f"{self._metric}{describe_losses(record)}"
        self.advance(status)
        now = time.monotonic()
        if not notes.is_terminal and now - self._noted >= LINE_SECONDS:
            self._noted = now
            left = (now - self._began) / (record.step - self._first_step) * (self._last_step - record.step)
            note(f"stage {record.stage}, step {record.step} of {self._last_step}: {status}, {left:.0f} s left")

    def check_done(self, record: CheckRecord) -> None:
        self._metric = f"{record.metric} AUC {as_percent(record.value)}, "

    def stage_ends(self, result: StageResult) -> None:
        aucs = describe_aucs(result.held_out_auc, result.last_test_auc)
        note(f"stage {result.stage} ended after {result.seconds:.0f} s: {aucs}")


def describe_unnamed(video_ids: list[str], store: Path) -> str:
    return (
        f"stored videos that no table names any more: {len(video_ids)}, e.g. {video_ids[0]}; training and evaluation "
        f"leave them out, ssrl-store prune {store} deletes them"
    )


def describe_losses(record: StepRecord) -> str:
    """ "loss 2.22 (classification 2.08, magnitude 0.0098)"; the total alone if that is one term."""
    terms = {name: f"{value:.3g}" for name, value in record.losses.items()}
    total = f"loss {terms.pop('total')}"
    return f"{total} ({', '.join(f'{name} {value}' for name, value in terms.items())})" if len(terms) > 1 else total


def describe_aucs(held_out: float | None, test: float | None) -> str:
    """Of videos held out from training, at video level, and of the test videos' frames."""
    return f"held-out video AUC {as_percent(held_out)}, test AUC {as_percent(test)}"


def format_comparison(result: CrossValidation) -> Table:
    """A row per recipe, the best first."""
    table = Table("recipe", "mean", "deviation", "folds", title="video-level AUC on held-out training videos")
    for recipe in sorted(result.aucs, key=result.mean, reverse=True):
        folds = ", ".join(as_percent(auc) for auc in result.aucs[recipe])
        table.add_row(recipe, as_percent(result.mean(recipe)), as_percent(result.spread(recipe)), folds)
    return table


class ScoringProgress(ProgressBar, EvaluationWatcher):
    """Scored videos."""

    def scoring_begins(self, num_videos: int) -> None:
        self.begin("scoring", num_videos)

    def video_scored(self, video: VideoScores) -> None:
        self.advance(video.id)

    def localization_begins(self, num_videos: int) -> None:
        self.begin("comparing heatmaps with pixel masks", num_videos)

    def video_localized(self, video_id: str) -> None:
        self.advance(video_id)

    def masks_left_out(self, video_id: str, reason: str) -> None:
        warn(f"{video_id}: its pixel masks are left out: {reason}")
