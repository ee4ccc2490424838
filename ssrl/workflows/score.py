"""Unlabeled videos + checkpoint → scores, events, overlays, clips, a page."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssrl.config import check_false_alarms
from ssrl.hardware import Device
from ssrl.workflows.choices import Where
from ssrl.workflows.encoders import load_same_encoder

if TYPE_CHECKING:
    from ssrl.checkpoints import Checkpoint
    from ssrl.datasets.video import Video
    from ssrl.evaluate.protocol import VideoScores
    from ssrl.evaluate.report.media import Media
    from ssrl.extract.pipeline import ExtractionWatcher
    from ssrl.workflows.events import LocatedEvent
    from ssrl.workflows.media import VideoMedia

FOREIGN_ADVICE = "train on videos of this camera, or add some to the training set"


@dataclass(frozen=True)
class ScoreRequest:
    """Which videos (files or folders of frames) to score with which checkpoint, and where to write the results."""

    videos: Sequence[str | PathLike[str]]
    checkpoint: str | PathLike[str] | Checkpoint
    out: str | PathLike[str]
    weights: str | None = None  # file of the encoder's weights; None: as in the checkpoint
    false_alarms: float = 0.01  # share of a normal video's snippets that may raise an alarm
    where: Where = "contribution"  # what the heatmaps show
    device: Device = "auto"
    pictures: bool = True  # heatmaps over frames
    overlay: bool = True  # each video with its heat and its score
    clips: bool = True  # each event as a part of its video
    zones: Path | None = None  # file of parts of the frame to watch or to ignore

    def __post_init__(self) -> None:
        check_false_alarms(self.false_alarms)


@dataclass(frozen=True)
class ScoreResult:
    """The scores of all readable videos, in the order of the request, and the page that shows them."""

    videos: tuple[VideoScores, ...]
    failed: Mapping[str, str]  # id → reason
    page: Path | None  # None if no video was readable
    events: Mapping[str, tuple[LocatedEvent, ...]] = field(default_factory=dict)  # by id

    def to_json(self) -> dict[str, Any]:
        """The content of scores.json."""
        return {
            "videos": [
                {
                    "id": video.id,
                    "highest_score": video.highest_score,
                    "threshold": video.threshold,
                    "share_above_threshold": video.flagged_share,
                    "distance": video.distance,  # from the training videos; above 1: unlike them
                    "unlike_training": video.is_foreign,
                    "advice": FOREIGN_ADVICE if video.is_foreign else None,
                    "events": [event.to_json() for event in self.events.get(video.id, ())],
                }
                for video in self.videos
            ],
            "failed": dict(self.failed),
        }


def score_videos(request: ScoreRequest, watcher: ExtractionWatcher | None = None) -> ScoreResult:
    """Extract features of new videos like those that the checkpoint was trained on, and score every snippet.

    Features already in `out` are reused. Raises a UserError if the checkpoint's encoder is not available.
    """
    from ssrl.checkpoints import Checkpoint, load_checkpoint
    from ssrl.datasets.video import Dataset
    from ssrl.evaluate.protocol import THRESHOLD
    from ssrl.evaluate.scoring import score_video
    from ssrl.evaluate.zones import load_zones
    from ssrl.extract.pipeline import ExtractionWatcher, extract_videos
    from ssrl.extract.runtimes import choose_runtime
    from ssrl.files import check_output, write_json
    from ssrl.hardware import choose_device
    from ssrl.store.reader import Store
    from ssrl.store.writer import StoreWriter
    from ssrl.workflows.heat import make_heat
    from ssrl.workflows.media import MediaKinds, write_media
    from ssrl.workflows.zoning import take_ignored_from_video

    checkpoint, name, out = request.checkpoint, "the checkpoint", Path(request.out)
    check_output(out / "scores.json")
    zones = None if request.zones is None else load_zones(request.zones)
    if not isinstance(checkpoint, Checkpoint):
        checkpoint, name = load_checkpoint(checkpoint), str(checkpoint)
    encoder = load_same_encoder(checkpoint, name, request.weights)
    assert checkpoint.features is not None
    config = checkpoint.features.config.with_scales(checkpoint.model.scales)
    settings = choose_runtime(encoder, device=request.device, precision=config.precision)
    videos = find_videos([Path(path) for path in request.videos])
    dataset = Dataset("new videos", videos)
    watcher = watcher or ExtractionWatcher()
    watcher.run_begins(dataset, str(settings), len(videos))
    writer = StoreWriter(out / "features", config)
    summary = extract_videos(dataset.videos, writer, settings.make_runtimes(config.geometry), watcher)
    network, store = checkpoint.build_network(choose_device(request.device)), Store(writer.root)
    threshold = checkpoint.get_threshold(request.false_alarms) or THRESHOLD
    watch = None if zones is None else partial(zones.apply, network=network, geometry=config.geometry)
    scored = tuple(
        score_video(network, store, store.record(video.id), threshold, checkpoint.domain, watch)
        for video in videos
        if video.id not in summary.failed
    )
    heat = make_heat(checkpoint, network, store, request.where, encoder)
    if zones is not None:
        scored = tuple(take_ignored_from_video(video, store, heat, zones) for video in scored)
    facts = {
        "checkpoint": name,
        "encoder": f"{config.encoder}, weights {config.weights}",
        "threshold": describe_threshold(checkpoint, request.false_alarms),
    }
    if foreign := sum(video.is_foreign for video in scored):
        facts["unlike the training videos"] = f"{foreign} of {len(scored)}; {FOREIGN_ADVICE}"
    if zones is not None:
        facts["zones"] = ", ".join(f"{zone.name} ({zone.mode})" for zone in zones.zones)
    made: dict[str, VideoMedia] = {}
    page = None
    if scored:
        kinds = MediaKinds(request.pictures, request.overlay, request.clips)
        made = write_media(out, store, scored, checkpoint, heat, kinds, zones)
        page = _write_page(out, scored, facts, {video_id: each.media for video_id, each in made.items()})
    events = {video_id: each.events for video_id, each in made.items()}
    result = ScoreResult(scored, summary.failed, page, events)
    write_json(out / "scores.json", result.to_json())
    return result


def describe_threshold(checkpoint: Checkpoint, false_alarms: float) -> str:
    from ssrl.evaluate.protocol import THRESHOLD

    threshold = checkpoint.get_threshold(false_alarms)
    if threshold is None or checkpoint.calibration is None:
        return f"{THRESHOLD:g}, not measured: no training video was held out"
    return (
        f"{threshold:.3g}, which at most {100 * false_alarms:g}% of the snippets of "
        f"{checkpoint.calibration.num_normal} held-out normal training videos reached"
        f"{' (rough: they are few)' if checkpoint.calibration.is_rough else ''}"
    )


def find_videos(paths: Sequence[Path]) -> tuple[Video, ...]:
    """Find unlabeled videos: files, folders of frames, and all videos below other folders. A video's id is its path
    below the folder that all have in common, without the suffix. Videos named twice are taken once.
    """
    from ssrl.datasets.manifest import VIDEO_SUFFIXES
    from ssrl.datasets.video import Video

    found = [video for path in paths for video in _list_videos(Path(os.path.abspath(path)), VIDEO_SUFFIXES)]
    unique = list(dict.fromkeys(found))
    common = Path(os.path.commonpath([path.parent for path in unique]))
    ids = {path: "/".join(map(_make_portable, path.relative_to(common).parts)) for path in unique}
    stems = {path: name if path.is_dir() else name[: len(name) - len(path.suffix)] for path, name in ids.items()}
    counts = Counter(stems.values())
    # gate.mp4 and gate.avi keep their suffixes
    return tuple(Video(stem if counts[stem] == 1 else ids[path], path, None, "test") for path, stem in stems.items())


def _make_portable(name: str) -> str:
    """Write bytes that are not UTF-8, and control characters, as %FF; shorten what would be too long for an id."""
    from ssrl.datasets.video import MAX_PART_BYTES

    name = "".join(
        f"%{ord(char) & 0xFF:02X}" if 0xDC80 <= ord(char) <= 0xDCFF or ord(char) < 32 else char for char in name
    )
    if len(name.encode()) <= MAX_PART_BYTES:
        return name
    end = f"~{hashlib.sha256(name.encode()).hexdigest()[:8]}{Path(name).suffix}"
    return name.encode()[: MAX_PART_BYTES - len(end.encode())].decode(errors="ignore") + end


def _list_videos(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """A file or folder of frames is one video; another folder stands for the video files below it."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.name[0] != ".")
    return files or [path]


def _write_page(out: Path, videos: Sequence[VideoScores], facts: Mapping[str, str], media: Mapping[str, Media]) -> Path:
    from ssrl.evaluate.report.write import write_scores

    return write_scores(out, videos, title="Anomaly scores", facts=facts, media=media)
