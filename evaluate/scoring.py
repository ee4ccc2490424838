"""Scores of the videos of a store: features → network → one score a snippet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from ssrl.datasets.video import Split
from ssrl.errors import UserError
from ssrl.evaluate.heatmaps import attention_mask
from ssrl.evaluate.metrics import evaluate
from ssrl.evaluate.protocol import VideoScores
from ssrl.geometry import Grid
from ssrl.model.network import SSRL
from ssrl.store.layout import StoredVideo
from ssrl.store.reader import Store
from ssrl.store.segments import compute_segment_bounds

CONTEXT = 32  # snippets around the one whose score is explained
PATH_STEPS = 16  # of integrated gradients


def score_split(network: SSRL, store: Store, split: Split = "test") -> Iterator[VideoScores]:
    """Score every video of one split. A video is read whole, at all its snippets, one video at a time."""
    records = store.records(split)
    if not records:
        raise UserError(f"{store.root} has no {split} videos; extract some, with {split} in their split column")
    for record in records:
        yield score_video(network, store, record)


def score_video(network: SSRL, store: Store, record: StoredVideo) -> VideoScores:
    features = store.all_features(record.id, network.config.scales)
    return VideoScores(record, snippet_scores(network, features), store.config.geometry.frames_per_snippet)


@torch.inference_mode()
def snippet_scores(network: SSRL, features: dict[int, np.ndarray]) -> np.ndarray:
    """One array (T, N_r, D) a scale → (T,) scores. The network must be in evaluation mode.

    A video that is shorter than what the network was trained on is spread over as many segments (see
    `ModelConfig.spread_to`), and a snippet's score is the mean of its segments'.
    """
    device = next(network.parameters()).device
    num_snippets = len(next(iter(features.values())))
    snippets = np.arange(num_snippets)
    if num_snippets < network.config.spread_to:
        snippets = compute_segment_bounds(num_snippets, network.config.spread_to)[:-1]  # with repeats
    batch = {
        scale: torch.from_numpy(array[snippets].astype(np.float32))[None].to(device)
        for scale, array in features.items()
    }
    scores = network(batch).scores[0].double().cpu().numpy()
    return np.bincount(snippets, scores) / np.bincount(snippets)


def attention_masks(
    network: SSRL, features: Mapping[int, np.ndarray], snippet: int, grids: Mapping[int, Grid]
) -> dict[int, np.ndarray]:
    """Where PSR looks in one snippet (Sect. 4.5), as a mask (rows, cols) in 0..1 a scale.

    `features` hold one array (T, N_r, D) a scale. Empty where the network has no attention over patches.
    """
    device = next(network.parameters()).device
    masks = {}
    for scale in network.config.patch_scales if network.has_attention else ():
        patches = torch.from_numpy(features[scale][snippet].astype(np.float32))[None, None].to(device)
        with torch.inference_mode():
            attention = network.attention(scale, patches)[0, 0].cpu().numpy()  # (N, N)
        masks[scale] = attention_mask(attention, grids[scale].rows, grids[scale].cols)
    return masks


def contribution_masks(
    network: SSRL, features: Mapping[int, np.ndarray], snippet: int, grids: Mapping[int, Grid]
) -> dict[int, np.ndarray]:
    """Which patches raise one snippet's score, as a mask (rows, cols) in 0..1 a scale.

    The contributions are integrated gradients (Sundararajan et al., 2017) of the snippet's logit, from a snippet of
    mean training features to the one at hand; what lowers the score counts as nothing. The network sees the snippet
    among its neighbors, as many as it was trained on.
    """
    device = next(network.parameters()).device
    start = max(0, snippet - CONTEXT // 2)
    shares = (torch.arange(PATH_STEPS, device=device) + 0.5)[:, None, None] / PATH_STEPS  # midpoints of the path
    inputs, apart, paths = {}, {}, {}
    for scale in network.config.scales:
        context = torch.from_numpy(features[scale][start : start + CONTEXT].astype(np.float32)).to(device)  # (T, N, D)
        baseline = network.baseline(scale).to(device)
        apart[scale] = context[snippet - start] - baseline  # (N, D)
        paths[scale] = (baseline + shares * apart[scale]).requires_grad_()  # (steps, N, D)
        before, after = context[: snippet - start], context[snippet - start + 1 :]
        repeated = [part.expand(PATH_STEPS, *part.shape) for part in (before, after)]
        inputs[scale] = torch.cat([repeated[0], paths[scale][:, None], repeated[1]], dim=1)  # (steps, T, N, D)
    network.logits(inputs)[:, snippet - start].sum().backward()
    masks = {}
    for scale in network.config.patch_scales:
        gradient = paths[scale].grad
        assert gradient is not None
        raises = (apart[scale] * gradient.mean(dim=0)).sum(dim=-1).clamp(min=0)  # (N,)
        mask = (raises / raises.max().clamp(min=1e-12)).cpu().numpy()
        masks[scale] = mask.reshape(grids[scale].rows, grids[scale].cols)
    return masks


def top_snippets(scores: np.ndarray, count: int, apart: int = 4) -> list[int]:
    """The indices of up to `count` highest scores, at least `apart` snippets from each other, in order of time."""
    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if len(chosen) < count and all(abs(int(index) - other) >= apart for other in chosen):
            chosen.append(int(index))
    return sorted(chosen)


def frame_auc(store: Store) -> Callable[[SSRL], float | None] | None:
    """A function that measures a network on the test videos, or None where frame labels are missing."""
    anomalies = [record.video.anomalies for record in store.records("test")]
    if None in anomalies or not any(anomalies):
        return None
    return lambda network: evaluate(list(score_split(network, store))).auc
