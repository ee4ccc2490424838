"""Small feature stores for tests, with an anomaly planted in some patches of some snippets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ssrl.config import StoreConfig
from ssrl.datasets.video import Split
from ssrl.geometry import Geometry
from ssrl.store.layout import StoredVideo, VideoRecord
from ssrl.store.reader import Store
from ssrl.store.writer import StoreWriter

D = 16
CONFIG = StoreConfig("planted", "test", "none", "0" * 64, D, Geometry.with_paper_grids(96, 210))


def write_store(root: Path, videos: int = 16, config: StoreConfig = CONFIG, seed: int = 0) -> Store:
    """Half of the videos are abnormal, half of each kind is for training; the middle third of an abnormal video
    holds the anomaly: one feature of one patch of each scale is raised.
    """
    generator = np.random.default_rng(seed)
    writer = StoreWriter(root, config)
    for index in range(videos):
        record = planted_record(index)
        start, stop = record.video.anomalies[0] if record.video.anomalies else (0, 0)
        with writer.video(record.id) as file:
            features = planted_features(generator, record.num_frames, start // 16, stop // 16, config)
            file.append(features)
            file.finish(record)
    return Store(root)


def planted_record(index: int) -> StoredVideo:
    label, num_frames = index % 2, 16 * 9 - 5 * (index % 3)
    anomalies = ((48, 96),) if label else ()
    split: Split = "train" if index % 4 < 2 else "test"
    return VideoRecord(
        f"folder/video {index:02d}", num_frames, label, split, "planted" * label, 25.0, anomalies=anomalies
    )


def planted_features(
    generator: np.random.Generator, num_frames: int, start: int, stop: int, config: StoreConfig = CONFIG
) -> dict[int, np.ndarray]:
    num_snippets = config.geometry.num_snippets(num_frames)
    features = {scale: generator.normal(size=config.shape(scale, num_snippets)) for scale in config.scales}
    for array in features.values():
        array[start:stop, 0, :4] += 6.0
    return features


def other(config: StoreConfig = CONFIG, **changes: Any) -> StoreConfig:
    return replace(config, **changes)
