"""Scores of the videos of a store: features → network → one score a snippet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from ssrl.datasets.video import Split
from ssrl.errors import UserError
from ssrl.evaluate.heatmaps import attention_mask, combine_masks
from ssrl.evaluate.metrics import evaluate
from ssrl.evaluate.protocol import VideoScores
from ssrl.geometry import Grid
from ssrl.network import SSRL
from ssrl.store.layout import VideoRecord
from ssrl.store.reader import Store


def score_videos(network: SSRL, store: Store, split: Split = "test") -> Iterator[VideoScores]:
    """Score every video of one split. A video is read whole, at all its snippets, one video at a time."""
    records = store.records(split)
    if not records:
        raise UserError(f"{store.root} has no {split} videos; extract some, with {split} in their split column")
    for record in records:
        yield score_video(network, store, record)


def score_video(network: SSRL, store: Store, record: VideoRecord) -> VideoScores:
    features = {scale: store.features(record.id, scale) for scale in network.config.scales}
    return VideoScores(
        id=record.id,
        label=record.label,
        category=record.category,
        num_frames=record.num_frames,
        fps=record.fps,
        scores=snippet_scores(network, features),
        frames_per_snippet=store.config.geometry.frames_per_snippet,
        anomalies=record.anomalies,
    )


@torch.inference_mode()
def snippet_scores(network: SSRL, features: dict[int, np.ndarray]) -> np.ndarray:
    """One array (T, N_r, D) a scale → (T,) scores. The network must be in evaluation mode."""
    device = next(network.parameters()).device
    batch = {scale: torch.from_numpy(array.astype(np.float32))[None].to(device) for scale, array in features.items()}
    return network(batch).scores[0].double().cpu().numpy()


@torch.inference_mode()
def snippet_masks(
    network: SSRL, features: dict[int, np.ndarray], grids: Mapping[int, Grid], height: int, width: int
) -> np.ndarray:
    """Where the network looks in each snippet (Sect. 4.5): one array (n, N_r, D) a scale → (n, height, width), 0..1.

    Zeros where the network has no attention over patches.
    """
    device = next(network.parameters()).device
    scales = [scale for scale in network.config.patch_scales if network.has_attention]
    masks: dict[int, np.ndarray] = {}
    for scale in scales:
        batch = torch.from_numpy(features[scale].astype(np.float32))[None].to(device)
        attention = network.attention(scale, batch)[0].cpu().numpy()  # (n, N, N)
        masks[scale] = attention_mask(attention, grids[scale].rows, grids[scale].cols)
    if not masks:
        return np.zeros((len(features[network.config.scales[0]]), height, width), np.float32)
    count = len(next(iter(masks.values())))
    return np.stack([combine_masks({r: mask[i] for r, mask in masks.items()}, height, width) for i in range(count)])


def top_snippets(scores: np.ndarray, count: int, apart: int = 4) -> list[int]:
    """The indices of up to `count` highest scores, at least `apart` snippets from each other, in order of time."""
    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if len(chosen) < count and all(abs(int(index) - other) >= apart for other in chosen):
            chosen.append(int(index))
    return sorted(chosen)


def frame_auc(store: Store) -> Callable[[SSRL], float | None] | None:
    """A function that measures a network on the test videos, or None where frame labels are missing."""
    records = store.records("test")
    if not records or any(record.anomalies is None for record in records) or not any(r.anomalies for r in records):
        return None
    return lambda network: evaluate(list(score_videos(network, store))).auc
