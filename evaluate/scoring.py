"""Scores of the videos of a store: features → network → one score per snippet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from ssrl.datasets.video import Split
from ssrl.errors import UserError
from ssrl.evaluate.metrics import evaluate
from ssrl.evaluate.protocol import THRESHOLD, VideoScores
from ssrl.model.build import Network
from ssrl.model.domain import Domain
from ssrl.store.layout import StoredVideo
from ssrl.store.reader import Store
from ssrl.store.segments import compute_segment_bounds

BLOCK = 256  # snippets embedded at once: at D = 2048 and four scales, about 0.2 GB of features


class Features(Protocol):
    """An array (T, N_r, D), or what reads it as it is sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> np.ndarray: ...


def score_split(
    network: Network, store: Store, split: Split = "test", threshold: float = THRESHOLD, domain: Domain | None = None
) -> Iterator[VideoScores]:
    """Score every snippet of every video of one split. One video at a time is in memory."""
    records = store.records(split)
    if not records:
        raise UserError(f"{store.root} has no {split} videos; extract some, with split {split} in the manifest")
    for record in records:
        yield score_video(network, store, record, threshold, domain)


def score_video(
    network: Network,
    store: Store,
    record: StoredVideo,
    threshold: float = THRESHOLD,
    domain: Domain | None = None,
    watch: Callable[[str, Mapping[int, Features]], Mapping[int, Features]] | None = None,
) -> VideoScores:
    """Score one video. `watch` may replace its features, given its id, as zones do."""
    with store.open_video(record.id, network.config.scales) as (features, seconds):
        watched = features if watch is None else watch(record.id, features)
        scores, distance = score_snippets(network, watched, domain)
    return VideoScores(record, scores, store.config.geometry.frames_per_snippet, threshold, distance, seconds)


@torch.inference_mode()
def score_snippets(
    network: Network, features: Mapping[int, Features], domain: Domain | None = None
) -> tuple[np.ndarray, float | None]:
    """Score one array (T, N_r, D) per scale → (T,), and measure the distance of all from the training videos. The
    network must be in evaluation mode. Features are read in blocks, so memory hardly grows with T.

    A video with fewer snippets than the network was trained on is spread over that many segments (see
    `ModelConfig.spread_to`), and a snippet's score is the mean over its segments.
    """
    device = next(network.parameters()).device
    num_snippets = len(next(iter(features.values())))
    snippets = np.arange(num_snippets)
    if num_snippets < network.config.spread_to:
        snippets = compute_segment_bounds(num_snippets, network.config.spread_to)[:-1]  # repeats snippets
    embedded, coordinates = [], []
    for start in range(0, num_snippets, BLOCK):
        rows = snippets if len(snippets) > num_snippets else slice(None)
        block = {
            scale: torch.from_numpy(each[start : start + BLOCK].astype(np.float32)) for scale, each in features.items()
        }
        if domain is not None:
            coordinates.append(domain.project(block))
        embedded.append(network.embed({scale: each[rows][None].to(device) for scale, each in block.items()}))
    joined = [torch.cat(parts, dim=1) for parts in zip(*embedded, strict=True)]
    scores = network.relate(joined).scores[0].double().cpu().numpy()
    distance = None if domain is None else domain.measure(torch.cat(coordinates))
    return np.bincount(snippets, scores) / np.bincount(snippets), distance


def select_top_snippets(scores: np.ndarray, count: int, min_distance: int = 4) -> list[int]:
    """The indices of up to `count` highest scores, at least `min_distance` snippets apart, in temporal order."""
    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if len(chosen) < count and all(abs(int(index) - other) >= min_distance for other in chosen):
            chosen.append(int(index))
    return sorted(chosen)


def make_frame_auc(store: Store) -> Callable[[Network], float | None] | None:
    """Make a function that measures a network on the test videos that have frame labels; None if no anomaly is among
    these.
    """
    if not any(record.video.anomalies for record in store.records("test")):
        return None
    return lambda network: evaluate(list(score_split(network, store))).auc
