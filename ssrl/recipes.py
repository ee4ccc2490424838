"""The recipes' networks as functions: what the paper says, what the authors' release does where it differs, and what
keeps a network from learning a small set by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ssrl.aggregation import AggregationConfig
from ssrl.network import PAPER_GRIDS, WHOLE_FRAME, ModelConfig
from ssrl.relation import RelationConfig

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
    return ModelConfig(feature_dim, tuple(scales), branches, vtr=relation, psr=relation, standardise=False, spread_to=0)


MODELS: dict[str, Callable[..., ModelConfig]] = {"paper": paper_model, "released": released_model, "small": small_model}
