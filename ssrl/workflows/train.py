"""Patch-feature store → checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssrl.config import Selection, Stages, TrainConfig
from ssrl.hardware import Device
from ssrl.model.config import AnyModelConfig
from ssrl.model.recipes import Grids, ablate, find_recipe, set_members

if TYPE_CHECKING:
    from ssrl.store.reader import Store
    from ssrl.train.stages import Run, Trainer, TrainingWatcher


@dataclass(frozen=True)
class TrainRequest:
    """What to train on what. `steps` and `learning_rate` default to the recipe's."""

    features: Path | None = None  # the store; None: the one below features/
    out: Path | None = None  # the run's folder; None: runs/STORE-seedN
    recipe: str = "blend"
    scales: tuple[int, ...] = TrainConfig.scales  # in order of introduction
    stages: Stages = TrainConfig.stages
    steps: int | None = None  # batches per stage
    learning_rate: float | None = None
    members: int | None = None  # networks of each kind in a blend; None: the recipe's
    seed: int = TrainConfig.seed  # of initialization, batches and dropout
    select: Selection = TrainConfig.select  # step: the last, or the one with the best val or test AUC
    share_psr: bool = False  # ablations: see `ssrl.model.recipes.ablate`
    no_psr: bool = False
    no_dilated: bool = False
    no_non_local: bool = False
    device: Device = "auto"
    resume: bool = False  # the run in `out`

    def __post_init__(self) -> None:
        self.config()  # runs its checks
        self.model(8, dict.fromkeys(self.scales, (3, 3)))

    def config(self) -> TrainConfig:
        options = {"steps": self.steps, "learning_rate": self.learning_rate}
        changes = {name: value for name, value in options.items() if value is not None}
        training = find_recipe(self.recipe).training
        return training(scales=self.scales, stages=self.stages, seed=self.seed, select=self.select, **changes)

    def model(self, feature_dim: int, grids: Grids) -> AnyModelConfig:
        model = find_recipe(self.recipe).model(feature_dim, self.scales, grids)
        if self.members is not None:
            model = set_members(model, self.members)
        return ablate(
            model,
            share_psr=self.share_psr,
            no_psr=self.no_psr,
            no_dilated=self.no_dilated,
            no_non_local=self.no_non_local,
        )


def train_model(request: TrainRequest, watcher: TrainingWatcher | None = None) -> Run:
    """Train stage by stage, testing each stage if the test videos have frame labels.

    Raises a UserError if the store lacks a scale, or normal or abnormal videos, or if the folder holds another run.
    """
    from ssrl.store.reader import Store, find_store
    from ssrl.train.stages import TrainingWatcher

    store = Store(request.features or find_store(Path("features")))
    return open_trainer(request, store).run(watcher or TrainingWatcher(), request.resume)


def open_trainer(request: TrainRequest, store: Store) -> Trainer:
    """Set up the trainer of a run."""
    from ssrl.evaluate.scoring import make_frame_auc
    from ssrl.hardware import choose_device
    from ssrl.train.stages import Trainer

    folder = request.out or Path("runs") / f"{store.root.name}-seed{request.seed}"
    model = request.model(store.config.feature_dim, store.config.grids)
    return Trainer(store, folder, request.config(), model, choose_device(request.device), make_frame_auc(store))
