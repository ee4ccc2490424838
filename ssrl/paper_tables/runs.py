"""The runs behind the paper's tables, trained by one or more processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

from filelock import FileLock, Timeout

from ssrl.errors import UserError
from ssrl.paper_tables.request import Job, TablesRequest
from ssrl.paper_tables.rows import Setting, check_scales, list_settings, make_tables, plan_runs
from ssrl.store.reader import Store
from ssrl.store.segments import open_segment_view
from ssrl.train.stages import Trainer, TrainingWatcher
from ssrl.workflows.train import open_trainer

Watcher = AbstractContextManager[TrainingWatcher, None]
Watch = Callable[[Job, int, int], Watcher]  # (job, its number, number of jobs)


@dataclass(frozen=True)
class Runs:
    """All runs of one page. Each is an ordinary run folder of ssrl-train with a lock file beside it."""

    store: Store
    request: TablesRequest

    @cached_property
    def jobs(self) -> list[Job]:
        assert self.request.scales is not None
        runs = plan_runs(list_settings(make_tables(self.request.scales)))
        return [Job(run, seed) for seed in self.request.seeds for run in runs]

    def open_trainer(self, job: Job) -> Trainer:
        return open_trainer(job.to_train_request(self.request), self.store)

    def list_unfinished(self) -> list[Job]:
        return [job for job in self.jobs if self.open_trainer(job).find_finished() is None]

    def work(self, watch: Watch) -> None:
        """Train until every run is finished or locked by another process."""
        while any([self._try_job(job, number, watch) for number, job in enumerate(self.jobs, 1)]):
            pass

    def _try_job(self, job: Job, number: int, watch: Watch) -> bool:
        """Train one job unless it is finished or locked; tells whether it did."""
        trainer = self.open_trainer(job)
        if trainer.find_finished() is not None:
            return False
        trainer.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(trainer.folder.with_name(f"{job.name}.lock")).acquire(blocking=False)
        except Timeout:
            return False
        with lock:
            if trainer.find_finished() is not None:  # another process has just finished it
                return False
            with watch(job, number, len(self.jobs)) as watcher:
                trainer.run(watcher, resume=True)
        return True

    def collect_aucs(self, rows: Sequence[Setting]) -> dict[Setting, list[float]]:
        """Collect each row's test AUC (0..1) per seed, at the last step of its stage. All runs must be finished."""
        return {row: [self._find_auc(row, seed) for seed in self.request.seeds] for row in rows}

    def _find_auc(self, row: Setting, seed: int) -> float:
        job = next(job for job in self.jobs if job.seed == seed and job.run.covers(row))
        finished = self.open_trainer(job).find_finished()
        assert finished is not None
        auc = next(stage.last_test_auc for stage in finished.stages if stage.scales == row.scales)
        if auc is None:
            raise UserError(
                f"the run {job} has no test AUC: the test videos must have both normal and anomalous frames"
            )
        return auc


def open_runs(request: TablesRequest) -> Runs:
    """Plan the runs that cover all rows, and build the training view that they share."""
    store = Store(request.features)
    scales = check_scales(request.scales or store.config.scales)
    store.check_scales(scales)
    runs = Runs(store, replace(request, scales=scales))
    trainer = runs.open_trainer(runs.jobs[0])
    if trainer.test_auc is None:
        raise UserError(f"the tables need frame AUCs, but {_explain_missing_auc(store)}")
    open_segment_view(store, trainer.config.num_segments)
    return runs


def _explain_missing_auc(store: Store) -> str:
    """Explain why a store has no frame AUC, and what to do."""
    videos = store.records("test")
    unlabeled = [record.id for record in videos if record.video.anomalies is None]
    if not videos:
        return f"{store.root} has no test videos; extract some"
    if unlabeled:
        return (
            f"{len(unlabeled)} of the {len(videos)} test videos of {store.root} have no frame labels, "
            f"e.g. {unlabeled[0]}; extract them with --frame-labels, or from a dataset with frame labels"
        )
    return f"no test videos of {store.root} have anomalous frames; extract some that do"
