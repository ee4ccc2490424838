"""Several watchers of one training run."""

from __future__ import annotations

from ssrl.checkpoints import StageResult
from ssrl.train.held_out import CrossValidation
from ssrl.train.log import CheckRecord, StepRecord
from ssrl.train.stages import TrainingWatcher


class Watchers(TrainingWatcher):
    """Tells each watcher in turn."""

    def __init__(self, *watchers: TrainingWatcher) -> None:
        self._watchers = watchers

    def fold_begins(self, recipe: str, index: int, count: int) -> None:
        for watcher in self._watchers:
            watcher.fold_begins(recipe, index, count)

    def recipe_chosen(self, result: CrossValidation) -> None:
        for watcher in self._watchers:
            watcher.recipe_chosen(result)

    def video_pooled(self, done: int, count: int) -> None:
        for watcher in self._watchers:
            watcher.video_pooled(done, count)

    def linear_fitted(self, test_auc: float | None, held_out_auc: float | None) -> None:
        for watcher in self._watchers:
            watcher.linear_fitted(test_auc, held_out_auc)

    def stage_begins(self, stage: int, scales: tuple[int, ...], first_step: int, last_step: int) -> None:
        for watcher in self._watchers:
            watcher.stage_begins(stage, scales, first_step, last_step)

    def step_done(self, record: StepRecord) -> None:
        for watcher in self._watchers:
            watcher.step_done(record)

    def check_done(self, record: CheckRecord) -> None:
        for watcher in self._watchers:
            watcher.check_done(record)

    def stage_ends(self, result: StageResult) -> None:
        for watcher in self._watchers:
            watcher.stage_ends(result)
