"""A synthetic dataset on disk, in ShanghaiTech's layout.

    synth.json, README.txt                  how it was made
    SH_Train.txt, SH_Test.txt               the weakly supervised split, one id per line
    training/videos/01_001.avi              normal videos of both splits
    testing/frames/01_0014/000.jpg ...      abnormal videos of both splits
    testing/test_frame_mask/01_0014.npy     (num_frames,) uint8
    testing/test_pixel_mask/01_0014.npy     (num_frames, H, W) bool

Each video has its own seed, so the processes and their order do not matter.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssrl.datasets.synthetic.codec import (
    STORED_JPEG_QUALITY,
    TRANSIT_JPEG_QUALITY,
    compress_like_camera,
    from_jpeg,
    to_jpeg,
    write_avi,
)
from ssrl.datasets.synthetic.config import DEFAULT_WORKERS, SynthConfig
from ssrl.datasets.synthetic.events import populate
from ssrl.datasets.synthetic.plan import VideoPlan, plan_videos
from ssrl.datasets.synthetic.scene import build_scene
from ssrl.datasets.synthetic.video import Sensor, compute_frame_labels, film
from ssrl.datasets.video import LABELS, SPLITS, Split
from ssrl.errors import UserError
from ssrl.files import TEMPORARY_MARK, replacing, write_json, write_text
from ssrl.plain import list_differences

IDENTITY_FILE = "synth.json"
LIST_FILES: dict[Split, str] = {"train": "SH_Train.txt", "test": "SH_Test.txt"}


@dataclass(frozen=True)
class SynthSummary:
    """The outcome of a run."""

    out: Path
    counts: dict[tuple[Split, int], int]  # videos by split and label
    made: int
    skipped: int  # complete before the run

    def __str__(self) -> str:
        parts = [f"{self.counts[split, label]} {LABELS[label]} {split}" for split in SPLITS for label in LABELS]
        return (
            f"{self.out}: {sum(self.counts.values())} videos ({', '.join(parts)}); "
            f"{self.made} made, {self.skipped} already there"
        )


def synthesize(
    out: Path,
    config: SynthConfig = SynthConfig(),  # noqa: B008 - frozen
    workers: int = DEFAULT_WORKERS,
    on_progress: Callable[[int, int], None] | None = None,
) -> SynthSummary:
    """Make the dataset of `config` in `out`, or complete it.

    `on_progress` receives the number of complete videos and of all videos. Raises a UserError if `out` holds something
    else. An interrupt ends the run after the videos in progress; the next run resumes.
    """
    if workers < 1:
        raise UserError(f"the number of workers is {workers}; it must be at least 1")
    claim(out, config)
    plans = plan_videos(config)
    missing = [plan for plan in plans if not plan.path(out).exists()]
    done = len(plans) - len(missing)
    if on_progress is not None:
        on_progress(done, len(plans))
    for made, _ in enumerate(make_videos(out, config, missing, workers), start=1):
        if on_progress is not None:
            on_progress(done + made, len(plans))
    for split in SPLITS:
        write_text(out / LIST_FILES[split], "".join(f"{plan.id}\n" for plan in plans if plan.split == split))
    write_text(out / "README.txt", make_readme(config, plans))
    counts = {
        (split, label): sum((plan.split, plan.label) == (split, label) for plan in plans)
        for split in SPLITS
        for label in LABELS
    }
    return SynthSummary(out, counts, len(missing), done)


def claim(out: Path, config: SynthConfig) -> None:
    """Claim a new folder for this configuration, or check that it was claimed for the same one."""
    identity_path = out / IDENTITY_FILE
    if not identity_path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is not an empty folder and has no {IDENTITY_FILE}; choose a new folder")
        out.mkdir(parents=True, exist_ok=True)
        write_json(identity_path, config.identity())
        return
    try:
        actual = dict(json.loads(identity_path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as e:
        raise UserError(f"{identity_path} is damaged ({e}); delete {out} or choose another folder") from e
    different = list_differences(config.identity(), actual)
    if different:
        raise UserError(
            f"{out} holds another synthetic dataset (requested, not existing): {'; '.join(different)}. Choose another "
            f"folder or delete this one"
        )


def make_videos(out: Path, config: SynthConfig, plans: list[VideoPlan], workers: int) -> Iterator[str]:
    """Make videos in this or several processes; yields the id of each when it is complete."""
    if workers == 1 or len(plans) < 2:
        for plan in plans:
            yield make_video(out, config, plan)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=ignore_interrupt) as pool:
        futures = [pool.submit(make_video, out, config, plan) for plan in plans]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as e:
            raise UserError(
                "a rendering process was killed, perhaps for lack of memory; run the same command again "
                "with fewer --workers to resume"
            ) from e
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def ignore_interrupt() -> None:
    """Ctrl-C reaches every process of the terminal; let workers finish their videos."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_video(out: Path, config: SynthConfig, plan: VideoPlan) -> str:
    """Render one video with its masks; returns its id."""
    rng = np.random.default_rng([config.seed, 2, plan.scene, plan.number, plan.label])
    seen, recording = plan.conditions, plan.conditions.recording
    scene = build_scene(plan.scene, config.seed, config.height, config.width)
    actors = populate(seen.event, bool(plan.label), scene, recording.num_frames, seen.num_figures, rng)
    sensor = Sensor.draw(recording, scene, rng)
    abnormal_pixels: list[np.ndarray] = []

    def exposed() -> Iterator[np.ndarray]:
        for index, shot in enumerate(film(scene, actors, recording.num_frames)):
            if plan.label:
                abnormal_pixels.append(shot.abnormal_pixels)
            yield sensor.expose(shot.frame, index)

    quality = STORED_JPEG_QUALITY if plan.label else TRANSIT_JPEG_QUALITY
    camera_frames = compress_like_camera(exposed(), config.height, config.width, recording.quantizer)
    recorded = (to_jpeg(frame, quality) for frame in camera_frames)
    if plan.label:
        with replacing_folder(plan.path(out)) as folder:
            write_frames(folder, recorded)
            write_masks(out, plan.id, abnormal_pixels, config.pixel_masks)
    else:
        with replacing(plan.path(out)) as path:
            write_avi(path, (from_jpeg(data) for data in recorded), config.height, config.width)
    return plan.id


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Like `ssrl.files.replacing`, for a new folder; leftovers of killed runs are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f"{path.name}{TEMPORARY_MARK}*"):
        shutil.rmtree(leftover)
    temporary = path.with_name(f"{path.name}{TEMPORARY_MARK}{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_frames(folder: Path, jpegs: Iterable[bytes]) -> None:
    for index, data in enumerate(jpegs):
        (folder / f"{index:03d}.jpg").write_bytes(data)


def write_masks(out: Path, video_id: str, abnormal_pixels: list[np.ndarray], with_pixels: bool) -> None:
    """Write the frame mask, and the pixel mask as a sparse file: only pages with abnormal pixels use disk space."""
    height, width = abnormal_pixels[0].shape
    visible = np.array([int(pixels.sum()) for pixels in abnormal_pixels])
    labels = compute_frame_labels(visible, height * width)
    with replacing(out / "testing" / "test_frame_mask" / f"{video_id}.npy") as path, path.open("wb") as file:
        np.save(file, labels)
    if not with_pixels:
        return
    with replacing(out / "testing" / "test_pixel_mask" / f"{video_id}.npy") as path:
        masks = np.lib.format.open_memmap(path, mode="w+", dtype=np.bool_, shape=(len(labels), height, width))
        for index in np.flatnonzero(labels):
            rows = np.flatnonzero(abnormal_pixels[index].any(axis=1))
            masks[index, rows[0] : rows[-1] + 1] = abnormal_pixels[index][rows[0] : rows[-1] + 1]
        masks.flush()
        del masks


def make_readme(config: SynthConfig, plans: tuple[VideoPlan, ...]) -> str:
    flags = (
        f"--seed {config.seed} --size {config.height}x{config.width} --train {config.num_train} "
        f"--test {config.num_test}" + ("" if config.pixel_masks else " --no-pixel-masks")
    )
    kinds = "".join(f"  {plan.id}  {plan.split:5}  {plan.conditions.event.kind}\n" for plan in plans if plan.label)
    return f"""A synthetic surveillance dataset in ShanghaiTech's layout: drawn figures, no real people.

Made by: ssrl-synth --out DIR {flags}
The same command makes the same frames and masks.

training/videos/            normal videos of both splits, MPEG-4 in AVI
testing/frames/             abnormal videos of both splits, JPEG
testing/test_frame_mask/    (num_frames,) uint8, 1 where the event is visible
testing/test_pixel_mask/    (num_frames, H, W) bool, full resolution, the pixels of the event in those frames
SH_Train.txt, SH_Test.txt   the weakly supervised split

All videos went through the same camera compression (MPEG-4, then JPEG); the AVI files add a finest-quantizer MPEG-4.

Abnormal videos:
{kinds}"""
