"""The recipes, as functions that return complete configurations: the paper, the authors' release where it differs, and
a variant against overfitting on small datasets. `ablate` applies the paper's ablations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from ssrl.config import LossConfig, TrainConfig
from ssrl.errors import UserError
from ssrl.model.config import (
    PAPER_GRIDS,
    WHOLE_FRAME,
    AggregationConfig,
    AnyModelConfig,
    BlendConfig,
    ModelConfig,
    RelationConfig,
)

M = TypeVar("M", bound=AnyModelConfig)
MEMBERS = 5  # networks of each kind in a blend, each trained without one of as many folds
RELEASED_STEPS = 150_000  # per stage: the default of `--max_epoch` in the release's option.py, which counts batches
Grids = Mapping[int, tuple[int, int]]  # scale → (rows, cols)


def paper_model(feature_dim: int, scales: tuple[int, ...], grids: Grids = PAPER_GRIDS) -> ModelConfig:
    """The network as the paper describes it."""
    branches = {scale: AggregationConfig(*grid) for scale, grid in grids.items() if scale != WHOLE_FRAME}
    return ModelConfig(feature_dim, tuple(scales), branches)


def small_model(feature_dim: int, scales: tuple[int, ...], grids: Grids = PAPER_GRIDS) -> ModelConfig:
    """The paper's network with scale dropout, for datasets of some dozens of videos, where new scales would overfit."""
    return replace(paper_model(feature_dim, scales, grids), scale_dropout=0.5)


def released_model(feature_dim: int, scales: tuple[int, ...], grids: Grids = PAPER_GRIDS) -> ModelConfig:
    """The network of the authors' release: f / N attention, MPA at stride 1, dropout on the finest branch."""
    relation = RelationConfig(attention="mean")
    branches = {
        scale: AggregationConfig(*grid, stride=1, padding=1 if min(grid) < 3 else 0, dropout=0.7 if scale == 4 else 0.0)
        for scale, grid in grids.items()
        if scale != WHOLE_FRAME
    }
    return ModelConfig(feature_dim, tuple(scales), branches, vtr=relation, psr=relation, standardize=False, spread_to=0)


def ablate(
    model: M,
    *,
    share_psr: bool = False,
    no_psr: bool = False,
    no_dilated: bool = False,
    no_non_local: bool = False,
) -> M:
    """Share PSR between scales (Table 1), remove it (Table 4), or remove one of its two sub-networks (Table 5). VTR is
    unchanged.

    Raises a UserError for options that contradict each other.
    """
    options = {
        "--no-psr": no_psr,
        "--no-dilated": no_dilated,
        "--no-non-local": no_non_local,
        "--share-psr": share_psr,
    }
    selected = [name for name, enabled in options.items() if enabled]
    if no_psr and len(selected) > 1:
        raise UserError(f"--no-psr excludes {' and '.join(selected[1:])}; give only one of them")
    if selected and isinstance(model, BlendConfig) and not model.losses:
        raise UserError(f"the linear model has no PSR for {' and '.join(selected)} to change; choose another --recipe")
    if selected and not model.patch_scales:
        raise UserError(
            f"scale 1 has one patch and no PSR, so {' and '.join(selected)} has no effect; add another scale"
        )
    if no_dilated and no_non_local:
        raise UserError("--no-dilated and --no-non-local together leave PSR empty; give one of them or --no-psr")
    if no_psr or model.psr is None:
        return replace(model, psr=None)
    psr = replace(
        model.psr, dilated=model.psr.dilated and not no_dilated, non_local=model.psr.non_local and not no_non_local
    )
    return replace(model, psr=psr, share_psr=model.share_psr or share_psr)


def check_freezing(model: AnyModelConfig) -> None:
    """Raise a UserError for a model whose earlier branches cannot stay as they are while a new one is trained."""
    if isinstance(model, BlendConfig) and not model.losses:
        raise UserError("the linear model has no branches for --freeze-previous to keep; choose another --recipe")
    if len(model.scales) < 2:
        raise UserError("one scale is trained in one stage, so --freeze-previous has no effect; add another scale")
    if model.share_psr:
        raise UserError("--share-psr trains one PSR for all scales, so --freeze-previous excludes it; give one of them")


def paper_training(**changes: Any) -> TrainConfig:
    """Sect. 4.2."""
    return TrainConfig(recipe="paper", **changes)


def released_training(**changes: Any) -> TrainConfig:
    """The authors' release, where it differs from the paper."""
    loss = LossConfig(
        num_selected=None,
        classification="mean score",
        magnitude="distance",
        regularizers="flat batch",
        selection_dropout=0.7,
    )
    return TrainConfig(recipe="released", **{"steps": RELEASED_STEPS, "weight_decay": 5e-3, "loss": loss, **changes})


def small_training(**changes: Any) -> TrainConfig:
    """For datasets of some dozens of videos: the paper's losses, few small steps, the later half averaged."""
    return TrainConfig(recipe="small", **{"learning_rate": 1.5e-4, "steps": 60, "average_from": 0.5, **changes})


def blend_model(feature_dim: int, scales: tuple[int, ...], grids: Grids = PAPER_GRIDS) -> BlendConfig:
    """A linear model, and compact networks trained on all segments and on the top ones: for any number of videos."""
    return set_members(BlendConfig(feature_dim, tuple(scales), dict(grids)), MEMBERS)


def set_members(model: AnyModelConfig, members: int) -> BlendConfig:
    """Give a blend so many networks of each kind. Raises a UserError for a model that has none."""
    if not isinstance(model, BlendConfig) or not model.losses:
        raise UserError("--members is for --recipe blend, whose networks it counts; leave it out")
    if members < 2:
        raise UserError(
            f"--members must be at least 2, not {members}: each network is trained without some of the videos, which "
            f"then calibrate its scores; for the linear model alone use --recipe linear"
        )
    return replace(model, losses=tuple(dict.fromkeys(model.losses)) * members)


def linear_model(feature_dim: int, scales: tuple[int, ...], grids: Grids = PAPER_GRIDS) -> BlendConfig:
    """Logistic regression on the mean and the maximum over patches."""
    return replace(blend_model(feature_dim, scales, grids), losses=())


def blend_training(**changes: Any) -> TrainConfig:
    """AdamW with a cosine schedule, and the mean of the weights over the second half of a stage."""
    settings = {
        "steps": 150,
        "videos_per_half": 16,
        "learning_rate": 3e-3,
        "weight_decay": 1.0,
        "optimizer": "adamw",
        "schedule": "cosine",
        "later_share": 0.5,
        "average_from": 0.5,
    }
    return TrainConfig(**{"recipe": "blend", **settings, **changes})


def linear_training(**changes: Any) -> TrainConfig:
    """The linear model is fitted, not trained in steps."""
    return blend_training(**{"recipe": "linear", "steps": 1, "average_from": 1.0, **changes})


class Recipe(NamedTuple):
    """A network, and how it is trained."""

    model: Callable[..., AnyModelConfig]  # (feature_dim, scales, grids)
    training: Callable[..., TrainConfig]  # (**changes)


RECIPES = {
    "paper": Recipe(paper_model, paper_training),
    "released": Recipe(released_model, released_training),
    "small": Recipe(small_model, small_training),
    "blend": Recipe(blend_model, blend_training),
    "linear": Recipe(linear_model, linear_training),
}


def find_recipe(name: str) -> Recipe:
    """Look up a recipe. Raises a UserError for an unknown name."""
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}; allowed are {', '.join(RECIPES)}")
    return RECIPES[name]
