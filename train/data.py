"""Batches of training videos from the pooled view of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssrl.errors import UserError
from ssrl.geometry import ceil_div
from ssrl.store.reader import Store
from ssrl.store.segments import SegmentView

IN_MEMORY_BYTES = 2 << 30  # a view that is smaller is held in memory; a larger one stays mapped


@dataclass(frozen=True)
class Bags:
    """The training videos as bags of segments (MIL), normal and abnormal, by row of the view."""

    view: SegmentView
    abnormal: np.ndarray  # rows
    normal: np.ndarray
    held_out: np.ndarray  # rows kept for validation, both kinds
    held_out_labels: np.ndarray

    def __post_init__(self) -> None:
        for kind, rows in (("abnormal", self.abnormal), ("normal", self.normal)):
            if not len(rows):
                raise UserError(
                    f"there is no {kind} training video in {self.view.path.parent}; "
                    f"training on video-level labels needs both kinds"
                )

    def __str__(self) -> str:
        kept = f", {len(self.held_out)} held out" if len(self.held_out) else ""
        return f"{len(self.abnormal)} abnormal and {len(self.normal)} normal videos{kept}"

    @property
    def training(self) -> np.ndarray:
        return np.concatenate([self.abnormal, self.normal])


def training_bags(store: Store, view: SegmentView, held_out_fraction: float, seed: int) -> Bags:
    """Split the training videos of `store` into bags; a fraction of each kind is held out, chosen by `seed`."""
    labels = {record.id: record.video.label for record in store.records("train")}
    rows = {label: [i for i, name in enumerate(view.ids) if labels.get(name) == label] for label in (0, 1)}
    generator = np.random.default_rng([seed, 1])
    kept: dict[int, np.ndarray] = {}
    held: dict[int, np.ndarray] = {}
    for label, all_rows in rows.items():
        shuffled = generator.permutation(np.array(all_rows, dtype=np.int64))
        count = round(held_out_fraction * len(shuffled))
        if held_out_fraction and len(shuffled) > 1:
            count = min(max(1, count), len(shuffled) - 1)
        held[label], kept[label] = np.sort(shuffled[:count]), np.sort(shuffled[count:])
    return Bags(
        view,
        abnormal=kept[1],
        normal=kept[0],
        held_out=np.concatenate([held[0], held[1]]),
        held_out_labels=np.concatenate([np.zeros(len(held[0]), int), np.ones(len(held[1]), int)]),
    )


class Features:
    """Rows of the view as float32 tensors on a device, held in memory where they are small."""

    def __init__(self, view: SegmentView, scales: Sequence[int], device: torch.device) -> None:
        self.device = device
        small = sum(view.scales[scale].nbytes for scale in scales) <= IN_MEMORY_BYTES
        self.arrays = {scale: np.asarray(view.scales[scale]) if small else view.scales[scale] for scale in scales}
        if small:
            self.arrays = {scale: array.astype(np.float32) for scale, array in self.arrays.items()}

    def rows(self, rows: np.ndarray) -> dict[int, Tensor]:
        """One tensor (B, 32, N_r, D) a scale."""
        return {
            scale: torch.from_numpy(np.asarray(array[rows], dtype=np.float32)).to(self.device)
            for scale, array in self.arrays.items()
        }


def draw(rows: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` rows drawn at random (Sect. 4.2): no row twice before all were drawn."""
    rounds = ceil_div(count, len(rows))
    return np.concatenate([generator.permutation(rows) for _ in range(rounds)])[:count]


def statistics(view: SegmentView, scale: int, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of the features of one scale over videos, segments and patches."""
    count, total, squares = 0, 0.0, 0.0
    for row in rows:
        values = np.asarray(view.scales[scale][row], dtype=np.float64)
        values = values.reshape(-1, values.shape[-1])
        count += len(values)
        total = total + values.sum(axis=0)
        squares = squares + (values**2).sum(axis=0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std[std < 1e-6] = 1.0  # a feature that never changes says nothing
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()
