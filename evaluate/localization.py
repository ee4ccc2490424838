"""Where in the frame: masks over the patches of a snippet, the heatmap they add up to, and its hottest region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy import ndimage

from ssrl.evaluate.heatmaps import combine_masks, compute_attention_mask
from ssrl.evaluate.scoring import Features
from ssrl.geometry import Geometry, Grid
from ssrl.model.build import Network

Where = Literal["contribution", "attention"]
Masks = dict[int, np.ndarray]  # scale → (rows, cols) in 0..1
CONTEXT = 32  # snippets around the one to explain
PATH_STEPS = 16  # of integrated gradients
REGION_LEVEL = 0.5  # of the hottest point


class Box(NamedTuple):
    """A part of the frame, in fractions of its width and height, from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


def compute_heat(
    network: Network,
    features: Mapping[int, Features],
    snippet: int,
    geometry: Geometry,
    where: Where = "contribution",
    size: tuple[int, int] | None = None,
) -> np.ndarray | None:
    """One snippet's heatmap (H, W) float32 in 0..1, of `size` or the geometry's; None for a network without patches."""
    grids = {scale: geometry.grid(scale) for scale in network.config.patch_scales}
    compute = compute_attention_masks if where == "attention" else compute_contribution_masks
    masks = compute(network, features, snippet, grids)
    return combine_masks(masks, *(size or (geometry.height, geometry.width))) if masks else None


def find_hottest_region(heat: np.ndarray) -> Box | None:
    """The box around what is at least half as hot as the hottest point, and connected to it; None if all is cold."""
    height, width = heat.shape
    if heat.max() <= 0:
        return None
    labels, _ = ndimage.label(heat >= REGION_LEVEL * heat.max())
    rows, cols = np.nonzero(labels == labels.flat[heat.argmax()])
    return Box(
        float(cols.min() / width),
        float(rows.min() / height),
        float((cols.max() + 1) / width),
        float((rows.max() + 1) / height),
    )


def compute_attention_masks(
    network: Network, features: Mapping[int, Features], snippet: int, grids: Mapping[int, Grid]
) -> dict[int, np.ndarray]:
    """Where PSR attends in one snippet (Sect. 4.5): one mask (rows, cols) in 0..1 per scale.

    `features` hold one array (T, N_r, D) per scale. Empty if the network has no attention over patches.
    """
    device = next(network.parameters()).device
    masks = {}
    for scale in network.config.patch_scales if network.has_attention else ():
        patches = torch.from_numpy(features[scale][snippet].astype(np.float32))[None, None].to(device)
        with torch.inference_mode():
            attention = network.attention(scale, patches)[0, 0].cpu().numpy()  # (N, N)
        masks[scale] = compute_attention_mask(attention, grids[scale].rows, grids[scale].cols)
    return masks


def compute_contribution_masks(
    network: Network, features: Mapping[int, Features], snippet: int, grids: Mapping[int, Grid]
) -> dict[int, np.ndarray]:
    """Which patches raise one snippet's score: one mask (rows, cols) in 0..1 per scale. Patches that lower it are 0."""
    contributions = compute_contributions(network, features, snippet)
    masks = {}
    for scale in network.config.patch_scales:
        raises = contributions[scale].sum(dim=-1).clamp(min=0)  # (N,)
        mask = (raises / raises.max().clamp(min=1e-12)).cpu().numpy()
        masks[scale] = mask.reshape(grids[scale].rows, grids[scale].cols)
    return masks


def compute_contributions(network: Network, features: Mapping[int, Features], snippet: int) -> dict[int, torch.Tensor]:
    """How much each feature of each patch raises one snippet's logit: one tensor (N, D) per scale.

    The contributions are integrated gradients (Sundararajan et al., 2017), from a baseline of mean training features to
    the snippet's own. The network sees the snippet in the context of its neighbors, as many as it was trained on.
    """
    device = next(network.parameters()).device
    start = max(0, snippet - CONTEXT // 2)
    steps = (torch.arange(PATH_STEPS, device=device) + 0.5)[:, None, None] / PATH_STEPS  # midpoints of the path
    context, differences, paths = {}, {}, {}
    for scale in network.config.scales:
        rows = features[scale][start : start + CONTEXT].astype(np.float32)
        context[scale] = torch.from_numpy(rows)[None].to(device)  # (1, T, N, D)
        baseline = network.baseline(scale).to(device)
        differences[scale] = context[scale][0, snippet - start] - baseline  # (N, D)
        paths[scale] = (baseline + steps * differences[scale]).requires_grad_()  # (steps, N, D)
    with torch.no_grad():  # the neighbors are the same all along the path
        around = network.embed(context)
    along = network.embed({scale: path[:, None] for scale, path in paths.items()})
    joined = [_insert(each, path, snippet - start) for each, path in zip(around, along, strict=True)]
    logits = network.relate_logits(joined)[:, snippet - start]
    gradients = torch.autograd.grad(logits.sum(), list(paths.values()))
    return {scale: differences[scale] * gradient.mean(dim=0) for scale, gradient in zip(paths, gradients, strict=True)}


def _insert(around: torch.Tensor, along: torch.Tensor, place: int) -> torch.Tensor:
    """Snippets (1, T, ...) of which one is replaced by each of a path (S, 1, ...): (S, T, ...)."""
    before, after = (part.expand(len(along), *part.shape[1:]) for part in (around[:, :place], around[:, place + 1 :]))
    return torch.cat([before, along, after], dim=1)
