"""What it costs to encode a snippet, measure_complexity without weights and without computing anything."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ssrl.errors import UserError
from ssrl.extract.encoders import ENCODERS
from ssrl.extract.patch_encoder import Prepare, SnippetEncoder
from ssrl.geometry import Geometry
from ssrl.model.flops import Complexity, measure_complexity


def encoder_complexity(encoder: str, geometry: Geometry, scales: Iterable[int]) -> Complexity:
    """Of the encoder `encoder` on one snippet: all patch cubes of `scales`. Raises a UserError for unknown names."""
    if encoder not in ENCODERS:
        raise UserError(f"there is no encoder {encoder!r}; there are {', '.join(ENCODERS)}")
    with torch.device("meta"):
        network, prepare = ENCODERS[encoder].outline()
        K = prepare(torch.empty(1, 3, dtype=torch.uint8)).shape[-1]
        grids = [geometry.grid(scale) for scale in scales]
        cubes = [
            torch.empty(grid.num_patches, K, geometry.frames_per_snippet, grid.window_height, grid.window_width)
            for grid in grids
        ]
    return measure_complexity(network, cubes)


def snippet_flops(prepare: Prepare, network: nn.Module, geometry: Geometry, scales: Iterable[int]) -> int:
    """What `network`, which is moved to the meta device, computes for one snippet, grids together."""
    encode = SnippetEncoder(prepare, network.to("meta"), [geometry.grid(scale) for scale in scales])
    size = (1, geometry.frames_per_snippet, geometry.height, geometry.width, 3)
    return measure_complexity(encode, [torch.empty(size, dtype=torch.uint8, device="meta")]).flops
