"""The report: a folder that opens from disk, without a server and without a network.

index.html        what the numbers are, what they mean, and every test video's scores over its ground truth
metrics.json      `Evaluation.to_json()`
scores/<id>.csv   frame,score,label: one row a frame of the video, frames counted from 0; the label is empty
                  where the dataset has no frame labels for the video
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ssrl.datasets.video import kind_of
from ssrl.errors import UserError
from ssrl.evaluate.metrics import THRESHOLD, Curve, Evaluation
from ssrl.evaluate.protocol import VideoScores, frame_arrays
from ssrl.evaluate.report import svg
from ssrl.evaluate.report.page import page
from ssrl.files import natural_key, write_json, write_text

COUNTED = {
    "true": "Each video counts with its true number of frames.",
    "released": "Each video counts up to the end of its last snippet, as in the ground-truth files in common use: "
    "the last label is repeated for the frames that the video does not have.",
}


def write_report(
    folder: Path,
    evaluation: Evaluation,
    videos: Sequence[VideoScores],
    *,
    title: str,
    facts: Mapping[str, str],
    overlays: Mapping[str, Sequence[Path]] | None = None,
) -> Path:
    """Write the report of one evaluation to `folder` and return its `index.html`, which is written last.

    `facts` are named lines below the title (checkpoint, store, selection, ...). `overlays` are pictures by video
    id; they lie in `folder` already, and the page refers to them by their place in it. Raises UserError for
    pictures that do not, or that belong to no video.
    """
    write_json(folder / "metrics.json", evaluation.to_json())
    measured = [
        _opening(evaluation, title, facts),
        _warnings(evaluation),
        _metrics(evaluation),
        _curves(evaluation),
        _classes(evaluation),
    ]
    return _write_page(folder, title, measured, videos, overlays)


def write_scores(
    folder: Path,
    videos: Sequence[VideoScores],
    *,
    title: str,
    facts: Mapping[str, str],
    overlays: Mapping[str, Sequence[Path]] | None = None,
) -> Path:
    """As `write_report`, for videos without labels: their scores and pictures alone."""
    return _write_page(folder, title, [f"<h1>{escape(title)}</h1>", _facts(facts)], videos, overlays)


def _write_page(
    folder: Path,
    title: str,
    opening: list[str],
    videos: Sequence[VideoScores],
    overlays: Mapping[str, Sequence[Path]] | None,
) -> Path:
    pictures = _picture_links(folder, videos, overlays or {})
    for video in videos:
        write_text(folder / _scores_path(video), scores_csv(video))
    write_text(folder / "index.html", page(title, "\n".join([*opening, _videos(videos, pictures)])))
    return folder / "index.html"


def scores_csv(video: VideoScores) -> str:
    """frame,score,label: one row a frame, frames from 0; scores with as many digits as tell them apart."""
    has_labels = video.has_frame_labels
    labels = frame_arrays(video)[1].tolist() if has_labels else [""] * video.num_frames
    texts = [np.format_float_positional(score, unique=True, trim="0") for score in video.scores]
    of_frame = np.repeat(np.arange(len(texts)), np.diff(video.frame_bounds))  # (num_frames,), the row of each frame
    rows = [f"{frame},{texts[of_frame[frame]]},{label}\n" for frame, label in enumerate(labels)]
    return "frame,score,label\n" + "".join(rows)


def _scores_path(video: VideoScores) -> str:
    return f"scores/{video.id}.csv"


def _picture_links(
    folder: Path, videos: Sequence[VideoScores], overlays: Mapping[str, Sequence[Path]]
) -> dict[str, list[str]]:
    """Video id → addresses of its pictures, relative to the page."""
    unknown = sorted(set(overlays) - {video.id for video in videos})
    if unknown:
        raise UserError(f"there are pictures of {unknown[0]!r}, which is not among the {len(videos)} videos")
    links: dict[str, list[str]] = {}
    root = folder.resolve()
    for video_id, paths in overlays.items():
        for path in paths:
            place = path.resolve()
            if not place.is_relative_to(root) or not place.is_file():
                raise UserError(f"the picture {path} is not a file in the report's folder {folder}; write it there")
            links.setdefault(video_id, []).append(quote(place.relative_to(root).as_posix()))
    return links


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}\N{NO-BREAK SPACE}%"


def _opening(evaluation: Evaluation, title: str, facts: Mapping[str, str]) -> str:
    name, value, meaning = _headline(evaluation)
    number = "–" if value is None else f"{100 * value:.2f}<small>%</small>"
    return (
        f"<h1>{escape(title)}</h1>\n"
        f'<section class="card headline"><div><div class="number">{number}</div>'
        f'<div class="name">{name}</div></div>'
        f'<div><p>{meaning}</p><p class="soft">{_counts(evaluation)}</p></div></section>\n'
        f"{_facts(facts)}"
    )


def _facts(facts: Mapping[str, str]) -> str:
    lines = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(text)}</dd></div>" for key, text in facts.items())
    return f'<dl class="facts">{lines}</dl>'


def _headline(evaluation: Evaluation) -> tuple[str, float | None, str]:
    """Name, value and meaning of the first number: frame AUC, or video AUC where there are no frame labels."""
    if evaluation.auc is not None:
        share = f"{100 * evaluation.auc:.1f}"
        return (
            "frame-level AUC",
            evaluation.auc,
            (
                f"Of an anomalous and a normal frame, each drawn at random, the anomalous one has the higher score "
                f"{share} times in 100. Guessing would give 50."
            ),
        )
    reason = escape(evaluation.undefined["auc"])
    if evaluation.video_auc is not None:
        share = f"{100 * evaluation.video_auc:.1f}"
        return (
            "video-level AUC",
            evaluation.video_auc,
            (
                f"Of an abnormal and a normal video, each drawn at random, the abnormal one has the higher peak "
                f"{share} times in 100. Guessing would give 50. There is no frame-level AUC: {reason}."
            ),
        )
    return "frame-level AUC", None, f"The frame-level AUC is not defined: {reason}."


def _counts(evaluation: Evaluation) -> str:
    return (
        f"{evaluation.num_videos:,} test videos, {evaluation.num_abnormal_videos:,} of them abnormal; "
        f"{evaluation.num_frames:,} labelled frames, {evaluation.num_anomalous_frames:,} of them anomalous. "
        f"{COUNTED[evaluation.protocol]}"
    )


def _warnings(evaluation: Evaluation) -> str:
    count = len(evaluation.warnings)
    if not count:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in evaluation.warnings)
    noun = "note" if count == 1 else "notes"
    unfolded = " open" if count <= 3 else ""
    return (
        f'<details class="note"{unfolded}><summary>{count} {noun} on the annotations</summary>'
        f"<ul>{items}</ul></details>"
    )


def _metrics(evaluation: Evaluation) -> str:
    at = f"{THRESHOLD:g}"
    rows = [
        ("auc", "AUC", evaluation.auc, "Area under the ROC curve of all frames together; the number papers report."),
        (
            "auc_abnormal",
            "AUC, abnormal videos",
            evaluation.auc_abnormal,
            "The same on the frames of abnormal videos alone: is the moment found, not only the video?",
        ),
        (
            "video_auc",
            "AUC, videos",
            evaluation.video_auc,
            "The highest score of each video against its label: is the video found?",
        ),
        (
            "ap",
            "AP",
            evaluation.ap,
            "Average precision over all frames. A random score has the share of anomalous frames.",
        ),
        (
            "pr_auc",
            "PR area",
            evaluation.pr_auc,
            "Area under the precision-recall curve by trapezoids, often published under the name AP.",
        ),
        ("far", "False alarms", evaluation.far, f"Share of the frames of normal videos that score {at} or more."),
    ]
    lines = "".join(
        f'<tr><td class="name">{name}</td>{_value_cell(value)}'
        f'<td class="text">{meaning}{_reason(evaluation, key)}</td></tr>'
        for key, name, value, meaning in rows
    )
    return (
        '<h2>Metrics</h2>\n<div class="card wide"><table><thead><tr><th>Metric</th><th class="value">Value</th>'
        f"<th>Meaning</th></tr></thead><tbody>{lines}</tbody></table></div>\n{_operating_points(evaluation)}"
    )


def _value_cell(value: float | None) -> str:
    return f'<td class="value{" none" if value is None else ""}">{_percent(value)}</td>'


def _reason(evaluation: Evaluation, key: str) -> str:
    reason = evaluation.undefined.get(key)
    return f' <span class="none">Not defined here: {escape(reason)}.</span>' if reason else ""


def _operating_points(evaluation: Evaluation) -> str:
    if not evaluation.operating_points:
        return ""
    lines = "".join(
        f'<tr><td class="value">{point.threshold:.6g}</td>{_value_cell(point.far)}'
        f'{_value_cell(point.detection_rate)}<td class="text">{meaning}</td></tr>'
        for point, meaning in zip(
            evaluation.operating_points,
            ("The threshold of the literature.", "The lowest score of these videos with 1 % of false alarms or fewer."),
            strict=False,  # the second point is missing where no score is high enough for it
        )
    )
    return (
        '<h2>Where to set the alarm</h2>\n<div class="card wide"><table><thead><tr><th class="value">Threshold</th>'
        '<th class="value">False alarms</th><th class="value">Anomalous frames found</th><th></th></tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _curves(evaluation: Evaluation) -> str:
    if evaluation.roc is None or evaluation.precision_recall is None:
        return ""
    ends = np.array([0.0, 1.0])
    chance = evaluation.num_anomalous_frames / evaluation.num_frames
    roc = svg.square_plot(evaluation.roc, "false-positive rate", "true-positive rate", Curve(ends, ends), "ROC curve")
    precision_recall = svg.square_plot(
        evaluation.precision_recall, "recall", "precision", Curve(ends, np.full(2, chance)), "Precision-recall curve"
    )
    return (
        f'<h2>Curves</h2>\n<div class="pair"><figure class="card">{roc}<figcaption>ROC over all frames, '
        f"AUC {_percent(evaluation.auc)}. Dashed: chance.</figcaption></figure>\n"
        f'<figure class="card">{precision_recall}<figcaption>Precision and recall over all frames, '
        f"AP {_percent(evaluation.ap)}. Dashed: chance, {_percent(chance)}.</figcaption></figure></div>"
    )


def _classes(evaluation: Evaluation) -> str:
    if not evaluation.per_class:
        return ""
    lines = "".join(
        f'<tr><td class="name">{escape(name)}</td><td class="value none">{result.num_videos:,}</td>'
        f'<td class="value none">{result.num_anomalous_frames:,} / {result.num_frames:,}</td>'
        f"{_value_cell(result.auc)}<td>{_meter(result.auc)}{_reason(evaluation, f'per_class.{name}.auc')}</td>"
        f"{_value_cell(result.auc_with_normal)}</tr>"
        for name, result in evaluation.per_class.items()
    )
    return (
        '<h2>Classes</h2>\n<div class="card wide"><table><thead><tr><th>Class</th><th class="value">Videos</th>'
        '<th class="value">Anomalous frames</th><th class="value">AUC, its videos alone</th><th>50 % marked</th>'
        f'<th class="value">AUC, with all normal videos</th></tr></thead><tbody>{lines}</tbody></table></div>'
    )


def _meter(value: float | None) -> str:
    return "" if value is None else f'<span class="meter"><i style="width:{100 * value:.1f}%"></i></span>'


def _videos(videos: Sequence[VideoScores], pictures: Mapping[str, list[str]]) -> str:
    ranked = sorted(videos, key=_rank)
    rows = "\n".join(_video(video, pictures.get(video.id, [])) for video in ranked)
    merged = any(len(video.scores) > svg.MAX_STEPS for video in videos)
    long_videos = "<span>long videos: lowest and highest score of neighbouring snippets</span>" if merged else ""
    return (
        "<h2>Videos</h2>\n"
        '<div class="tools" hidden><div role="group" aria-label="which videos">'
        '<button value="" aria-pressed="true">All</button><button value="abnormal" aria-pressed="false">Abnormal'
        '</button><button value="normal" aria-pressed="false">Normal</button></div>'
        '<input id="search" type="search" placeholder="Find by id" aria-label="find by id">'
        '<select id="order" aria-label="order"><option value="label">abnormal first</option>'
        '<option value="high">highest score first</option><option value="low">lowest score first</option>'
        '<option value="id">by id</option></select><span id="shown" class="soft" role="status"></span></div>\n'
        '<p class="legend"><span class="is-score">score</span><span class="is-truth">anomalous by ground truth</span>'
        f'<span class="is-threshold">threshold {THRESHOLD:g}</span>{long_videos}</p>\n'
        f'<div id="videos">\n{rows}\n</div>\n<p id="nothing" class="nothing" hidden>No video fits.</p>'
    )


def _rank(video: VideoScores) -> tuple:
    """Abnormal videos first, by id; videos without a label by their highest score."""
    return -(video.label or 0), -video.highest_score if video.label is None else 0, natural_key(video.id)


def _video(video: VideoScores, pictures: Sequence[str]) -> str:
    kind = kind_of(video.label)
    shown_kind = f"{kind}, {video.category}" if video.label and video.category else kind
    unlabelled = "" if video.has_frame_labels or video.label is None else ", no frame labels"
    alarmed = np.mean(frame_arrays(video)[0] >= THRESHOLD) if video.has_frame_labels else None
    share = "" if alarmed is None else f" · {100 * alarmed:.1f} % of frames at {THRESHOLD:g} or more"
    images = "".join(
        f'<a href="{escape(link)}"><img src="{escape(link)}" loading="lazy" alt="attention of {escape(video.id)}"></a>'
        for link in pictures
    )
    return (
        f'<article class="card video {kind}" data-id="{escape(video.id)}" data-score="{video.highest_score:.6f}">'
        f'<header><h3>{escape(video.id)}</h3><span class="kind">{escape(shown_kind)}{unlabelled}</span>'
        f'<span class="about">{_length(video)} · highest score {video.highest_score:.2f}{share} · '
        f'<a href="{quote(_scores_path(video))}">scores</a></span></header>{_plot(video)}'
        f"{f'<div class=overlays>{images}</div>' if images else ''}</article>"
    )


def _length(video: VideoScores) -> str:
    frames = f"{video.num_frames:,} frames"
    return f"{frames}, {_clock(video.num_frames / video.fps)}" if video.fps else frames


def _clock(seconds: float) -> str:
    """75.4 → 1:15; 4210 → 1:10:10."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _plot(video: VideoScores) -> str:
    """The strip with frame numbers below and, where the rate is known, the time above."""
    length = video.num_frames
    below = "".join(_tick("tick", frame / length, f"{frame:,}") for frame in svg.frame_ticks(length))
    if video.fps is None:
        return f'<div class="plot"><div class="box">{svg.strip(video)}</div>{below}</div>'
    seconds = length / video.fps
    above = "".join(_tick("time", at / seconds, _clock(at)) for at in svg.second_ticks(seconds))
    return (
        f'<div class="plot timed">{above}<div class="box" data-fps="{video.fps:g}">{svg.strip(video)}</div>'
        f"{below}</div>"
    )


def _tick(kind: str, share: float, text: str) -> str:
    return f'<span class="{kind}" style="left:{100 * share:.2f}%">{text}</span>'
