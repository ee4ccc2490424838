"""Snippets as they come → scores, and where in the frame they come from.

pixels ──encoder──▶ features ──zones──▶ window of the last snippets ──network──▶ score
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ssrl.config import StoreConfig
from ssrl.evaluate.localization import Moment
from ssrl.evaluate.zones import WatchedFeatures, Zones
from ssrl.extract.reuse import StaticReuse
from ssrl.extract.runtimes import Runtime
from ssrl.hardware import one_thread
from ssrl.model.domain import Domain
from ssrl.watch.pictures import MakeHeat
from ssrl.watch.window import DomainCheck, Window
from ssrl.workflows.heat import HeatMaker
from ssrl.workflows.zoning import take_ignored


@dataclass(frozen=True)
class CameraZones:
    """The zones of one camera, and the score from which on what ignored places add is taken away."""

    zones: Zones
    camera: str
    from_score: float


class LiveScorer:
    """Scores the snippets of one camera."""

    def __init__(
        self,
        runtime: Runtime,
        config: StoreConfig,
        window: Window,
        heat: HeatMaker,
        domain: Domain | None,
        zones: CameraZones | None = None,
    ) -> None:
        self.geometry = config.geometry
        self._runtime = runtime
        self._config = config
        self._window = window
        self._heat = heat
        self._domain = DomainCheck(domain, window.size)
        self._zones = zones
        self._watched: Mapping[int, WatchedFeatures] | None = None  # the patches' shares, and the latest features
        self._warm_up()
        self.clear()

    def clear(self) -> None:
        """Begin anew, as after an outage."""
        self._reuse = StaticReuse(self._runtime) if self._config.reuse_static else None
        self._window.clear()

    def score(self, pixels: np.ndarray) -> tuple[float, float | None]:
        """Score the next snippet (L, H, W, 3) uint8. Also returns the camera's distance from the training videos, once
        there are enough snippets.
        """
        features = self._encode(pixels)
        with one_thread():
            score = self._window.score(features)
            if self._zones is not None and score >= self._zones.from_score:
                trace = self._heat.trace(self._window.get_moment(), pixels, signed=True)
                score = take_ignored(score, trace or {}, self._zones.zones, self._zones.camera)
        return score, self._domain.add(self._window.segment)

    def make_heat(self) -> np.ndarray | None:
        """Where in the last snippet, as coarse as the patches: (H, W) in 0..1; None for a network without patches."""
        return self._make_heat(self._window.get_moment(), None)

    def prepare_sharp_heat(self, pixels: np.ndarray) -> MakeHeat:
        """What makes the sharp heatmap of the last snippet, at its middle, also later and in another thread."""
        return partial(self._make_heat, self._window.get_moment(), pixels)

    def _encode(self, pixels: np.ndarray) -> Mapping[int, np.ndarray]:
        """One array (N_r, D) per scale, as the features of the checkpoint were made."""
        encoded = self._reuse.encode(pixels) if self._reuse else self._runtime.encode_snippets(pixels[None])
        features = {scale: each.astype(self._config.dtype) for scale, each in encoded.items()}
        if self._zones is not None:
            self._watched = self._watch(self._zones, features)
            features = {scale: each[:] for scale, each in self._watched.items()}
        return {scale: each[0] for scale, each in features.items()}

    def _watch(self, zones: CameraZones, features: Mapping[int, np.ndarray]) -> Mapping[int, WatchedFeatures]:
        if self._watched is not None:
            return {scale: replace(each, features=features[scale]) for scale, each in self._watched.items()}
        return zones.zones.apply(zones.camera, features, self._window.network, self.geometry)

    def _make_heat(self, moment: Moment, pixels: np.ndarray | None) -> np.ndarray | None:
        with one_thread():
            heats = self._heat.make(moment, pixels)
        return None if heats is None else heats[len(heats) // 2]

    def _warm_up(self) -> None:
        """Compile what is compiled on first use, before a camera's frames queue up."""
        geometry = self.geometry
        blank = np.zeros((1, geometry.frames_per_snippet, geometry.height, geometry.width, 3), np.uint8)
        self._window.score({scale: each[0] for scale, each in self._runtime.encode_snippets(blank).items()})
        self._make_heat(self._window.get_moment(), blank[0])
