"""How large and how costly a network is (Table 6), counted by PyTorch on tensors that have shapes but no values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssrl.model.config import WHOLE_FRAME, ModelConfig
from ssrl.model.network import SSRL


@dataclass(frozen=True)
class Complexity:
    """`macs` are the multiply-adds of convolutions, linear layers and matrix products; what is done to each value
    alone (norms, activations), and pooling, is not in them.
    """

    parameters: int
    macs: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition count as two."""
        return 2 * self.macs


def network_complexity(config: ModelConfig, num_segments: int = 32, num_crops: int = 1) -> Complexity:
    """Of the network that scores one video of `num_segments` segments, whose whole frames have `num_crops` crops."""
    patches = {scale: config.branches[scale].rows * config.branches[scale].cols for scale in config.patch_scales}
    patches[WHOLE_FRAME] = num_crops
    with torch.device("meta"):
        network = SSRL(config)
        video = {scale: torch.empty(1, num_segments, patches[scale], config.feature_dim) for scale in config.scales}
    return counted(network, [video])


@torch.no_grad()
def counted(network: nn.Module, batches: Iterable[Any]) -> Complexity:
    """The network's parameters, and what it costs to send each of `batches` through it; all on the meta device."""
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            network.eval()(batch)
    return Complexity(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2)
