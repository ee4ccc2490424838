"""The report: a folder that opens from disk, without a server and without a network.

index.html        the metrics, and every test video's scores over its ground truth; needs only the files beside it
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

from ssrl.datasets.video import to_frame_labels
from ssrl.evaluate.metrics import LOW_FAR_PERCENT, Evaluation
from ssrl.evaluate.pixels import Localization
from ssrl.evaluate.protocol import THRESHOLD, VideoScores
from ssrl.evaluate.report import figures, svg, wording
from ssrl.evaluate.report.comparison import Comparison, subtract_metrics
from ssrl.evaluate.report.distribution import count_scores
from ssrl.evaluate.report.media import Media
from ssrl.evaluate.report.outcomes import OUTCOMES
from ssrl.evaluate.report.rows import describe_videos
from ssrl.files import write_json, write_text


def write_report(
    folder: Path,
    evaluation: Evaluation,
    videos: Sequence[VideoScores],
    *,
    title: str,
    facts: Mapping[str, str],
    metrics: Mapping[str, Any],
    media: Mapping[str, Media] | None = None,
    compared: Comparison | None = None,
    localization: Mapping[str, Localization] | None = None,
) -> Path:
    """Write the report of one evaluation to `folder` and return its `index.html`, which is written last.

    `facts` are shown below the title (checkpoint, store, selection, ...); `metrics` is the content of metrics.json.
    `media` are pictures, players and clips by video id, already in `folder`, where the page links to them; `compared`
    is another run on the same videos, `localization` how well each kind of heatmap finds the place. Raises a UserError
    for media outside the folder or of unknown videos.
    """
    write_json(folder / "metrics.json", dict(metrics))
    content = {"title": title, "facts": facts, "localization": localization or {}}
    return _write_page(folder, videos, media, evaluation=evaluation, compared=compared, **content)


def write_scores(
    folder: Path,
    videos: Sequence[VideoScores],
    *,
    title: str,
    facts: Mapping[str, str],
    media: Mapping[str, Media] | None = None,
) -> Path:
    """Like `write_report`, for videos without labels: scores, events and media only."""
    return _write_page(folder, videos, media, title=title, facts=facts, evaluation=None, compared=None)


def _write_page(
    folder: Path,
    videos: Sequence[VideoScores],
    media: Mapping[str, Media] | None,
    *,
    evaluation: Evaluation | None,
    compared: Comparison | None,
    **content: Any,
) -> Path:
    rows = describe_videos(folder, videos, media or {}, compared.videos if compared else None)
    counts = {kind: sum(kind in row["outcomes"] for row in rows) for kind in OUTCOMES}
    content |= {
        "evaluation": evaluation,
        "compared": compared,
        "differences": subtract_metrics(evaluation, compared.evaluation) if evaluation and compared else {},
        "rows": rows,
        "classes": sorted({row["class"] for row in rows if row["class"]}),
        "outcomes": [(kind, OUTCOMES[kind], count) for kind, count in counts.items() if count],
        "distribution": count_scores(videos),
        "threshold": videos[0].threshold,
        "merged": any(len(video.scores) > svg.MAX_STEPS for video in videos),
    }
    for video in videos:
        write_text(folder / "scores" / f"{video.id}.csv", format_csv(video))
    write_text(folder / "index.html", _load_template().render(**content))
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


def _load_template() -> Template:
    environment = Environment(
        loader=PackageLoader("ssrl.evaluate.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"figures": figures, "half": f"{THRESHOLD:g}", "low_far_percent": LOW_FAR_PERCENT}
    environment.filters |= {
        "commas": "{:,}".format,
        "percent": wording.format_percent,
        "points": wording.format_points,
    }
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return environment.get_template("page.html.jinja")
