"""Where in the frame: masks over the patches of a snippet, the heatmap they add up to, and its hottest region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Moment:
    """One snippet among its neighbors: offline as many as the network was trained on, live those of the window."""

    features: Mapping[int, np.ndarray]  # scale → (T, N_r, D)
    place: int  # of the snippet among the T
    embedded: tuple[torch.Tensor, ...] | None = None  # each (1, T, ...): `Network.embed` of the features, if at hand

    @classmethod
    def of(cls, features: Mapping[int, Features], snippet: int) -> Moment:
        """A snippet of a video's features, one array (T, N_r, D) per scale."""
        start = max(0, snippet - CONTEXT // 2)
        return cls({scale: each[start : start + CONTEXT] for scale, each in features.items()}, snippet - start)


def compute_heat(
    network: Network,
    moment: Moment,
    geometry: Geometry,
    where: Where = "contribution",
    size: tuple[int, int] | None = None,
) -> np.ndarray | None:
    """One snippet's heatmap (H, W) float32 in 0..1, of `size` or the geometry's; None for a network without patches."""
    grids = {scale: geometry.grid(scale) for scale in network.config.patch_scales}
    compute = compute_attention_masks if where == "attention" else compute_contribution_masks
    masks = compute(network, moment, grids)
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


def compute_attention_masks(network: Network, moment: Moment, grids: Mapping[int, Grid]) -> dict[int, np.ndarray]:
    """Where PSR attends in one snippet (Sect. 4.5): one mask (rows, cols) in 0..1 per scale. Empty if the network has
    no attention over patches.
    """
    device = next(network.parameters()).device
    masks = {}
    for scale in network.config.patch_scales if network.has_attention else ():
        patches = torch.from_numpy(moment.features[scale][moment.place].astype(np.float32))[None, None].to(device)
        with torch.inference_mode():
            attention = network.attention(scale, patches)[0, 0].cpu().numpy()  # (N, N)
        masks[scale] = compute_attention_mask(attention, grids[scale].rows, grids[scale].cols)
    return masks


def compute_contribution_masks(network: Network, moment: Moment, grids: Mapping[int, Grid]) -> dict[int, np.ndarray]:
    """Which patches raise one snippet's score: one mask (rows, cols) in 0..1 per scale. Patches that lower it are 0."""
    contributions = compute_contributions(network, moment)
    masks = {}
    for scale in network.config.patch_scales:
        raises = contributions[scale].sum(dim=-1).clamp(min=0)  # (N,)
        mask = (raises / raises.max().clamp(min=1e-12)).cpu().numpy()
        masks[scale] = mask.reshape(grids[scale].rows, grids[scale].cols)
    return masks


def compute_contributions(network: Network, moment: Moment) -> dict[int, torch.Tensor]:
    """How much each feature of each patch raises one snippet's logit: one tensor (N, D) per scale.

    The contributions are integrated gradients (Sundararajan et al., 2017), from a baseline of mean training features to
    the snippet's own. Its neighbors stay as they are.
    """
    device = next(network.parameters()).device
    steps = (torch.arange(PATH_STEPS, device=device) + 0.5)[:, None, None] / PATH_STEPS  # midpoints of the path
    context, differences, paths = {}, {}, {}
    for scale in network.config.scales:
        context[scale] = torch.from_numpy(moment.features[scale].astype(np.float32))[None].to(device)  # (1, T, N, D)
        baseline = network.baseline(scale).to(device)
        differences[scale] = context[scale][0, moment.place] - baseline  # (N, D)
        paths[scale] = (baseline + steps * differences[scale]).requires_grad_()  # (steps, N, D)
    with torch.no_grad():  # the neighbors are the same all along the path
        around = moment.embedded or network.embed(context)
    along = network.embed({scale: path[:, None] for scale, path in paths.items()})
    joined = [_insert(each, path, moment.place) for each, path in zip(around, along, strict=True)]
    logits = network.relate_logits(joined)[:, moment.place]
    gradients = torch.autograd.grad(logits.sum(), list(paths.values()))
    return {scale: differences[scale] * gradient.mean(dim=0) for scale, gradient in zip(paths, gradients, strict=True)}


def _insert(around: torch.Tensor, along: torch.Tensor, place: int) -> torch.Tensor:
    """Snippets (1, T, ...) of which one is replaced by each of a path (S, 1, ...): (S, T, ...)."""
    before, after = (part.expand(len(along), *part.shape[1:]) for part in (around[:, :place], around[:, place + 1 :]))
    return torch.cat([before, along, after], dim=1)
