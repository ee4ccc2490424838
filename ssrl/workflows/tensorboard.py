"""A training run as scalars for TensorBoard. Steps are counted over all stages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ssrl.checkpoints import StageResult
from ssrl.config import TrainConfig
from ssrl.errors import UserError
from ssrl.train.log import CheckRecord, StepRecord
from ssrl.train.stages import TrainingWatcher

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENTS = "tensorboard"  # the folder below that of the run


def check_tensorboard() -> None:
    """Raise a UserError if TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise UserError(
            "--tensorboard needs the package tensorboard, which is not installed: pip install 'ssrl[tensorboard]'"
        )


class TensorBoardWriter(TrainingWatcher):
    """Writes losses, learning rate, checks and the stages' results. When a run resumes, what it will do again is
    purged; nothing before is missing, since the events of a step are on disk before its state can be.
    """

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self._folder = folder / EVENTS
        self._config = config
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def stage_begins(self, stage: int, scales: tuple[int, ...], first_step: int, last_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(self._folder, purge_step=self._count_steps(stage, first_step) + 1)

    def step_done(self, record: StepRecord) -> None:
        step = self._count_steps(record.stage, record.step)
        for name, value in record.losses.items():
            self._write(f"loss/{name}", value, step)
        self._write("learning_rate", record.learning_rate, step)
        self._write("stage", record.stage, step)
        self._flush()

    def check_done(self, record: CheckRecord) -> None:
        self._write(f"auc/{record.metric}", record.value, self._count_steps(record.stage, record.step))
        self._flush()

    def stage_ends(self, result: StageResult) -> None:
        step = self._count_steps(result.stage, result.last_step)
        self._write("auc of the stage/test", result.last_test_auc, step)
        self._write("auc of the stage/held out", result.held_out_auc, step)
        self._write("auc of the stage/test, linear model", result.linear_test_auc, step)
        self._write("auc of the stage/held out, linear model", result.linear_held_out_auc, step)
        self._flush()

    def _write(self, tag: str, value: float | None, step: int) -> None:
        assert self._writer is not None
        if value is not None:
            self._writer.add_scalar(tag, value, step)

    def _flush(self) -> None:
        assert self._writer is not None
        self._writer.flush()

    def _count_steps(self, stage: int, step: int) -> int:
        return self._config.count_steps_before(stage) + step
