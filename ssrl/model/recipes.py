"""The recipes as functions that return complete configurations: what the paper says, what the authors' release does
where it differs, and what keeps a network from overfitting a small set. `ablate` takes away what the paper's ablations
take away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ssrl.config import LossConfig, TrainConfig
from ssrl.errors import UserError
from ssrl.model.config import PAPER_GRIDS, WHOLE_FRAME, AggregationConfig, ModelConfig, RelationConfig

Grids = Mapping[int, tuple[int, int]]  # scale → (rows, cols)


def paper_model(feature_dim: int, scales: tuple[int, ...], grids: Grids = PAPER_GRIDS) -> ModelConfig:
    """The network as the paper describes it."""
    branches = {scale: AggregationConfig(*grid) for scale, grid in grids.items() if scale != WHOLE_FRAME}
    return ModelConfig(feature_dim, tuple(scales), branches)


def small_model(feature_dim: int, scales: tuple[int, ...], grids: Grids = PAPER_GRIDS) -> ModelConfig:
    """The paper's network for sets of some dozens of videos, where a stage would overfit to the scales before it."""
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
    model: ModelConfig,
    *,
    share_psr: bool = False,
    no_psr: bool = False,
    no_dilated: bool = False,
    no_non_local: bool = False,
) -> ModelConfig:
    """The network with its PSR shared between scales (Table 1), left out (Table 4), or without one of its two
    sub-networks (Table 5). VTR stays as it is.

    Raises a UserError for options that contradict each other.
    """
    options = {
        "--no-psr": no_psr,
        "--no-dilated": no_dilated,
        "--no-non-local": no_non_local,
        "--share-psr": share_psr,
    }
    asked = [name for name, given in options.items() if given]
    if no_psr and len(asked) > 1:
        raise UserError(f"--no-psr leaves nothing for {' and '.join(asked[1:])} to change; give one of them")
    if asked and not model.patch_scales:
        raise UserError(
            f"scale 1 has one patch and so no PSR for {' and '.join(asked)} to change; add a scale beyond 1"
        )
    if no_dilated and no_non_local:
        raise UserError("--no-dilated and --no-non-local together leave PSR empty; give one of them, or --no-psr")
    if no_psr or model.psr is None:
        return replace(model, psr=None)
    psr = replace(
        model.psr, dilated=model.psr.dilated and not no_dilated, non_local=model.psr.non_local and not no_non_local
    )
    return replace(model, psr=psr, share_psr=model.share_psr or share_psr)


def paper_training(**changes: Any) -> TrainConfig:
    """Sect. 4.2."""
    return TrainConfig(recipe="paper", **changes)


def released_training(**changes: Any) -> TrainConfig:
    """The authors' release where it differs from the paper."""
    loss = LossConfig(
        num_selected=None,
        classification="mean score",
        magnitude="distance",
        regularizers="flat batch",
        selection_dropout=0.7,
    )
    return TrainConfig(recipe="released", **{"weight_decay": 5e-3, "loss": loss, **changes})


def small_training(**changes: Any) -> TrainConfig:
    """For sets of some dozens of videos: the paper's losses, few and small steps, and the mean of their later half."""
    return TrainConfig(recipe="small", **{"learning_rate": 1.5e-4, "steps": 60, "average_from": 0.5, **changes})


class Recipe(NamedTuple):
    """A network, and how it is trained."""

    model: Callable[..., ModelConfig]  # (feature_dim, scales, grids)
    training: Callable[..., TrainConfig]  # (**changes)


RECIPES = {
    "paper": Recipe(paper_model, paper_training),
    "released": Recipe(released_model, released_training),
    "small": Recipe(small_model, small_training),
}


def find_recipe(name: str) -> Recipe:
    """Raises a UserError that lists the recipes where there is none of this name."""
    if name not in RECIPES:
        raise UserError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
