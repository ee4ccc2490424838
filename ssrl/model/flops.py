"""Size and cost of a network (Table 6), counted by PyTorch on meta tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssrl.model.build import build_network
from ssrl.model.config import WHOLE_FRAME, AnyModelConfig


@dataclass(frozen=True)
class Complexity:
    """`macs` counts the multiply-adds of convolutions, linear layers and matrix products, not of elementwise
    operations (norms, activations) and pooling.
    """

    parameters: int
    macs: int

    @property
    def flops(self) -> int:
        """A multiply-add counts as two."""
        return 2 * self.macs


def measure_network(config: AnyModelConfig, num_segments: int = 32, num_crops: int = 1) -> Complexity:
    """Measure the network on one video of `num_segments` segments with `num_crops` crops at scale 1."""
    patches = {scale: math.prod(config.grids[scale]) for scale in config.patch_scales}
    patches[WHOLE_FRAME] = num_crops
    with torch.device("meta"):
        network = build_network(config)
        video = {scale: torch.empty(1, num_segments, patches[scale], config.feature_dim) for scale in config.scales}
    return measure_complexity(network, [video])


@torch.no_grad()
def measure_complexity(network: nn.Module, batches: Iterable[Any]) -> Complexity:
    """Count the network's parameters, and the multiply-adds for all `batches`; all on the meta device."""
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            network.eval()(batch)
    return Complexity(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2)
