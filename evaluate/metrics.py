"""How good the scores are: one `Evaluation` from the scores of all test videos (Sect. 4.1).

    auc           area under the ROC curve of all test frames together; the number that papers report
    ap            average precision: scikit-learn's `average_precision_score`, a sum of steps
    pr_auc        area under the precision-recall curve by trapezoids, which most repositories call AP
    auc_abnormal  as `auc`, on the frames of abnormal videos alone
    video_auc     the highest snippet score of each video against the video's label; needs no frame labels
    far           share of the frames of normal videos that score 0.5 or more (a false alarm), 0..1
    per_class     for each class of abnormal videos, `auc` on the videos of that class alone and, as
                  `auc_with_normal`, on those and all normal videos

Every frame counts once; equal scores count half, as always in an ROC area. A metric that is not defined is
None, and `undefined` tells why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sklearn.metrics import auc as trapezoid
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from ssrl.datasets.video import LABELS
from ssrl.errors import UserError
from ssrl.evaluate.protocol import (
    Protocol,
    VideoScores,
    annotation_warnings,
    check_protocol,
    frame_arrays,
    length_warnings,
)

THRESHOLD = 0.5  # of the false-alarm rate, as the literature reports it
LOW_FAR_PERCENT = 1  # the second operating point allows this many false alarms in 100 normal frames
CURVE_STEP = 1 / 400  # curves are kept for pictures: one point for this much of their length


@dataclass(frozen=True, eq=False)
class Curve:
    """The points of a curve: (P,) each, x from 0 to 1."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class OperatingPoint:
    """What happens where a frame raises the alarm from `threshold` on."""

    threshold: float
    far: float  # share of the frames of normal videos that raise it
    detection_rate: float | None  # share of the anomalous frames that raise it; None without any


