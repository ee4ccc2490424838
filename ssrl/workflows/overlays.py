"""Heatmaps over the frames of a video's most suspicious snippets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ssrl.evaluate.heatmaps import draw_overlay
from ssrl.evaluate.localization import compute_heat
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.scoring import select_top_snippets
from ssrl.extract.readers import open_reader
from ssrl.extract.snippets import resize
from ssrl.faults import describe_error
from ssrl.files import replacing
from ssrl.model.build import Network
from ssrl.store.reader import Store
from ssrl.workflows.choices import Where

logger = logging.getLogger(__name__)
HEATMAPS_PER_VIDEO = 3
JPEG_QUALITY = 88
HEATMAP_FOLDER = "heatmaps"


def write_overlays(
    folder: Path, network: Network, store: Store, videos: Sequence[VideoScores], where: Where = "contribution"
) -> dict[str, list[Path]]:
    """Write heatmaps to `folder`/heatmaps; returns their paths by video id. Missing videos are skipped with a warning.

    `where` is "contribution" (to the score) or "attention" (of PSR, as in Fig. 6).
    """
    imported = {video.id for video in videos if video.record.imported}
    if imported:
        logger.info(f"no heatmaps for {len(imported)} videos: their features were imported without the videos")
    heatmaps = {}
    for video in (video for video in videos if video.id not in imported):
        try:
            heatmaps[video.id] = _draw_video(folder / HEATMAP_FOLDER, network, store, video, where)
        except Exception as error:  # of this video alone
            logger.warning(f"no heatmaps for {video.id}: {describe_error(error)}")
    return heatmaps


def _draw_video(folder: Path, network: Network, store: Store, video: VideoScores, where: Where) -> list[Path]:
    geometry = store.config.geometry
    snippets = select_top_snippets(video.scores, HEATMAPS_PER_VIDEO)
    bounds = video.frame_bounds
    middles = [int(bounds[snippet] + bounds[snippet + 1]) // 2 for snippet in snippets]
    frames = _read_frames(video.record.video.path, middles)
    written = []
    for frame_index, snippet in zip(middles, snippets, strict=True):
        with store.open_video(video.id, network.config.scales) as (features, _):
            heat = compute_heat(network, features, snippet, geometry, where)
        if frame_index not in frames or heat is None:
            continue
        frame = resize(frames[frame_index], geometry.height, geometry.width)
        score = float(video.scores[snippet])
        name = "".join(char if char.isprintable() else "?" for char in video.id)
        image = draw_overlay(frame, heat, score, f"{name}  frame {frame_index}  score {score:.2f}")
        path = folder / f"{video.id}-{frame_index:06d}.jpg"
        with replacing(path) as temporary:
            Image.fromarray(image).save(temporary, format="JPEG", quality=JPEG_QUALITY)
        written.append(path)
    return written


def _read_frames(source: Path, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """Read the frames at `indices`, in order up to the last one."""
    frames = {}
    with open_reader(source) as reader:
        for index, frame in enumerate(reader.frames()):
            if index in indices:
                frames[index] = frame
            if index >= max(indices):
                break
    return frames
