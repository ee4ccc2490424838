"""Batches of training videos from the pooled view of a store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssrl.errors import UserError
from ssrl.geometry import ceil_div
from ssrl.store.reader import Store
from ssrl.store.segments import SegmentView


@dataclass(frozen=True)
class Fold:
    """One of `count` folds of the training videos, counted from 0."""

    index: int
    count: int


@dataclass(frozen=True)
class Bags:
    """The training videos as bags of segments (MIL), normal and abnormal, by index into the view."""

    view: SegmentView
    abnormal: np.ndarray  # indices
    normal: np.ndarray
    held_out: np.ndarray  # indices for validation, both kinds
    held_out_labels: np.ndarray

    def __post_init__(self) -> None:
        for kind, indices in (("abnormal", self.abnormal), ("normal", self.normal)):
            if not len(indices):
                raise UserError(
                    f"no {kind} training video in {self.view.path.parent}; "
                    f"training on video-level labels needs both kinds"
                )

    def __str__(self) -> str:
        held_out = f", {len(self.held_out)} held out" if len(self.held_out) else ""
        return f"{len(self.abnormal)} abnormal and {len(self.normal)} normal videos{held_out}"

    def hold_out(self, fold: Fold, seed: int) -> Bags:
        """Hold out one fold of the training videos. Raises a UserError if there are too few for so many folds."""
        smaller, kind = min((len(self.abnormal), "abnormal"), (len(self.normal), "normal"))
        if smaller < 2:
            raise UserError(f"a cross-validation needs two training videos of each kind, but there is one {kind} video")
        if fold.count > smaller:
            raise UserError(
                f"{fold.count} folds need at least {fold.count} training videos of each kind, but there are only "
                f"{smaller} {kind} ones; give --cv {smaller} or less"
            )
        inside = self.assign_folds(fold.count, seed) == fold.index
        held_out = self.training[inside]
        return Bags(
            self.view,
            abnormal=np.setdiff1d(self.abnormal, held_out),
            normal=np.setdiff1d(self.normal, held_out),
            held_out=held_out,
            held_out_labels=self.training_labels[inside],
        )

    @property
    def training(self) -> np.ndarray:
        return np.concatenate([self.abnormal, self.normal])

    @property
    def training_labels(self) -> np.ndarray:
        return np.concatenate([np.ones(len(self.abnormal), int), np.zeros(len(self.normal), int)])

    def assign_folds(self, count: int, seed: int) -> np.ndarray:
        """Deal the training videos to `count` folds at random, each kind evenly: (V,) in the order of `training`.
        As many folds as the smaller kind has videos, if these are fewer; -1 if that leaves one.
        """
        count = min(count, len(self.abnormal), len(self.normal))
        generator = np.random.default_rng([seed, 3])
        places = [generator.permutation(len(kind)) for kind in (self.abnormal, self.normal)]
        return np.concatenate(places) % count if count > 1 else np.full(len(self.training), -1)


def make_bags(store: Store, view: SegmentView, held_out_fraction: float, seed: int) -> Bags:
    """Split the training videos of `store` into bags, holding out a random fraction of each kind (by `seed`)."""
    labels = {record.id: record.video.label for record in store.records("train")}
    by_label = {label: [i for i, name in enumerate(view.ids) if labels.get(name) == label] for label in (0, 1)}
    generator = np.random.default_rng([seed, 1])
    train: dict[int, np.ndarray] = {}
    held: dict[int, np.ndarray] = {}
    for label, indices in by_label.items():
        shuffled = generator.permutation(np.array(indices, dtype=np.int64))
        count = round(held_out_fraction * len(shuffled))
        if held_out_fraction and len(shuffled) > 1:
            count = min(max(1, count), len(shuffled) - 1)
        held[label], train[label] = np.sort(shuffled[:count]), np.sort(shuffled[count:])
    return Bags(
        view,
        abnormal=train[1],
        normal=train[0],
        held_out=np.concatenate([held[0], held[1]]),
        held_out_labels=np.concatenate([np.zeros(len(held[0]), int), np.ones(len(held[1]), int)]),
    )


def draw(indices: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw `count` indices at random (Sect. 4.2), none again before all have been drawn."""
    rounds = ceil_div(count, len(indices))
    return np.concatenate([generator.permutation(indices) for _ in range(rounds)])[:count]


def draw_halves(
    abnormal: np.ndarray, normal: np.ndarray, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw equally many videos of both kinds: `count`, or as many as the larger kind has."""
    half = min(count, max(len(abnormal), len(normal)))
    return draw(abnormal, half, generator), draw(normal, half, generator)


def compute_statistics(view: SegmentView, scale: int, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of the features of one scale over videos, segments and patches."""
    count, total, squares = 0, 0.0, 0.0
    for index in indices:
        values = np.asarray(view.scales[scale][index], dtype=np.float64)
        values = values.reshape(-1, values.shape[-1])
        count += len(values)
        total = total + values.sum(axis=0)
        squares = squares + (values**2).sum(axis=0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std[std < 1e-6] = 1.0  # a constant feature carries no information
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()
