"""Requests for the paper's tables."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssrl.hardware import Device
from ssrl.paper_tables.rows import Setting
from ssrl.workflows.train import TrainRequest

COMMAND = "python -m ssrl.commands.tables"
Paper = Literal["shanghaitech", "ucf-crime", "none"]


@dataclass(frozen=True)
class TablesRequest:
    """Which rows to train, how often, on which store, and where to write the page."""

    features: Path  # the store
    out: Path  # the folder of the runs
    recipe: str = TrainRequest.recipe
    seeds: tuple[int, ...] = (0, 1, 2)
    scales: tuple[int, ...] | None = None  # of the rows: 1 and others; None: the store's
    steps: int | None = None  # batches per stage; None: the recipe's
    device: Device = "auto"
    paper: Paper = "none"  # dataset of the paper's results to show beside ours
    page: Path | None = None  # None: tables.md in `out`
    jobs: int = 1  # processes that divide the runs

    def __str__(self) -> str:
        """The equivalent command, without --jobs, which does not change the page."""
        options = {
            "--features": self.features,
            "--out": self.out,
            "--page": self.page,
            "--recipe": self.recipe,
            "--seeds": _join(self.seeds),
            "--scales": None if self.scales is None else _join(self.scales),
            "--steps": self.steps,
            "--device": None if self.device == "auto" else self.device,
            "--paper": None if self.paper == "none" else self.paper,
        }
        arguments = [part for name, value in options.items() if value is not None for part in (name, str(value))]
        return f"{COMMAND} {shlex.join(arguments)}"

    @property
    def page_path(self) -> Path:
        return self.page or self.out / "tables.md"


@dataclass(frozen=True)
class Job:
    """One run with one seed."""

    run: Setting
    seed: int

    def __str__(self) -> str:
        return f"{self.run} seed {self.seed}"

    @property
    def name(self) -> str:
        return f"{self.run.folder_name}-seed{self.seed}"

    def to_train_request(self, request: TablesRequest) -> TrainRequest:
        """The request of an ordinary run; all its stages count, at their last step."""
        return TrainRequest(
            request.features,
            request.out / "runs" / self.name,
            request.recipe,
            self.run.scales,
            steps=request.steps,
            seed=self.seed,
            device=request.device,
            precision="float32",  # the same on all machines that share the rows
            **self.run.ablation,
        )


def _join(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
