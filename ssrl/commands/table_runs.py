"""The runs behind the paper's tables: which are finished, and training those that nobody else is at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssrl.claims import Claim, ClaimLost, claim
from ssrl.commands.train import TrainingProgress
from ssrl.console import note, warn
from ssrl.errors import UserError
from ssrl.tables.rows import VARIANTS, Setting

if TYPE_CHECKING:
    import torch

    from ssrl.network import SSRL, ModelConfig
    from ssrl.store.layout import StoreConfig
    from ssrl.store.reader import Store
    from ssrl.train.losses import Losses
    from ssrl.train.stages import Trainer


@dataclass(frozen=True)
class Job:
    """One run at one seed."""

    run: Setting
    seed: int

    def __str__(self) -> str:
        return f"{self.run} seed {self.seed}"

    @property
    def name(self) -> str:
        return f"{self.run.folder_name}-seed{self.seed}"


@dataclass(frozen=True)
class Runs:
    """All runs of one page, below one folder. Each is an ordinary run folder of ssrl-train with a lock beside it."""

    store: Store
    folder: Path
    runs: Sequence[Setting]
    seeds: Sequence[int]
    recipe: str
    steps: int | None  # of a stage; None: the recipe's
    device: torch.device
    test_auc: Callable[[SSRL], float | None]

    @property
    def jobs(self) -> list[Job]:
        return [Job(run, seed) for seed in self.seeds for run in self.runs]

    def trainer(self, job: Job) -> Trainer:
        from ssrl.train.config import training_config
        from ssrl.train.stages import Trainer

        steps = {} if self.steps is None else {"steps": self.steps}
        config = training_config(self.recipe, scales=job.run.scales, seed=job.seed, select="last", **steps)
        model = model_of(job.run, self.recipe, self.store.config)
        return Trainer(self.store, self.folder / "runs" / job.name, config, model, self.device, self.test_auc)

    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs if self.trainer(job).finished() is None]

    def work(self) -> None:
        """Train until every run is finished or in the hands of another process."""
        while any([self._attempt(number, job) for number, job in enumerate(self.jobs, 1)]):
            pass

    def _attempt(self, number: int, job: Job) -> bool:
        """Whether there was something to train, and it was ours."""
        trainer = self.trainer(job)
        if trainer.finished() is not None:
            return False
        with claim(self.folder / "runs" / f"{job.name}.lock") as held:
            if held is None or trainer.finished() is not None:  # another finished it in this moment
                return False
            note(f"run {number} of {len(self.jobs)}: {job}")
            try:
                with ClaimedProgress(len(trainer.config.stage_scales), held) as progress:
                    trainer.run(progress, resume=True)
            except ClaimLost as lost:
                warn(f"{lost}; it is left to that one")
        return True

    def aucs(self, rows: Sequence[Setting]) -> dict[Setting, list[float]]:
        """The test AUC of every row at the last step of its stage, in 0..1, one a seed. All runs must be finished."""
        return {row: [self._auc(row, seed) for seed in self.seeds] for row in rows}

    def _auc(self, row: Setting, seed: int) -> float:
        job = Job(next(run for run in self.runs if run.gives(row)), seed)
        finished = self.trainer(job).finished()
        assert finished is not None
        auc = next(stage.last_test_auc for stage in finished.stages if stage.scales == row.scales)
        if auc is None:
            raise UserError(
                f"the run {job} has no test AUC: the test videos' frames must be normal in part and anomalous in part"
            )
        return auc


class ClaimedProgress(TrainingProgress):
    """The progress of a run that is trained only for as long as its lock is ours."""

    def __init__(self, num_stages: int, held: Claim) -> None:
        super().__init__(num_stages)
        self._held = held

    def step_done(self, step: int, losses: Losses) -> None:
        self._held.check()
        super().step_done(step, losses)


def model_of(setting: Setting, recipe: str, config: StoreConfig) -> ModelConfig:
    """The recipe's network for the features of a store, without what the setting takes away."""
    from ssrl.recipes import MODELS, ablated

    grids = {grid.scale: (grid.rows, grid.cols) for grid in config.geometry.grids}
    return ablated(MODELS[recipe](config.feature_dim, setting.scales, grids), **VARIANTS[setting.variant])
