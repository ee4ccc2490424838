"""The metrics of Sect. 4.1: one `Evaluation` from the scores of all test videos.

    auc           area under the ROC curve over all test frames; the number that papers report
    ap            average precision: scikit-learn's `average_precision_score`, a sum of steps
    pr_auc        area under the precision-recall curve by the trapezoidal rule, which most repositories call AP
    auc_abnormal  `auc` over the frames of abnormal videos only
    video_auc     video-level AUC: each video's highest snippet score against its label; needs no frame labels
    far           false alarm rate: fraction of the frames of normal videos that score 0.5 or more
    per_class     for each class of abnormal videos, `auc` over the videos of that class only and, as
                  `auc_with_normal`, over those and all normal videos
    temporal      the events against the annotated intervals: see `ssrl.evaluate.detection`

Every frame counts once; tied scores count half, as always in an ROC AUC. An undefined metric is None, and
`undefined` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from sklearn.metrics import auc as trapezoid
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from ssrl.datasets.video import LABELS
from ssrl.errors import UserError
from ssrl.evaluate.detection import Detection, measure_detection
from ssrl.evaluate.protocol import (
    THRESHOLD,
    Protocol,
    VideoScores,
    check_protocol,
    describe_conflicts,
    describe_unknown_lengths,
    expand_to_frames,
)

LOW_FAR_PERCENT = 1  # the second operating point allows false alarms in this many of 100 normal frames
CURVE_STEP = 1 / 400  # arc length per point of a thinned curve
Origin = Literal["literature", "test frames", "checkpoint"]


@dataclass(frozen=True, eq=False)
class Curve:
    """The points of a curve: (P,) each, x from 0 to 1."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class OperatingPoint:
    """The rates when every frame that scores `threshold` or more raises an alarm."""

    origin: Origin  # of the threshold
    threshold: float
    far: float  # fraction of the frames of normal videos that raise it
    detection_rate: float | None  # fraction of anomalous frames that raise it; None if there are none


