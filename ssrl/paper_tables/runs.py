"""The runs behind the paper's tables: which are finished, and training those that nobody else is at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ssrl.errors import UserError
from ssrl.paper_tables.rows import VARIANTS, Setting

if TYPE_CHECKING:
    import torch

    from ssrl.model.network import SSRL, ModelConfig
    from ssrl.store.layout import StoreConfig
    from ssrl.store.reader import Store
    from ssrl.train.stages import Trainer, Watcher


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


Watch = Callable[[Job, int, int], "AbstractContextManager[Watcher]"]  # a run, its number, the number of all runs


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

    def work(self, watch: Watch) -> None:
        """Train until every run is finished or in the hands of another process."""
        while any([self._attempt(job, number, watch) for number, job in enumerate(self.jobs, 1)]):
            pass

    def _attempt(self, job: Job, number: int, watch: Watch) -> bool:
        """Whether there was something to train, and it was ours."""
        trainer = self.trainer(job)
        if trainer.finished() is not None:
            return False
        folder = self.folder / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(folder / f"{job.name}.lock").acquire(blocking=False)
        except Timeout:
            return False
        with lock:
            if trainer.finished() is not None:  # another finished it in this moment
                return False
            with watch(job, number, len(self.jobs)) as watcher:
                trainer.run(watcher, resume=True)
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


def model_of(setting: Setting, recipe: str, config: StoreConfig) -> ModelConfig:
    """The recipe's network for the features of a store, without what the setting takes away."""
    from ssrl.model.recipes import MODELS, ablated

    grids = {grid.scale: (grid.rows, grid.cols) for grid in config.geometry.grids}
    return ablated(MODELS[recipe](config.feature_dim, setting.scales, grids), **VARIANTS[setting.variant])
