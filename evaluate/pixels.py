"""Where in the frame, measured against pixel masks, over the frames in which a pixel is anomalous.

    pixel_auc   area under the ROC curve over the pixels of all these frames: heat against mask
    pointing    the pointing game (Zhang et al., ECCV 2016): the share of these frames whose hottest point lies on an
                anomalous pixel, or within 15 pixels of one in a picture of 480 rows

Heat is that of the frame's snippet, and its highest point is 1 wherever anything is hot. Both are computed on a raster
of 120x210 points. (The pixel-level criterion of Mahadevan et al. (CVPR 2010) is another one: a detection has to cover
40 % of an anomaly.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from scipy import ndimage

RASTER = (120, 210)  # rows, columns
TOLERANCE = 15 / 480  # of the frame's height
LEVELS = 4096  # of heat that the ROC curve tells apart


@dataclass(frozen=True)
class Localization:
    """How well one kind of heatmap finds the place. The two are None where no frame has an anomalous pixel."""

    pixel_auc: float | None
    pointing: float | None
    num_frames: int


@dataclass
class LocalizationMeter:
    """Adds up frames of any number of videos."""

    hits: int = 0
    num_frames: int = 0
    _normal: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS, np.int64))
    _anomalous: np.ndarray = field(default_factory=lambda: np.zeros(LEVELS, np.int64))

    def add(self, heat: np.ndarray, mask: np.ndarray) -> None:
        """One frame: heat in 0..1 and mask, (120, 210) each. Frames without an anomalous pixel are passed over."""
        if not mask.any():
            return
        self.num_frames += 1
        levels = (heat.clip(0, 1) * (LEVELS - 1)).round().astype(np.int64)
        self._anomalous += np.bincount(levels[mask], minlength=LEVELS)
        self._normal += np.bincount(levels[~mask], minlength=LEVELS)
        if heat.max() > 0:
            distances = ndimage.distance_transform_edt(~mask)
            self.hits += bool(distances.flat[heat.argmax()] <= TOLERANCE * RASTER[0])

    def result(self) -> Localization:
        if not self.num_frames:
            return Localization(None, None, 0)
        return Localization(self._compute_auc(), self.hits / self.num_frames, self.num_frames)

    def _compute_auc(self) -> float | None:
        """The share of pairs in which the anomalous pixel is hotter; ties count half."""
        pairs = self._anomalous.sum() * self._normal.sum()
        if not pairs:
            return None
        colder = np.cumsum(self._normal) - self._normal / 2
        return float((self._anomalous * colder).sum() / pairs)


def rasterize(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool → (120, 210) bool: a point is anomalous if at least half of its pixels are, the most anomalous point
    also if fewer, so that small anomalies stay.
    """
    if not mask.any():
        return np.zeros(RASTER, np.bool_)
    image = Image.fromarray(mask.astype(np.float32))
    share = np.asarray(image.resize((RASTER[1], RASTER[0]), Image.Resampling.BOX))
    raster: np.ndarray = share >= min(0.5, share.max())
    return raster