@dataclass(frozen=True)
class ClassResult:
    """The abnormal videos of one class. An AUC is None if its frames are all of one kind."""

    num_videos: int
    num_frames: int
    num_anomalous_frames: int
    auc: float | None
    auc_with_normal: float | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The metrics of one checkpoint on one test set. Rates and AUCs lie in 0..1."""

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
    operating_points: tuple[OperatingPoint, ...]  # at 0.5, at the lowest threshold with far <= 1 %, at the checkpoint's
    per_class: dict[str, ClassResult]
    temporal: Detection
    undefined: dict[str, str]  # metric: reason
    without_frame_labels: tuple[str, ...]  # ids of abnormal videos that frame-level metrics leave out
    warnings: tuple[str, ...]
    roc: Curve | None  # false-positive rate → true-positive rate; thinned for drawing
    precision_recall: Curve | None  # recall → precision; thinned for drawing

    def to_json(self) -> dict[str, Any]:
        """Everything but the curves, in plain types."""
        names = [field.name for field in fields(self) if field.name not in ("roc", "precision_recall")]
        return {name: getattr(self, name) for name in names} | {
            "operating_points": [vars(point) for point in self.operating_points],
            "per_class": {name: vars(result) for name, result in self.per_class.items()},
            "temporal": self.temporal.to_json(),
            "without_frame_labels": list(self.without_frame_labels),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False)
class _Frames:
    """The concatenated frames of several videos."""

    scores: np.ndarray  # (F,) float64
    labels: np.ndarray  # (F,) uint8

    @classmethod
    def concatenate(cls, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> _Frames:
        if not pairs:
            return cls(np.zeros(0), np.zeros(0, dtype=np.uint8))
        scores, labels = zip(*pairs, strict=True)
        return cls(np.concatenate(scores), np.concatenate(labels))

    @property
    def num_anomalous(self) -> int:
        return int(self.labels.sum())

    @property
    def reason_undefined(self) -> str | None:
        """Why the ROC of these frames is undefined; None if it is defined."""
        if len(self.labels) == 0:
            return "there are no such frames"
        if self.num_anomalous in (0, len(self.labels)):
            return f"all {len(self.labels):,} frames are {'anomalous' if self.num_anomalous else 'normal'}"
        return None

    def compute_auc(self) -> float | None:
        return None if self.reason_undefined else float(roc_auc_score(self.labels, self.scores))


def evaluate(videos: Sequence[VideoScores], protocol: Protocol = "true") -> Evaluation:
    """Compute all metrics of the module's docstring.

    Raises a UserError for no videos, missing labels, duplicate ids and an unknown protocol.
    """
    _check(videos, protocol)
    annotated = [video for video in videos if video.has_frame_labels]
    pairs = {video.id: expand_to_frames(video, protocol) for video in annotated}
    frames = _Frames.concatenate(list(pairs.values()))
    abnormal = _Frames.concatenate([pairs[video.id] for video in annotated if video.label == 1])
    normal = _Frames.concatenate([pairs[video.id] for video in annotated if video.label == 0])
    highest = _Frames(
        np.array([video.highest_score for video in videos]),
        np.array([video.label for video in videos], dtype=np.uint8),
    )
    per_class = _evaluate_classes(annotated, pairs, normal)
    temporal = measure_detection(videos)
    without = tuple(video.id for video in videos if not video.has_frame_labels)
    undefined = _explain_undefined(videos, frames, abnormal, normal, per_class) | temporal.explain_undefined()
    pr = None if frames.reason_undefined else _compute_precision_recall(frames)

    return Evaluation(
        protocol=protocol,
        num_videos=len(videos),
        num_abnormal_videos=highest.num_anomalous,
        num_frames=len(frames.labels),
        num_anomalous_frames=frames.num_anomalous,
        auc=frames.compute_auc(),
        ap=None if frames.reason_undefined else float(average_precision_score(frames.labels, frames.scores)),
        pr_auc=None if pr is None else float(trapezoid(pr.x, pr.y)),
        auc_abnormal=abnormal.compute_auc(),
        video_auc=highest.compute_auc(),
        far=_get_rate(normal.scores, THRESHOLD),
        operating_points=_find_operating_points(frames, normal, videos[0].threshold),
        per_class=per_class,
        temporal=temporal,
        undefined=undefined,
        without_frame_labels=without,
        warnings=_collect_warnings(videos, without),
        roc=None if frames.reason_undefined else _thin(Curve(*roc_curve(frames.labels, frames.scores)[:2])),
        precision_recall=None if pr is None else _thin(pr),
    )


def _check(videos: Sequence[VideoScores], protocol: Protocol) -> None:
    check_protocol(protocol)
    if not videos:
        raise UserError("no videos to evaluate: the test split is empty")
    unlabeled = [video.id for video in videos if video.label is None]
    if unlabeled:
        names = ", ".join(unlabeled[:5])
        raise UserError(f"{len(unlabeled)} videos have no label, which evaluation needs: {names}")
    duplicates = sorted(name for name, count in Counter(video.id for video in videos).items() if count > 1)
    if duplicates:
        raise UserError(f"{len(duplicates)} duplicate video ids: {', '.join(duplicates[:5])}; pass each video once")


def _explain_undefined(
    videos: Sequence[VideoScores],
    frames: _Frames,
    abnormal: _Frames,
    normal: _Frames,
    per_class: dict[str, ClassResult],
) -> dict[str, str]:
    """Metric → why it is None (for `per_class`, why it is empty)."""
    no_normal, no_abnormal = (f"there are no {kind} videos" for kind in LABELS.values())
    num_abnormal = sum(video.label == 1 for video in videos)
    missing = "" if len(abnormal.labels) else "no abnormal video has frame labels" if num_abnormal else no_abnormal
    reasons: dict[str, str] = {}
    if frames.reason_undefined:
        reasons |= dict.fromkeys(("auc", "ap", "pr_auc"), missing or frames.reason_undefined)
    if abnormal.reason_undefined:
        reasons["auc_abnormal"] = missing or f"{abnormal.reason_undefined} in the abnormal videos"
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


def _evaluate_classes(
    annotated: Sequence[VideoScores],
    pairs: dict[str, tuple[np.ndarray, np.ndarray]],
    normal: _Frames,
) -> dict[str, ClassResult]:
    """Class name → result, in alphabetical order."""
    results = {}
    for name in sorted({video.category for video in annotated if video.label == 1 and video.category}):
        members = [pairs[video.id] for video in annotated if video.label == 1 and video.category == name]
        own = _Frames.concatenate(members)
        with_normal = _Frames(np.append(own.scores, normal.scores), np.append(own.labels, normal.labels))
        counts = len(members), len(own.labels), own.num_anomalous
        results[name] = ClassResult(*counts, own.compute_auc(), with_normal.compute_auc())
    return results


def _get_rate(scores: np.ndarray, threshold: float) -> float | None:
    return float(np.mean(scores >= threshold)) if len(scores) else None


def _find_operating_points(frames: _Frames, normal: _Frames, measured: float) -> tuple[OperatingPoint, ...]:
    """Empty without normal videos, since there are no false alarms to count."""
    if not len(normal.scores):
        return ()
    anomalous = frames.scores[frames.labels == 1]
    thresholds: dict[Origin, float] = {"literature": THRESHOLD}
    ranked = np.sort(normal.scores)
    allowed = len(ranked) * LOW_FAR_PERCENT // 100  # frames that may raise an alarm
    higher = frames.scores[frames.scores > ranked[len(ranked) - 1 - allowed]]
    if len(higher):
        thresholds["test frames"] = float(higher.min())
    if measured != THRESHOLD:
        thresholds["checkpoint"] = measured
    return tuple(
        OperatingPoint(origin, at, float(np.mean(normal.scores >= at)), _get_rate(anomalous, at))
        for origin, at in thresholds.items()
    )


def _collect_warnings(videos: Sequence[VideoScores], without: tuple[str, ...]) -> tuple[str, ...]:
    warnings = [*describe_unknown_lengths(videos), *(text for video in videos for text in describe_conflicts(video))]
    if without:
        warnings.append(f"without frame labels, counted by video_auc only: {', '.join(without)}")
    abnormal = [video for video in videos if video.label == 1]
    unnamed = [video.id for video in abnormal if not video.category]
    if 0 < len(unnamed) < len(abnormal):
        warnings.append(f"abnormal without a class, left out of per_class: {', '.join(unnamed)}")
    return tuple(warnings)


def _compute_precision_recall(frames: _Frames) -> Curve:
    """Recall → precision, from recall 0."""
    precision, recall, _ = precision_recall_curve(frames.labels, frames.scores)
    return Curve(recall[::-1], precision[::-1])


def _thin(curve: Curve) -> Curve:
    """Keep the first and last point of every `CURVE_STEP` of the curve's length."""
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y)))])
    changes = np.diff(np.floor(length / CURVE_STEP)) != 0
    kept = np.append(True, changes) | np.append(changes, True)
    return Curve(curve.x[kept], curve.y[kept])
