"""Heatmaps of a video's snippets: as sharp as what is at hand allows.

the network's contributions (N_r, D) per scale ── traced through the encoder, if the frames are there ──▶ sharp
                                              └─ summed by patch ──▶ as coarse as the patches
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from ssrl.checkpoints import Checkpoint
from ssrl.errors import UserError
from ssrl.evaluate.heatmaps import combine_traces
from ssrl.evaluate.localization import Moment, compute_contributions, compute_heat
from ssrl.extract.encoders import ENCODERS, Encoder
from ssrl.extract.tracing import can_trace, trace_contributions
from ssrl.geometry import Geometry
from ssrl.model.build import Network
from ssrl.store.reader import Store
from ssrl.workflows.choices import Where
from ssrl.workflows.encoders import load_same_encoder

logger = logging.getLogger(__name__)


def make_heat(
    checkpoint: Checkpoint, network: Network, store: Store, where: Where, encoder: Encoder | None = None
) -> HeatMaker:
    """With the encoder of the features, if it is at hand; `encoder` is it, if it is loaded already."""
    known = checkpoint.features is not None and checkpoint.features.config.encoder in ENCODERS
    if encoder is None and where == "contribution" and known:
        try:
            encoder = load_same_encoder(checkpoint, "the checkpoint")
        except UserError as error:
            logger.info(f"heatmaps are as coarse as the patches: {error}")
    return HeatMaker(network, store.config.geometry, where, encoder)


@dataclass(frozen=True)
class HeatMaker:
    """Makes heatmaps of one kind with one network."""

    network: Network
    geometry: Geometry
    where: Where = "contribution"
    encoder: Encoder | None = None  # of the features; None: unknown, as of imported ones

    def of(self, where: Where) -> HeatMaker:
        """The same for another kind of heatmaps."""
        return replace(self, where=where)

    def make(
        self,
        moment: Moment,
        pixels: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
    ) -> np.ndarray | None:
        """One snippet's heatmaps (f, H, W) float32 in 0..1, of `size` or the geometry's, one per L / f frames.

        `pixels` are its frames (L, H, W, 3) uint8; without them, or where the encoder cannot be traced, f is 1 and
        patches are told apart, but not the places in them. None for a network without patches.
        """
        height, width = size or (self.geometry.height, self.geometry.width)
        traces = self.trace(moment, pixels) if self.where == "contribution" and pixels is not None else None
        if traces is not None:
            return combine_traces(traces, height, width)
        heat = compute_heat(self.network, moment, self.geometry, self.where, (height, width))
        return None if heat is None else heat[None]

    def explain_coarse(self) -> str:
        """Why there are no sharp heatmaps, if there are none."""
        if self.encoder is None:
            return "the encoder of the features is not at hand"
        return "the video is not at hand" if can_trace(self.encoder) else f"{self.encoder.name} cannot be traced"

    def trace(self, moment: Moment, pixels: np.ndarray, signed: bool = False) -> dict[int, np.ndarray] | None:
        """What each place raises (if `signed`, also lowers) one snippet's logit by: (f, y, x) per scale; None if the
        encoder cannot be traced.
        """
        if self.encoder is None or not can_trace(self.encoder):
            return None
        contributions = compute_contributions(self.network, moment)
        grids = [self.geometry.grid(scale) for scale in self.network.config.scales]
        return trace_contributions(self.encoder, pixels, contributions, grids, signed)
