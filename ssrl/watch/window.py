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
    """The last `size` snippets: their features, and what the network makes of each by itself."""

    def __init__(self, network: Network, size: int) -> None:
        self.network = network.requires_grad_(False)
        self.size = size
        self._device = next(network.parameters()).device
        self._features: deque[Features] = deque(maxlen=size)
        self._embedded: deque[tuple[Tensor, ...]] = deque(maxlen=size)

    def clear(self) -> None:
        """Begin anew, as after an outage."""
        self._features.clear()
        self._embedded.clear()

    @torch.no_grad()
    def score(self, features: Features) -> float:
        """Take the next snippet's features, and score it."""
        batch = {
            scale: torch.from_numpy(each.astype(np.float32))[None, None].to(self._device)
            for scale, each in features.items()
        }
        self._features.append(features)
        self._embedded.append(tuple(self.network.embed(batch)))
        count, spread_to = len(self._embedded), self.network.config.spread_to
        rows = compute_segment_bounds(count, spread_to)[:-1] if count < spread_to else np.arange(count)
        scores = self.network.relate(self._join(rows)).scores[0].double().cpu().numpy()
        return float(scores[rows == count - 1].mean())

    def get_moment(self) -> Moment:
        """The last snippet among those before it."""
        features = {scale: np.stack([each[scale] for each in self._features]) for scale in self._features[-1]}
        return Moment(features, len(self._features) - 1, self._join(range(len(self._embedded))))

    def _join(self, rows: Iterable[int]) -> tuple[Tensor, ...]:
        return tuple(torch.cat([parts[row] for row in rows], dim=1) for parts in zip(*self._embedded, strict=True))


class DomainCheck:
    """Compares the first snippets of a camera with the training videos."""

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
