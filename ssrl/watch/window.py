"""Scores as they come: each snippet in the context of those before it.

    snippets   0 .. 7   8 .......... 39  40  41          window 32: the network sees 10 .. 41 and scores 41;
                             10 ............ 41          the snippets after it, which offline scores see too, are
                                                         still to come

At first, with fewer snippets than the network was trained on, these are spread over as many segments, as in short
videos offline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from ssrl.evaluate.localization import Moment
from ssrl.model.build import Network
from ssrl.model.domain import Domain
from ssrl.store.segments import compute_segment_bounds

Features = Mapping[int, np.ndarray]  # scale → (N_r, D), of one snippet


class Window:
    """The last snippets, as up to `size` segments of so many snippets as in a typical training video: their features,
    and what the network makes of each by itself.
    """

    def __init__(self, network: Network, size: int) -> None:
        self.network = network.requires_grad_(False)
        self.size = size
        self.segment: Features = {}  # the last one
        self._length = round(network.config.segment_length)
        self._device = next(network.parameters()).device
        self._features: deque[Features] = deque(maxlen=max(size, self._length))
        self._embedded: deque[tuple[Tensor, ...]] = deque(maxlen=(size - 1) * self._length + 1)  # after each snippet

    def clear(self) -> None:
        """Begin anew, as after an outage."""
        self._features.clear()
        self._embedded.clear()

    @torch.no_grad()
    def score(self, features: Features) -> float:
        """Take the next snippet's features, and score it."""
        self._features.append(features)
        self.segment = self._average()
        batch = {scale: torch.from_numpy(each)[None, None].to(self._device) for scale, each in self.segment.items()}
        self._embedded.append(tuple(self.network.embed(batch)))
        ends = np.arange(len(self._embedded))[:: -self._length][::-1]
        count, spread_to = len(ends), self.network.config.spread_to
        rows = compute_segment_bounds(count, spread_to)[:-1] if count < spread_to else np.arange(count)
        scores = self.network.relate(self._join(ends[rows])).scores[0].double().cpu().numpy()
        return float(scores[rows == count - 1].mean())

    def get_moment(self) -> Moment:
        """The last snippet among those before it."""
        last = list(self._features)[-self.size :]
        features = {scale: np.stack([each[scale] for each in last]) for scale in last[-1]}
        embedded = self._join(range(len(self._embedded))) if self._length == 1 else None
        return Moment(features, len(last) - 1, embedded)

    def _average(self) -> Features:
        """The mean of the last snippets."""
        parts = list(self._features)[-self._length :]
        return {scale: np.stack([each[scale] for each in parts]).mean(axis=0, dtype=np.float32) for scale in parts[-1]}

    def _join(self, rows: Iterable[int]) -> tuple[Tensor, ...]:
        return tuple(torch.cat([parts[row] for row in rows], dim=1) for parts in zip(*self._embedded, strict=True))


class DomainCheck:
    """Compares the first segments of a camera with the training videos."""

    def __init__(self, domain: Domain | None, num_snippets: int) -> None:
        self._domain = domain
        self._num_snippets = num_snippets
        self._coordinates: list[Tensor] = []

    def add(self, features: Features) -> float | None:
        """Returns the distance, once there are enough snippets: above 1, they are unlike the training videos."""
        if self._domain is None or len(self._coordinates) == self._num_snippets:
            return None
        snippet = {scale: torch.from_numpy(each.astype(np.float32))[None] for scale, each in features.items()}
        self._coordinates.append(self._domain.project(snippet))
        if len(self._coordinates) < self._num_snippets:
            return None
        return self._domain.measure(torch.cat(self._coordinates))
