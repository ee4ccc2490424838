"""Zones in scores: what a high score owes to ignored places is taken from it.

    logit of the score  −  what ignored places add to it, traced through the encoder  →  score

Blending the features of ignored patches (`ssrl.evaluate.zones`) leaves what the whole frame sees of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

from ssrl.evaluate.events import choose_release
from ssrl.evaluate.localization import Moment
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.zones import Zones
from ssrl.store.reader import Store
from ssrl.workflows.pixels import read_snippets

if TYPE_CHECKING:
    from ssrl.workflows.heat import HeatMaker


logger = logging.getLogger(__name__)
HIGHEST = 1 - 1e-9  # score that a logit is taken of


def take_ignored(score: float, traces: Mapping[int, np.ndarray], zones: Zones, video_id: str) -> float:
    """A snippet's score without what ignored places add to it, given what each place does: (f, y, x) per scale."""
    ignored = sum(float(each[:, ~zones.draw(video_id, *each.shape[1:])].sum()) for each in traces.values())
    return float(expit(logit(min(score, HIGHEST)) - ignored)) if ignored else score


def explain_limit(heat: HeatMaker) -> str:
    """What zones cannot do, where places cannot be told apart within a patch."""
    return f"zones act on patches alone: the whole frame still sees what they ignore, since {heat.explain_coarse()}"


def take_ignored_from_video(video: VideoScores, store: Store, heat: HeatMaker, zones: Zones) -> VideoScores:
    """Lower the scores that are near the threshold or above it, if the video is at hand and its encoder can be traced.

    The scores are those of the blended features.
    """
    geometry = heat.geometry
    if zones.draw(video.id, geometry.height, geometry.width).all():
        return video
    high = set(np.flatnonzero(video.scores >= choose_release(video.threshold)).tolist())
    scores, num_lowered = video.scores.astype(np.float64), 0
    with store.open_video(video.id, heat.network.config.scales) as (features, _):
        watched = zones.apply(video.id, features, heat.network, geometry)
        for snippet, pixels in enumerate(read_snippets(video, geometry) if high else ()):
            if pixels is None or snippet not in high:
                continue
            traces = heat.trace(Moment.of(watched, snippet), pixels, signed=True)
            if traces is not None:
                scores[snippet] = take_ignored(scores[snippet], traces, zones, video.id)
                num_lowered += 1
    if num_lowered < len(high):
        logger.warning(f"{video.id}, {len(high) - num_lowered} snippets with high scores: {explain_limit(heat)}")
    return replace(video, scores=scores)
