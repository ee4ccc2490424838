"""Scores of the videos of a store: features → network → one score per snippet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ssrl.datasets.video import Split
from ssrl.errors import UserError
from ssrl.evaluate.metrics import evaluate
from ssrl.evaluate.protocol import THRESHOLD, VideoScores
from ssrl.model.build import Network
from ssrl.model.config import AnyModelConfig
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

    The network sees a video as in training: in segments (see `divide`). A snippet's score is that of its segment, or
    the mean over its segments.
    """
    device = next(network.parameters()).device
    num_snippets = len(next(iter(features.values())))
    bounds = divide(num_snippets, network.config)
    embedded, coordinates = [], []
    for block in _read_segments(features, bounds):
        if domain is not None:
            coordinates.append(domain.project(block))
        embedded.append(network.embed({scale: each[None].to(device) for scale, each in block.items()}))
    joined = [torch.cat(parts, dim=1) for parts in zip(*embedded, strict=True)]
    scores = network.relate(joined).scores[0].double().cpu().numpy()
    starts, counts = np.unique(bounds[:-1], return_counts=True)  # the snippets that segments begin with
    distinct = np.cumsum(counts) - counts
    means = np.add.reduceat(scores, distinct) / counts
    distance = None if domain is None else domain.measure(torch.cat(coordinates)[distinct])
    return np.repeat(means, np.diff([*starts, num_snippets])), distance


def divide(num_snippets: int, config: AnyModelConfig) -> np.ndarray:
    """The bounds (S + 1,) of the segments that a video of T snippets is scored in; segment i is the mean of snippets
    [b_i, b_i+1), or snippet b_i alone where that span is empty.

    There are as many as in training, or more where they would be longer than those of a typical training video.
    """
    count = max(config.spread_to, math.ceil(num_snippets / config.segment_length))
    return compute_segment_bounds(num_snippets, count)


def _read_segments(features: Mapping[int, Features], bounds: np.ndarray) -> Iterator[dict[int, Tensor]]:
    """Segments, some at a time: one tensor (S, N_r, D) per scale."""
    first, count = 0, len(bounds) - 1
    while first < count:
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + BLOCK, side="right")) - 1)
        start, stop = bounds[first], bounds[last]
        lengths = np.maximum(1, np.diff(bounds[first : last + 1])).astype(np.float32)
        yield {
            scale: torch.from_numpy(
                np.add.reduceat(each[start:stop].astype(np.float32), bounds[first:last] - start)
                / lengths[:, None, None]
            )
            for scale, each in features.items()
        }
        first = last


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
