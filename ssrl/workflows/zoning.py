"""Zones in scores: what a high score owes to ignored places is taken from it.

    logit of the score  −  what ignored places add to it, traced through the encoder  →  score

Blending the features of ignored patches (`ssrl.evaluate.zones`) leaves what the whole frame sees of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

from ssrl.evaluate.events import RELEASE
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.zones import Zones
from ssrl.store.reader import Store
from ssrl.workflows.pixels import read_snippets

if TYPE_CHECKING:
    from ssrl.workflows.heat import HeatMaker


def take_ignored(video: VideoScores, store: Store, heat: HeatMaker, zones: Zones) -> VideoScores:
    """Lower the scores that are near the threshold or above it, if the video is at hand and its encoder can be traced.

    The scores are those of the blended features.
    """
    geometry = heat.geometry
    if zones.draw(video.id, geometry.height, geometry.width).all():
        return video
    high = set(np.flatnonzero(video.scores >= RELEASE * video.threshold).tolist())
    scores = video.scores.astype(np.float64)
    with store.open_video(video.id, heat.network.config.scales) as (features, _):
        watched = zones.apply(video.id, features, heat.network, geometry)
        for snippet, pixels in enumerate(read_snippets(video, geometry) if high else ()):
            if pixels is None or snippet not in high:
                continue
            for trace in (heat.trace(watched, snippet, pixels, signed=True) or {}).values():
                ignored = ~zones.draw(video.id, *trace.shape[1:])
                scores[snippet] = expit(logit(scores[snippet]) - float(trace[:, ignored].sum()))
    return replace(video, scores=scores)
