"""The cost of encoding a snippet, counted without weights or computation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ssrl.errors import UserError
from ssrl.extract.encoders import ENCODERS
from ssrl.extract.patch_encoder import Prepare, SnippetEncoder
from ssrl.geometry import Geometry
from ssrl.model.flops import Complexity, measure_complexity


def count_encoder_complexity(encoder: str, geometry: Geometry, scales: Iterable[int]) -> Complexity:
    """Count one snippet: all patch cubes of `scales`. Raises a UserError for unknown encoders."""
    if encoder not in ENCODERS:
        raise UserError(f"unknown encoder {encoder!r}; choose from {', '.join(ENCODERS)}")
    with torch.device("meta"):
        network, prepare = ENCODERS[encoder].outline()
        K = prepare(torch.empty(1, 3, dtype=torch.uint8)).shape[-1]
        grids = [geometry.grid(scale) for scale in scales]
        cubes = [
            torch.empty(grid.num_patches, K, geometry.frames_per_snippet, grid.window_height, grid.window_width)
            for grid in grids
        ]
    return measure_complexity(network, cubes)


def count_snippet_flops(prepare: Prepare, network: nn.Module, geometry: Geometry, scales: Iterable[int]) -> int:
    """Count the FLOPs of `network` (which is moved to the meta device) for one snippet, all grids together."""
    encode = SnippetEncoder(prepare, network.to("meta"), [geometry.grid(scale) for scale in scales])
    size = (1, geometry.frames_per_snippet, geometry.height, geometry.width, 3)
    return measure_complexity(encode, [torch.empty(size, dtype=torch.uint8, device="meta")]).flops
