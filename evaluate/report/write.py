"""The report: a folder that opens from disk, without a server and without a network.

index.html        the metrics, and every test video's scores over its ground truth; one self-contained page
metrics.json      the metrics, for programs
scores/<id>.csv   frame,score,label,seconds: one row per frame of the video, frames counted from 0; the label is
                  empty where the dataset has no frame labels for the video, the time where it is not known
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from ssrl.datasets.video import name_label, to_frame_labels
from ssrl.errors import UserError
from ssrl.evaluate.metrics import LOW_FAR_PERCENT, Evaluation
from ssrl.evaluate.protocol import THRESHOLD, VideoScores
from ssrl.evaluate.report import svg
from ssrl.files import natural_key, write_json, write_text


def write_report(
    folder: Path,
    evaluation: Evaluation,
    videos: Sequence[VideoScores],
    *,
    title: str,
    facts: Mapping[str, str],
    metrics: Mapping[str, Any],
    overlays: Mapping[str, Sequence[Path]] | None = None,
) -> Path:
    """Write the report of one evaluation to `folder` and return its `index.html`, which is written last.

    `facts` are shown below the title (checkpoint, store, selection, ...); `metrics` is the content of metrics.json.
    `overlays` are heatmaps by video id, already in `folder`, where the page links to them. Raises a UserError for
    heatmaps outside it or of unknown videos.
    """
    write_json(folder / "metrics.json", dict(metrics))
    return _write_page(folder, videos, overlays, title=title, facts=facts, evaluation=evaluation)


def write_scores(
    folder: Path,
    videos: Sequence[VideoScores],
    *,
    title: str,
    facts: Mapping[str, str],
    overlays: Mapping[str, Sequence[Path]] | None = None,
) -> Path:
    """Like `write_report`, for videos without labels: scores and heatmaps only."""
    return _write_page(folder, videos, overlays, title=title, facts=facts, evaluation=None)


def _write_page(
    folder: Path,
    videos: Sequence[VideoScores],
    overlays: Mapping[str, Sequence[Path]] | None,
    **content: Any,
) -> Path:
    content["overlays"] = _locate_overlays(folder, videos, overlays or {})
    content["merged"] = any(len(video.scores) > svg.MAX_STEPS for video in videos)
    for video in videos:
        write_text(folder / "scores" / f"{video.id}.csv", format_csv(video))
    html = _load_template().render(videos=sorted(videos, key=_rank), **content)
    write_text(folder / "index.html", html)
    return folder / "index.html"


def format_csv(video: VideoScores) -> str:
    """frame,score,label,seconds: one row per frame, frames from 0; scores with the fewest digits that round-trip."""
    texts = [np.format_float_positional(score, unique=True, trim="0") for score in video.scores]
    scores = np.repeat(texts, np.diff(video.frame_bounds))  # (num_frames,)
    if video.has_frame_labels:
        labels = to_frame_labels(video.clipped_anomalies, video.num_frames).tolist()
    else:
        labels = [""] * video.num_frames
    times = [""] * video.num_frames if video.timeline is None else [f"{time:.3f}" for time in video.timeline.starts]
    columns = (map(str, range(video.num_frames)), scores, map(str, labels), times)
    return "\n".join(["frame,score,label,seconds", *map(",".join, zip(*columns, strict=True)), ""])


def _locate_overlays(
    folder: Path, videos: Sequence[VideoScores], overlays: Mapping[str, Sequence[Path]]
) -> dict[str, list[str]]:
    """Video id → paths of its heatmaps, relative to the folder."""
    unknown = sorted(set(overlays) - {video.id for video in videos})
    if unknown:
        raise UserError(f"got heatmaps of {unknown[0]!r}, which is not among the {len(videos)} videos")
    root = folder.resolve()
    links: dict[str, list[str]] = {}
    for video_id, path in ((video_id, path) for video_id, paths in overlays.items() for path in paths):
        resolved = path.resolve()
        if not resolved.is_relative_to(root) or not resolved.is_file():
            raise UserError(f"the heatmap {path} is not a file in the report's folder {folder}; write it there")
        links.setdefault(video_id, []).append(resolved.relative_to(root).as_posix())
    return links


def _rank(video: VideoScores) -> tuple[Any, ...]:
    """Abnormal videos first, by id; videos without a label by their highest score."""
    return -(video.label or 0), -video.highest_score if video.label is None else 0, natural_key(video.id)


def _load_template() -> Template:
    environment = Environment(
        loader=PackageLoader("ssrl.evaluate.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"svg": svg, "half": f"{THRESHOLD:g}", "low_far_percent": LOW_FAR_PERCENT}
    environment.filters |= {
        "clock": _format_clock,
        "commas": "{:,}".format,
        "kind": name_label,
        "percent": _format_percent,
    }
    return environment.get_template("page.html.jinja")


def _format_clock(seconds: float) -> str:
    """75.4 → 1:15; 4210 → 1:10:10."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _format_percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}%"
