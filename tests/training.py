"""Short training runs for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssrl.evaluate.scoring import make_frame_auc
from ssrl.model.recipes import RECIPES, find_recipe
from ssrl.store.reader import Store
from ssrl.train.log import StepRecord
from ssrl.train.stages import Trainer, TrainingWatcher
from tests.stores import D


class StoppingWatcher(TrainingWatcher):
    """Stops the run after a step of a stage."""

    def __init__(self, stop_at: tuple[int, int]) -> None:
        self.stop_at = stop_at

    def step_done(self, record: StepRecord) -> None:
        if (record.stage, record.step) == self.stop_at:
            raise KeyboardInterrupt


def trainer(store: Store, folder: Path, recipe: str = "paper", **changes: Any) -> Trainer:
    settings = {"scales": (1, 2), "steps": 10, "check_every": 4, "videos_per_half": 4, **changes}
    config = find_recipe(recipe).training(**settings)
    return Trainer(store, folder, config, RECIPES[recipe].model(D, config.scales), test_auc=make_frame_auc(store))
