"""The log of a run, log.jsonl: one JSON object per line, in the order of events.

    {"kind": "step", "stage": 1, "step": 1, "seconds": 0.21, "learning_rate": 0.001,
     "losses": {"classification": 2.08, "magnitude": 0.0098, "sparsity": 0.13, "smoothness": 0.0002, "total": 2.22}}
    {"kind": "check", "stage": 1, "step": 25, "metric": "val", "value": 0.91}
    {"kind": "stage", "stage": 1, "scales": [1], ...}

Steps count from 1 in each stage. A check measures the metric that selects a step; with `--select last` there is none.
The last kind has the fields of `StageResult`. What is not defined is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ssrl.checkpoints import StageResult
from ssrl.errors import UserError
from ssrl.files import replacing
from ssrl.plain import from_plain, to_plain

LOG = "log.jsonl"


@dataclass(frozen=True)
class StepRecord:
    """One step of training."""

    stage: int
    step: int  # of the stage, from 1
    seconds: float
    learning_rate: float | None  # None where nothing is trained in steps, as in a linear model
    losses: Mapping[str, float]  # the terms, weighted, and their "total"; of a blend, summed over its networks


@dataclass(frozen=True)
class CheckRecord:
    """The selection metric after a step."""

    stage: int
    step: int
    metric: str  # "val" or "test"
    value: float | None


Record = StepRecord | CheckRecord | StageResult
KINDS: dict[str, type[Record]] = {"step": StepRecord, "check": CheckRecord, "stage": StageResult}
NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True)
class Log:
    """The log in a run's folder."""

    path: Path

    def append(self, record: Record) -> None:
        line = json.dumps({"kind": NAMES[type(record)], **to_plain(record)}, allow_nan=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def read(self) -> Iterator[Record]:
        """Lines that hold no record are left out, such as the half line that a killed process leaves."""
        return (record for _, record in self._read_lines())

    def cut_back(self, stage: int, step: int) -> None:
        """Keep what precedes a state, the end of a step of a stage: a resumed run does the rest anew."""
        if not self.path.exists():
            return
        with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line, record in self._read_lines() if _precedes(record, stage, step))

    def _read_lines(self) -> Iterator[tuple[str, Record]]:
        with self.path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                record = _parse(line, self.path)
                if record is not None:
                    yield line.rstrip("\n"), record


def _parse(line: str, path: Path) -> Record | None:
    try:
        entry = json.loads(line)
        return from_plain(KINDS[entry.pop("kind")], entry, path)
    except (ValueError, KeyError, TypeError, AttributeError, UserError):
        return None


def _precedes(record: Record, stage: int, step: int) -> bool:
    if isinstance(record, StageResult):
        return record.stage < stage
    return (record.stage, record.step) <= (stage, step)
