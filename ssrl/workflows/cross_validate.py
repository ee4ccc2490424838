"""Patch-feature store → video-level AUC of recipes, on training videos held out in turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ssrl.errors import UserError
from ssrl.workflows.train import TrainRequest, open_trainer

if TYPE_CHECKING:
    from ssrl.store.reader import Store
    from ssrl.train.held_out import CrossValidation
    from ssrl.train.stages import TrainingWatcher

FOLDS = 5


def cross_validate(request: TrainRequest, watcher: TrainingWatcher | None = None) -> CrossValidation:
    """Train each recipe of the request K times, each time without one fold of the training videos, and score that fold.
    Test videos are not touched. The folds are the same for all recipes; finished ones are kept with `resume`.

    Raises a UserError if a kind of video has fewer than K.
    """
    from ssrl.store.reader import Store, find_store
    from ssrl.train.data import Fold
    from ssrl.train.held_out import CrossValidation
    from ssrl.train.stages import TrainingWatcher

    watcher = watcher or TrainingWatcher()
    store = Store(request.features or find_store(Path("features")))
    count = request.cv or choose_num_folds(store)
    aucs: dict[str, tuple[float, ...]] = {}
    for single in request.split():
        values = []
        for index in range(count):
            trainer = open_trainer(single, store, Fold(index, count))
            watcher.fold_begins(single.recipe, index, count)
            auc = (trainer.find_finished() or trainer.run(watcher, request.resume)).stages[-1].held_out_auc
            assert auc is not None
            values.append(auc)
        aucs[single.recipe] = tuple(values)
    return CrossValidation(aucs)


def choose_num_folds(store: Store) -> int:
    """Five, or as many as the smaller kind of training videos has. Raises a UserError if that is one."""
    labels = [record.video.label for record in store.records("train")]
    smaller = min(labels.count(0), labels.count(1))
    if smaller < 2:
        raise UserError(
            f"choosing a recipe needs two training videos of each kind, and there are {labels.count(1)} abnormal and "
            f"{labels.count(0)} normal ones; name one with --recipe"
        )
    return min(FOLDS, smaller)
