"""How a network is trained: one dataclass, and the recipes as functions that return it (Sect. 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from ssrl.errors import UserError
from ssrl.geometry import PAPER_SEGMENTS
from ssrl.train.losses import LossConfig

Selection = Literal["last", "val", "test"]
Stages = Literal["step", "joint"]


@dataclass(frozen=True)
class TrainConfig:
    """The defaults are the `paper` recipe. A stage is `steps` batches; stage s adds the s-th scale."""

    recipe: str = "paper"
    scales: tuple[int, ...] = (1, 2, 3, 4)
    stages: Stages = "step"  # one scale at a time, or "joint": all at once
    steps: int = 150
    videos_per_half: int = 32  # a batch is so many abnormal and as many normal videos
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    average_from: float = 1.0  # share of a stage's steps after which its weights are averaged; 1: the last ones count
    num_segments: int = PAPER_SEGMENTS
    select: Selection = "last"
    val_fraction: float = 0.25  # of the training videos, held out by `select val`
    check_every: int = 25  # steps between two looks at the selection metric, and between two saved states
    seed: int = 0
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        for name, allowed in (("select", get_args(Selection)), ("stages", get_args(Stages))):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}")
        for name in ("steps", "videos_per_half", "num_segments", "check_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.average_from <= 1:
            raise UserError(f"average_from must lie between 0 and 1, not at {self.average_from}")
        if not 0 < self.val_fraction < 1:
            raise UserError(f"val_fraction must lie between 0 and 1, not at {self.val_fraction}")

    @property
    def stage_scales(self) -> tuple[tuple[int, ...], ...]:
        """The scales of each stage: (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)."""
        if self.stages == "joint":
            return (self.scales,)
        return tuple(self.scales[:count] for count in range(1, len(self.scales) + 1))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrainConfig:
        unknown = sorted(set(value) - {field.name for field in fields(cls)})
        if unknown:
            raise UserError(f"unknown training settings: {', '.join(unknown)}")
        return cls(**{**value, "scales": tuple(value["scales"]), "loss": LossConfig(**value["loss"])})


def paper_training(**changes: Any) -> TrainConfig:
    """Sect. 4.2."""
    return TrainConfig(recipe="paper", **changes)


def released_training(**changes: Any) -> TrainConfig:
    """The authors' release where it differs from the paper."""
    loss = LossConfig(
        num_selected=None,
        classification="mean score",
        magnitude="distance",
        regularisers="flat batch",
        selection_dropout=0.7,
    )
    return TrainConfig(recipe="released", **{"weight_decay": 5e-3, "loss": loss, **changes})


def small_training(**changes: Any) -> TrainConfig:
    """For sets of some dozens of videos: the paper's losses, few and small steps, and the mean of their later half."""
    return TrainConfig(recipe="small", **{"learning_rate": 1.5e-4, "steps": 60, "average_from": 0.5, **changes})


TRAINING: dict[str, Callable[..., TrainConfig]] = {
    "paper": paper_training,
    "released": released_training,
    "small": small_training,
}


def training_config(recipe: str, **changes: Any) -> TrainConfig:
    """The training configuration of a recipe by name, with some of its fields changed."""
    if recipe not in TRAINING:
        raise UserError(f"there is no recipe {recipe!r}; there are {', '.join(TRAINING)}")
    return TRAINING[recipe](**changes)
