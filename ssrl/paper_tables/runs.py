"""The runs behind the paper's tables: which are finished, and training those that nobody else is at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

from filelock import FileLock, Timeout

from ssrl.errors import UserError
from ssrl.paper_tables.request import Job, TablesRequest
from ssrl.paper_tables.rows import Setting, auc_tables, check_scales, runs_for, settings_of
from ssrl.store.reader import Store
from ssrl.store.segments import open_segment_view
from ssrl.train.stages import Trainer, TrainingWatcher
from ssrl.workflows.train import open_trainer

Watcher = AbstractContextManager[TrainingWatcher, None]
Watch = Callable[[Job, int, int], Watcher]  # a run, its number, and how many there are


@dataclass(frozen=True)
class Runs:
    """All runs of one page. Each is an ordinary run folder of ssrl-train with a lock beside it."""

    store: Store
    request: TablesRequest

    @cached_property
    def jobs(self) -> list[Job]:
        assert self.request.scales is not None
        runs = runs_for(settings_of(auc_tables(self.request.scales)))
        return [Job(run, seed) for seed in self.request.seeds for run in runs]

    def trainer(self, job: Job) -> Trainer:
        return open_trainer(job.training(self.request), self.store)

    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs if self.trainer(job).find_finished() is None]

    def work(self, watch: Watch) -> None:
        """Train until every run is finished or in the hands of another process."""
        while any([self._attempt(job, number, watch) for number, job in enumerate(self.jobs, 1)]):
            pass

    def _attempt(self, job: Job, number: int, watch: Watch) -> bool:
        """Whether there was something to train, and it was ours."""
        trainer = self.trainer(job)
        if trainer.find_finished() is not None:
            return False
        trainer.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(trainer.folder.with_name(f"{job.name}.lock")).acquire(blocking=False)
        except Timeout:
            return False
        with lock:
            if trainer.find_finished() is not None:  # another finished it in this moment
                return False
            with watch(job, number, len(self.jobs)) as watcher:
                trainer.run(watcher, resume=True)
        return True

    def aucs(self, rows: Sequence[Setting]) -> dict[Setting, list[float]]:
        """The test AUC of every row at the last step of its stage, in 0..1, per seed. All runs must be finished."""
        return {row: [self._auc(row, seed) for seed in self.request.seeds] for row in rows}

    def _auc(self, row: Setting, seed: int) -> float:
        job = next(job for job in self.jobs if job.seed == seed and job.run.gives(row))
        finished = self.trainer(job).find_finished()
        assert finished is not None
        auc = next(stage.last_test_auc for stage in finished.stages if stage.scales == row.scales)
        if auc is None:
            raise UserError(
                f"the run {job} has no test AUC: the test videos' frames must be normal in part and anomalous in part"
            )
        return auc


def open_runs(request: TablesRequest) -> Runs:
    """The runs that give all rows; the training view, which all of them read, is built here where it is not there."""
    store = Store(request.features)
    scales = check_scales(request.scales or store.config.scales)
    store.check_scales(scales)
    runs = Runs(store, replace(request, scales=scales))
    trainer = runs.trainer(runs.jobs[0])
    if trainer.test_auc is None:
        raise UserError(f"the tables are of frame AUCs, but {_what_is_missing(store)}")
    open_segment_view(store, trainer.config.num_segments)
    return runs


def _what_is_missing(store: Store) -> str:
    """Why there is no frame AUC on a store, and what to do."""
    videos = store.records("test")
    bare = [record.id for record in videos if record.video.anomalies is None]
    if not videos:
        return f"{store.root} has no test videos; extract some, with test in their split column"
    if bare:
        return (
            f"{len(bare)} of the {len(videos)} test videos of {store.root} have no frame labels ({bare[0]} is one); "
            f"extract them with --frame-labels, or from a dataset that has them"
        )
    return f"no test video of {store.root} has an anomalous frame; extract some that have"