@dataclass(frozen=True)
class ClassResult:
    """The abnormal videos of one class; None where the frames are all of one kind."""

    num_videos: int
    num_frames: int
    num_anomalous_frames: int
    auc: float | None
    auc_with_normal: float | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The metrics of one checkpoint on one test set. Rates and areas lie in 0..1."""

    protocol: Protocol
    num_videos: int
    num_abnormal_videos: int
    num_frames: int
    num_anomalous_frames: int
    auc: float | None
    ap: float | None
    pr_auc: float | None
    auc_abnormal: float | None
    video_auc: float | None
    far: float | None
    operating_points: tuple[OperatingPoint, ...]  # at 0.5, and at the lowest threshold with far <= 1 %
    per_class: dict[str, ClassResult]
    undefined: dict[str, str]  # metric: reason
    without_frame_labels: tuple[str, ...]  # ids of abnormal videos that no frame metric can count
    warnings: tuple[str, ...]
    roc: Curve | None  # false-positive rate → true-positive rate; thinned for drawing
    precision_recall: Curve | None  # recall → precision; thinned for drawing

    def to_json(self) -> dict[str, Any]:
        """All but the curves, in plain types."""
        names = [field.name for field in fields(self) if field.name not in ("roc", "precision_recall")]
        return {name: getattr(self, name) for name in names} | {
            "operating_points": [vars(point) for point in self.operating_points],
            "per_class": {name: vars(result) for name, result in self.per_class.items()},
            "without_frame_labels": list(self.without_frame_labels),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False)
class _Frames:
    """Frames of several videos in a row."""

    scores: np.ndarray  # (F,) float64
    labels: np.ndarray  # (F,) uint8

    @classmethod
    def of(cls, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> _Frames:
        if not pairs:
            return cls(np.zeros(0), np.zeros(0, dtype=np.uint8))
        scores, labels = zip(*pairs, strict=True)
        return cls(np.concatenate(scores), np.concatenate(labels))

    @property
    def num_anomalous(self) -> int:
        return int(self.labels.sum())

    @property
    def one_kind(self) -> str | None:
        """Why no ROC is defined on these frames, or None where one is."""
        if len(self.labels) == 0:
            return "there are no such frames"
        if self.num_anomalous in (0, len(self.labels)):
            return f"all {len(self.labels):,} frames are {'anomalous' if self.num_anomalous else 'normal'}"
        return None

    def auc(self) -> float | None:
        return None if self.one_kind else float(roc_auc_score(self.labels, self.scores))


def evaluate(videos: Sequence[VideoScores], protocol: Protocol = "true") -> Evaluation:
    """All metrics of the module's docstring.

    Raises UserError where there are no videos, where an id comes twice, and for an unknown protocol.
    """
    _check(videos, protocol)
    judged = [video for video in videos if video.has_frame_labels]
    pairs = {video.id: frame_arrays(video, protocol) for video in judged}
    every = _Frames.of(list(pairs.values()))
    abnormal = _Frames.of([pairs[video.id] for video in judged if video.label == 1])
    normal = _Frames.of([pairs[video.id] for video in judged if video.label == 0])
    highest = _Frames(
        np.array([video.highest_score for video in videos]),
        np.array([video.label for video in videos], dtype=np.uint8),
    )
    per_class = _per_class(judged, pairs, normal)
    without = tuple(video.id for video in videos if not video.has_frame_labels)
    undefined = _undefined(videos, every, abnormal, normal, per_class)
    pr = None if every.one_kind else _precision_recall(every)

    return Evaluation(
        protocol=protocol,
        num_videos=len(videos),
        num_abnormal_videos=highest.num_anomalous,
        num_frames=len(every.labels),
        num_anomalous_frames=every.num_anomalous,
        auc=every.auc(),
        ap=None if every.one_kind else float(average_precision_score(every.labels, every.scores)),
        pr_auc=None if pr is None else float(trapezoid(pr.x, pr.y)),
        auc_abnormal=abnormal.auc(),
        video_auc=highest.auc(),
        far=_share(normal.scores, THRESHOLD),
        operating_points=_operating_points(every, normal),
        per_class=per_class,
        undefined=undefined,
        without_frame_labels=without,
        warnings=_warnings(videos, without),
        roc=None if every.one_kind else _thinned(Curve(*roc_curve(every.labels, every.scores)[:2])),
        precision_recall=None if pr is None else _thinned(pr),
    )


def _check(videos: Sequence[VideoScores], protocol: Protocol) -> None:
    check_protocol(protocol)
    if not videos:
        raise UserError("there are no videos to evaluate; the test split is empty")
    unlabeled = [video.id for video in videos if video.label is None]
    if unlabeled:
        names = ", ".join(unlabeled[:5])
        raise UserError(f"{len(unlabeled)} videos have no label, so that nothing can be measured: {names}")
    twice = sorted(name for name, count in Counter(video.id for video in videos).items() if count > 1)
    if twice:
        raise UserError(f"{len(twice)} ids stand for two videos: {', '.join(twice[:5])}; pass each video once")


def _undefined(
    videos: Sequence[VideoScores],
    every: _Frames,
    abnormal: _Frames,
    normal: _Frames,
    per_class: dict[str, ClassResult],
) -> dict[str, str]:
    """Metric → the reason why it is None (empty, for `per_class`)."""
    no_normal, no_abnormal = (f"there are no {kind} videos" for kind in LABELS.values())
    num_abnormal = sum(video.label == 1 for video in videos)
    missing = "" if len(abnormal.labels) else "no abnormal video has frame labels" if num_abnormal else no_abnormal
    reasons: dict[str, str] = {}
    if every.one_kind:
        reasons |= dict.fromkeys(("auc", "ap", "pr_auc"), missing or every.one_kind)
    if abnormal.one_kind:
        reasons["auc_abnormal"] = missing or f"{abnormal.one_kind} in the abnormal videos"
    if num_abnormal in (0, len(videos)):
        reasons["video_auc"] = no_normal if num_abnormal else no_abnormal
    if not len(normal.scores):
        reasons["far"] = reasons["operating_points"] = no_normal
    if not per_class:
        reasons["per_class"] = missing or "the abnormal videos have no classes"
    for name, result in per_class.items():
        for key in ("auc", "auc_with_normal"):
            if getattr(result, key) is None:
                kind = "anomalous" if result.num_anomalous_frames else "normal"
                reasons[f"per_class.{name}.{key}"] = f"all frames are {kind}"
    return reasons


def _per_class(
    judged: Sequence[VideoScores],
    pairs: dict[str, tuple[np.ndarray, np.ndarray]],
    normal: _Frames,
) -> dict[str, ClassResult]:
    """Class name → result, in alphabetical order."""
    results = {}
    for name in sorted({video.category for video in judged if video.label == 1 and video.category}):
        members = [pairs[video.id] for video in judged if video.label == 1 and video.category == name]
        own = _Frames.of(members)
        with_normal = _Frames(np.append(own.scores, normal.scores), np.append(own.labels, normal.labels))
        results[name] = ClassResult(len(members), len(own.labels), own.num_anomalous, own.auc(), with_normal.auc())
    return results


def _share(scores: np.ndarray, threshold: float) -> float | None:
    return float(np.mean(scores >= threshold)) if len(scores) else None


def _operating_points(every: _Frames, normal: _Frames) -> tuple[OperatingPoint, ...]:
    """Without normal videos there is no false alarm to count, and so no operating point."""
    if not len(normal.scores):
        return ()
    anomalous = every.scores[every.labels == 1]
    thresholds = [THRESHOLD]
    ranked = np.sort(normal.scores)
    spared = len(ranked) * LOW_FAR_PERCENT // 100  # frames that may raise the alarm
    higher = every.scores[every.scores > ranked[len(ranked) - 1 - spared]]
    if len(higher):
        thresholds.append(float(higher.min()))
    return tuple(OperatingPoint(at, float(np.mean(normal.scores >= at)), _share(anomalous, at)) for at in thresholds)


def _warnings(videos: Sequence[VideoScores], without: tuple[str, ...]) -> tuple[str, ...]:
    found = [*length_warnings(videos), *(text for video in videos for text in annotation_warnings(video))]
    if without:
        found.append(f"without frame labels, so that video_auc alone counts them: {', '.join(without)}")
    abnormal = [video for video in videos if video.label == 1]
    unnamed = [video.id for video in abnormal if not video.category]
    if 0 < len(unnamed) < len(abnormal):
        found.append(f"abnormal without a class, so that per_class does not count them: {', '.join(unnamed)}")
    return tuple(found)


def _precision_recall(frames: _Frames) -> Curve:
    """Recall → precision, from recall 0."""
    precision, recall, _ = precision_recall_curve(frames.labels, frames.scores)
    return Curve(recall[::-1], precision[::-1])


def _thinned(curve: Curve) -> Curve:
    """Keep the first and last point of every `CURVE_STEP` of the curve's length."""
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y)))])
    changes = np.diff(np.floor(length / CURVE_STEP)) != 0
    kept = np.append(True, changes) | np.append(changes, True)
    return Curve(curve.x[kept], curve.y[kept])
