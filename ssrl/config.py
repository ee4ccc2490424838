"""Configurations of training and of feature stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from ssrl.errors import UserError
from ssrl.geometry import PAPER_SEGMENTS, Geometry

Selection = Literal["last", "val", "test"]
Stages = Literal["step", "joint"]
Optimizer = Literal["adam", "adamw"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["float32", "bfloat16"]
Dtype = Literal["float16", "float32"]
TrainSampling = Literal["dense", "segments"]
STORE_FORMAT = 2
CHANCE = 0.5  # an AUC
LINEAR = "linear"  # the recipe, and the member of a blend
FALSE_ALARM_RATES = (0.001, 0.01, 0.05)
ENOUGH_NORMAL = 20  # videos, for a threshold to hold elsewhere


@dataclass(frozen=True)
class LossConfig:
    """Weights and forms of the loss (Sect. 3.5). The defaults are the paper's."""

    margin: float = 100.0  # ε of eq. 8
    num_selected: int | None = 3  # k of eq. 7; None: T // 10
    magnitude_weight: float = 1e-4  # λ_fm
    sparsity_weight: float = 8e-3  # λ_1
    smoothness_weight: float = 8e-4  # λ_2
    classification: Literal["snippets", "mean score"] = "snippets"  # eq. 9, or BCE on the selected snippets' mean
    magnitude: Literal["hinge", "distance"] = "hinge"  # eq. 8, or the release's squared distances
    regularizers: Literal["per video", "flat batch"] = "per video"  # eq. 10, or over all scores of a batch as one
    top_segments: int = 8  # of a video, for the networks of a blend that are trained on the highest logits
    selection_dropout: float = 0.0  # the release selects by magnitudes under dropout of 0.7


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained (Sect. 4.2). The defaults are the `paper` recipe. Stage s adds the s-th scale."""

    recipe: str = "paper"
    scales: tuple[int, ...] = (1, 2, 3, 4)
    stages: Stages = "step"  # one scale at a time, or "joint": all at once
    steps: int = 150  # batches per stage
    videos_per_half: int = 32  # abnormal, and as many normal videos, per batch
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    optimizer: Optimizer = "adam"  # or "adamw", whose weight decay is decoupled
    schedule: Schedule = "constant"  # or "cosine": the learning rate falls to 0 over a stage
    later_share: float = 1.0  # of the steps, for the stages after the first
    average_from: float = 1.0  # fraction of a stage's steps after which weights are averaged; 1: the last weights
    num_segments: int = PAPER_SEGMENTS
    select: Selection = "last"
    val_fraction: float = 0.25  # of the training videos, held out for select="val"
    check_every: int = 25  # steps between evaluations of the selection metric; states are saved then, not too often
    seed: int = 0
    precision: Precision = "float32"  # of the products in PSR and MPA; a blend's networks are too small to gain
    freeze_previous: bool = False  # the branches of earlier stages stay as they are, and run once per stage
    accumulate: int = 1  # parts of a batch whose gradients are added up, for machines that hold fewer videos
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        check_choices(
            self, select=Selection, stages=Stages, optimizer=Optimizer, schedule=Schedule, precision=Precision
        )
        for name in ("steps", "videos_per_half", "num_segments", "check_every", "accumulate"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.learning_rate < float("inf"):
            raise UserError(f"the learning rate must be a number of at least 0, not {self.learning_rate}")
        if not 0 <= self.average_from <= 1:
            raise UserError(f"average_from must be between 0 and 1, not {self.average_from}")
        if not 0 < self.later_share <= 1:
            raise UserError(f"later_share must lie between 0 and 1, not at {self.later_share}")
        if not 0 < self.val_fraction < 1:
            raise UserError(f"val_fraction must be above 0 and below 1, not {self.val_fraction}")
        if self.freeze_previous and self.stages == "joint":
            raise UserError("joint training has no previous stage to freeze; use --stages step")

    @property
    def stage_scales(self) -> tuple[tuple[int, ...], ...]:
        """The scales of each stage: (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)."""
        if self.stages == "joint":
            return (self.scales,)
        return tuple(self.scales[:count] for count in range(1, len(self.scales) + 1))

    def frozen_scales(self, stage: int) -> tuple[int, ...]:
        """The scales whose branches stay as they are in a stage, counted from 1."""
        return self.stage_scales[stage - 2] if self.freeze_previous and stage > 1 else ()

    def for_stage(self, stage: int) -> TrainConfig:
        """The settings of a stage, counted from 1."""
        share = 1.0 if stage == 1 else self.later_share
        return replace(self, steps=max(1, round(share * self.steps)))

    def count_steps_before(self, stage: int) -> int:
        """The steps of all earlier stages."""
        return sum(self.for_stage(earlier).steps for earlier in range(1, stage))


@dataclass(frozen=True)
class Calibration:
    """From the logits of a blend to scores, and from scores to alarms; measured on training videos held out in turn."""

    weights: Mapping[str, float]  # of the linear model and of the networks of each loss
    slope: float
    offset: float
    thresholds: Mapping[float, float]  # share of a normal video's snippets that raise a false alarm → score
    num_normal: int  # videos that the thresholds were measured on

    @property
    def is_rough(self) -> bool:
        """Whether there are too few normal videos for a threshold to hold elsewhere."""
        return self.num_normal < ENOUGH_NORMAL


def check_false_alarms(share: float) -> None:
    """Raise a UserError for a share of false alarms that has no threshold."""
    if share not in FALSE_ALARM_RATES:
        allowed = ", ".join(f"{rate:g}" for rate in FALSE_ALARM_RATES)
        raise UserError(f"there is no threshold for a share of {share:g} false alarms; choose from {allowed}")


@dataclass(frozen=True)
class StoreConfig:
    """How all features of a store were made. Two stores are compatible only if all of it is equal."""

    dataset: str
    encoder: str
    weights: str  # "kinetics400", "embedded", "random:0" or a file name
    weights_sha256: str
    feature_dim: int  # D
    geometry: Geometry = Geometry()
    scales: tuple[int, ...] = (1, 2, 3, 4)
    num_crops: int = 1  # C of scale 1; 10 for released features
    normalisation: str = "(x / 255 - 0.45) / 0.225"
    precision: str = "float32"  # of the encoder
    dtype: Dtype = "float16"  # on disk
    train_sampling: TrainSampling = "dense"  # segments: one snippet from each of 32 segments of long training videos
    reuse_static: bool = False  # whether unchanged patch cubes took the features of earlier ones
    format_version: int = STORE_FORMAT

    def __post_init__(self) -> None:
        check_choices(self, dtype=Dtype, train_sampling=TrainSampling)
        for scale in self.scales:
            self.geometry.grid(scale)

    def shape(self, scale: int, num_snippets: int) -> tuple[int, int, int]:
        """(T, N_r, D), or (T, C, D) at scale 1."""
        num_patches = self.num_crops if scale == 1 else self.geometry.grid(scale).num_patches
        return num_snippets, num_patches, self.feature_dim

    @property
    def grids(self) -> dict[int, tuple[int, int]]:
        """Rows and columns of each scale's patch grid."""
        return {grid.scale: (grid.rows, grid.cols) for grid in self.geometry.grids}

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that determines the features, except which scales there are."""
        from ssrl.plain import to_plain

        value = {name: value for name, value in to_plain(self).items() if name != "scales"}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    def with_scales(self, scales: tuple[int, ...]) -> StoreConfig:
        return replace(self, scales=scales)


def check_choices(config: object, **choices: object) -> None:
    """Raise a UserError if a field is not one of the values of its Literal type."""
    for name, literal in choices.items():
        value, allowed = getattr(config, name), get_args(literal)
        if value not in allowed:
            raise UserError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
