"""What the page's script is given of each video: plain values, drawn as a row when it comes into view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ssrl.datasets.video import name_label
from ssrl.errors import UserError
from ssrl.evaluate.events import Event, find_events
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.report import svg
from ssrl.evaluate.report.comparison import measure_change
from ssrl.evaluate.report.media import Media
from ssrl.evaluate.report.outcomes import judge
from ssrl.evaluate.report.wording import format_clock
from ssrl.files import natural_key


def describe_videos(
    folder: Path,
    videos: Sequence[VideoScores],
    media: Mapping[str, Media],
    others: Sequence[VideoScores] | None = None,
) -> list[dict[str, Any]]:
    """One row per video: abnormal ones first, by id; those without a label by their highest score.

    `others` are another run's scores of the same videos, in the same order. Raises a UserError for media of unknown
    videos or outside the folder.
    """
    known = {video.id for video in videos}
    unknown = sorted(set(media) - known)
    if unknown:
        raise UserError(f"got pictures of {unknown[0]!r}, which is not among the {len(videos)} videos")
    names = {video_id: rank for rank, video_id in enumerate(sorted(known, key=natural_key))}
    nothing: list[VideoScores | None] = [None] * len(videos)
    pairs = zip(videos, others or nothing, strict=True)
    rows = [
        {**_describe_video(folder, video, media.get(video.id, Media()), other), "order": names[video.id]}
        for video, other in pairs
    ]
    return sorted(rows, key=_rank)


def _describe_video(folder: Path, video: VideoScores, media: Media, other: VideoScores | None) -> dict[str, Any]:
    events = media.events or find_events(video)
    outcome = judge(video, events)
    return {
        **_describe_scores(video),
        **_describe_time(video),
        "error": None if outcome.error is None else round(outcome.error, 4),
        "outcomes": outcome.kinds,
        "change": None if other is None else round(measure_change(video, other), 6),
        "other_score": None if other is None else round(other.highest_score, 6),
        "strip": svg.draw_strip(video, events, other),
        "events": _describe_events(folder, video, events, outcome.are_true, media.clips),
        "player": media.player and _link(folder, media.player),
        "pictures": [_link(folder, path) for path in media.pictures],
    }


def _rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    is_unlabeled = row["label"] == name_label(None)
    return row["label"] != name_label(1), -row["score"] if is_unlabeled else 0, row["order"]


def _describe_scores(video: VideoScores) -> dict[str, Any]:
    kind = "" if video.label is None else name_label(video.label)
    if video.label and video.category:
        kind += f", {video.category}"
    if video.label and not video.has_frame_labels:
        kind += ", no frame labels"
    return {
        "id": video.id,
        "label": name_label(video.label),
        "class": video.category if video.label else "",
        "kind": kind,
        "score": round(video.highest_score, 6),
        "flagged": round(video.flagged_share, 4),
        "unlike": round(video.distance, 1) if video.is_foreign and video.distance is not None else None,
        "csv": quote(f"scores/{video.id}.csv"),
    }


def _describe_time(video: VideoScores) -> dict[str, Any]:
    """Places are horizontal positions in the strip; `step` is the seconds of one, `snippet` the places of a snippet."""
    axis, time = svg.Axis(video), video.timeline
    about = f"{video.num_frames:,} frames"
    seconds: Sequence[int] = []
    if time is not None:
        about += f", {format_clock(time.end)}"
        seconds = svg.place_second_ticks(time.end)
    is_whole = video.record.rows == "snippets"
    return {
        "about": about,
        "width": axis.width,
        "step": None if time is None else time.step,
        "snippet": video.frames_per_snippet if is_whole else max(1, round(axis.width / len(video.scores))),
        "knots": axis.knots,
        "times": [[_as_percent(second / time.end), format_clock(second)] for second in seconds if time is not None],
        "frames": [
            [_as_percent(axis.place(frame) / axis.width), f"{frame:,}"]
            for frame in svg.place_frame_ticks(video.num_frames)
        ],
    }


def _describe_events(
    folder: Path,
    video: VideoScores,
    events: Sequence[Event],
    are_true: Sequence[bool | None],
    clips: Sequence[Path | None],
) -> list[list[Any]]:
    """Per event: its place in the strip, when it is, its highest score, whether it is true, and its clip."""
    axis, bounds, time = svg.Axis(video), video.frame_bounds, video.timeline
    rows = []
    for event, is_true, clip in zip(events, are_true, clips or [None] * len(events), strict=True):
        start, stop = (int(bounds[each]) for each in (event.start, event.stop))
        if time is None:
            text = f"frames {start:,} to {stop - 1:,}"
        else:
            text = " to ".join(format_clock(float(each)) for each in time.locate(bounds[[event.start, event.stop]]))
        rows.append([axis.place(start), text, round(event.score, 4), is_true, clip and _link(folder, clip)])
    return rows


def _link(folder: Path, path: Path) -> str:
    """The address of a file, relative to the folder."""
    resolved, root = path.resolve(), folder.resolve()
    if not resolved.is_relative_to(root) or not resolved.is_file():
        raise UserError(f"{path} is not a file in the report's folder {folder}; write it there")
    return quote(resolved.relative_to(root).as_posix())


def _as_percent(share: float) -> float:
    return round(100 * share, 2)
