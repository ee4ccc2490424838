"""Other sets from the videos of a store, to see whether a recipe holds: python -m benchmarks.reshape STORE OUT long:4

swapped     trains on the test videos, and tests on the training videos
long:4      videos of four one after the other, of which at most one is abnormal
clips:3     clips of three snippets, normal or mostly anomalous, at most 100 of each kind and split
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import click
import numpy as np

from ssrl.console import results
from ssrl.datasets.video import Intervals, Split
from ssrl.store.layout import StoredVideo, VideoRecord
from ssrl.store.reader import Store
from ssrl.store.writer import StoreWriter

MAX_CLIPS = 100
MIN_ANOMALOUS = 0.5  # share of a clip's frames; clips with fewer, but some, are left out
SPLITS: tuple[Split, ...] = ("train", "test")
SEED = 5


@dataclass(frozen=True)
class Piece:
    """Some snippets of a stored video."""

    store: Store
    record: StoredVideo
    start: int
    stop: int

    @property
    def num_frames(self) -> int:
        return (self.stop - self.start) * self.store.config.geometry.frames_per_snippet

    @property
    def anomalies(self) -> Intervals:
        """In frames of the piece."""
        first = self.start * self.store.config.geometry.frames_per_snippet
        shifted = [(max(0, a - first), min(b - first, self.num_frames)) for a, b in self.record.video.anomalies or ()]
        return tuple((a, b) for a, b in shifted if a < b)

    def read(self) -> dict[int, np.ndarray]:
        """Scale → (T, N_r, D)"""
        return self.store.all_features(self.record.id, self.store.config.scales, self.start, self.stop)


Made = Iterator[tuple[StoredVideo, list[Piece]]]  # a video of the new store, and what it consists of
T = TypeVar("T")


@click.command()
@click.argument("features", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("shape")
def main(features: Path, out: Path, shape: str) -> None:
    """Write the store OUT from the videos of another one."""
    if out.exists():
        raise click.BadParameter(f"{out} exists; name a new folder, or delete it", param_hint="OUT")
    store = Store(features)
    unlabeled = [r.id for r in store.records() if r.video.label and not r.video.anomalies]
    if unlabeled:
        raise click.UsageError(f"{unlabeled[0]} is abnormal but has no frame labels, which tell its parts apart")
    name, _, size = shape.partition(":")
    generator = np.random.default_rng(SEED)
    if name == "swapped":
        videos = swap(store)
    elif name == "long" and size.isdecimal() and int(size):
        videos = join(store, int(size), generator)
    elif name == "clips" and size.isdecimal() and int(size):
        videos = cut(store, int(size), generator)
    else:
        raise click.BadParameter(f"{shape!r}; allowed are swapped, long:N and clips:N", param_hint="SHAPE")
    writer = StoreWriter(out, store.config)
    for record, pieces in videos:
        with writer.video(record.id) as file:
            file.append(gather(pieces))
            file.finish(record)
    results.print(f"store: {out}, {len(Store(out).ids())} videos")


def swap(store: Store) -> Made:
    for record in store.records():
        video = record.video
        other: Split = "test" if video.split == "train" else "train"
        swapped = VideoRecord(record.id, record.num_frames, video.label, other, anomalies=video.anomalies or ())
        yield swapped, [take_whole(store, record)]


def join(store: Store, count: int, generator: np.random.Generator) -> Made:
    """As many videos with one abnormal part as videos without. Each video serves once, so that no part of a training
    video is in another.
    """
    for split in SPLITS:
        abnormal = shuffle([record for record in store.records(split) if record.video.label], generator)
        normal = shuffle([record for record in store.records(split) if not record.video.label], generator)
        each = min(len(abnormal), len(normal) // (2 * count - 1))
        if not each:
            raise click.UsageError(f"long:{count} takes {2 * count - 1} normal and 1 abnormal {split} video")
        for number, record in enumerate(abnormal[:each]):
            around = [normal.pop() for _ in range(count - 1)]
            parts = [take_whole(store, part) for part in shuffle([record, *around], generator)]
            yield join_pieces(f"{split}1-{number:03d}", 1, split, parts)
        for number in range(each):
            parts = [take_whole(store, normal.pop()) for _ in range(count)]
            yield join_pieces(f"{split}0-{number:03d}", 0, split, parts)


def cut(store: Store, count: int, generator: np.random.Generator) -> Made:
    for split in SPLITS:
        clips: dict[int, list[Piece]] = {0: [], 1: []}
        for record in store.records(split):
            for start in range(0, store.num_rows(record.id) - count + 1, count):
                piece = Piece(store, record, start, start + count)
                share = sum(b - a for a, b in piece.anomalies) / piece.num_frames
                if share == 0 or share > MIN_ANOMALOUS:
                    clips[int(share > 0)].append(piece)
        for label, pieces in clips.items():
            for number, piece in enumerate(shuffle(pieces, generator)[:MAX_CLIPS]):
                clip, parts = join_pieces(f"{split}{label}-{number:03d}", label, split, [piece])
                whole = ((0, clip.num_frames),) if label else ()
                yield replace(clip, video=replace(clip.video, anomalies=whole)), parts


def shuffle(items: list[T], generator: np.random.Generator) -> list[T]:
    return [items[i] for i in generator.permutation(len(items))]


def take_whole(store: Store, record: StoredVideo) -> Piece:
    return Piece(store, record, 0, store.num_rows(record.id))


def join_pieces(video_id: str, label: int, split: Split, pieces: list[Piece]) -> tuple[StoredVideo, list[Piece]]:
    """The video that some pieces make one after the other."""
    anomalies: list[tuple[int, int]] = []
    frames = 0
    for piece in pieces:
        anomalies += [(frames + first, frames + last) for first, last in piece.anomalies]
        frames += piece.num_frames
    return VideoRecord(video_id, frames, label, split, anomalies=tuple(anomalies)), pieces


def gather(pieces: list[Piece]) -> dict[int, np.ndarray]:
    """Scale → (T, N_r, D) float32."""
    read = [piece.read() for piece in pieces]
    return {scale: np.concatenate([each[scale] for each in read]).astype(np.float32) for scale in read[0]}


if __name__ == "__main__":
    main()
