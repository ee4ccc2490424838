"""Heatmaps against pixel masks: does the heat lie where the anomaly is?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ssrl.datasets.pixel_masks import PixelMasks, find_pixel_masks
from ssrl.errors import UserError
from ssrl.evaluate.localization import Moment
from ssrl.evaluate.pixels import RASTER, Localization, LocalizationMeter, rasterize
from ssrl.evaluate.protocol import VideoScores
from ssrl.store.reader import Store
from ssrl.workflows.choices import Where
from ssrl.workflows.heat import HeatMaker
from ssrl.workflows.pixels import read_snippets


class Watcher(Protocol):
    """Callbacks of a measurement."""

    def localization_begins(self, num_videos: int) -> None: ...

    def video_localized(self, video_id: str) -> None: ...

    def masks_left_out(self, video_id: str, reason: str) -> None: ...


def measure_localization(
    heat: HeatMaker, store: Store, videos: Sequence[VideoScores], folder: Path | None, watcher: Watcher
) -> dict[Where, Localization]:
    """Measure contributions, and attention if the network has it, on the abnormal videos that have pixel masks in
    `folder`, or beside them. Empty without masks. Raises a UserError if `folder` has none of them.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"the folder of pixel masks {folder} does not exist")
    found = list(_find_masks(videos, folder, watcher))
    if folder is not None and not found:
        raise UserError(
            f"{folder} has pixel masks of no abnormal test video; expected are <id>.npy of (num_frames, H, W), "
            f"a folder <id> or <id>_gt of pictures, or <id>_label.mat"
        )
    kinds: tuple[Where, ...] = ("contribution", "attention") if heat.network.has_attention else ("contribution",)
    meters = {where: LocalizationMeter() for where in kinds}
    watcher.localization_begins(len(found))
    for video, masks in found:
        try:
            _measure_video(heat, store, video, masks, meters)
        except (UserError, OSError) as error:
            watcher.masks_left_out(video.id, str(error))
        watcher.video_localized(video.id)
    return {where: meter.result() for where, meter in meters.items() if meter.num_frames}


def _find_masks(
    videos: Sequence[VideoScores], folder: Path | None, watcher: Watcher
) -> Iterator[tuple[VideoScores, PixelMasks]]:
    for video in (video for video in videos if video.label == 1 and video.record.rows == "snippets"):
        try:
            masks = find_pixel_masks(video.record.video.path, video.id, folder)
        except UserError as error:
            watcher.masks_left_out(video.id, str(error))
            continue
        if masks is None:
            continue
        if len(masks) != video.num_frames:
            reason = f"{masks.path} has {len(masks)} masks, but the video {video.num_frames} frames"
            watcher.masks_left_out(video.id, reason)
        else:
            yield video, masks


def _measure_video(
    heat: HeatMaker,
    store: Store,
    video: VideoScores,
    masks: PixelMasks,
    meters: Mapping[Where, LocalizationMeter],
) -> None:
    with store.open_video(video.id, heat.network.config.scales) as (features, _):
        for snippet, pixels in enumerate(read_snippets(video, heat.geometry)):
            frames = range(*heat.geometry.frame_span(snippet, video.num_frames))
            rasters = {frame: raster for frame in frames if (raster := rasterize(masks[frame])).any()}
            if not rasters:
                continue
            for where, meter in meters.items():
                heats = heat.of(where).make(Moment.of(features, snippet), pixels, RASTER)
                for frame, raster in rasters.items():
                    meter.add(_pick(heats, frame - frames.start, heat.geometry.frames_per_snippet), raster)


def _pick(heats: np.ndarray | None, frame: int, frames_per_snippet: int) -> np.ndarray:
    """The heat of one of a snippet's frames."""
    if heats is None:
        return np.zeros(RASTER, np.float32)
    picked: np.ndarray = heats[frame * len(heats) // frames_per_snippet]
    return picked
