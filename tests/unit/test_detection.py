"""Events against annotated anomalies, by hand."""

import numpy as np
import pytest

from ssrl.evaluate.detection import IOUS, measure_detection
from ssrl.evaluate.events import EventRule
from ssrl.evaluate.protocol import VideoScores
from tests.scores import Intervals, make_scores

RULE = EventRule(threshold=0.5, release=0.5, patience=1, min_snippets=1)


def video(name: str, digits: str, anomalies: Intervals = (), fps: float | None = 16.0) -> VideoScores:
    """One digit per snippet of 16 frames: a tenth of its score."""
    scores = np.array([int(digit) / 10 for digit in digits])
    return make_scores(name, int(bool(anomalies)), "", 16 * len(scores), fps, scores, anomalies=anomalies)


def test_average_precision_by_hand() -> None:
    videos = [
        video("a", "0099900000", ((32, 80),)),  # exact: IoU 1
        video("b", "0888800000", ((48, 80), (128, 160))),  # IoU 32 / 64 = 0.5; the second anomaly is missed
        video("c", "0060000007"),  # two false alarms
    ]
    found = measure_detection(videos, RULE)
    # ranked 0.9 right, 0.8 right, 0.7 and 0.6 wrong: precisions 1 and 1, of three anomalies
    assert found.ap_by_iou is not None
    assert [found.ap_by_iou[iou] for iou in IOUS] == pytest.approx([2 / 3] * 5)
    assert found.mean_ap == pytest.approx(2 / 3)
    assert (found.num_events, found.num_anomalies, found.detected) == (4, 3, 2)
    assert found.false_alarms_per_hour == pytest.approx(2 / (30 / 3600))


def test_a_second_event_on_the_same_anomaly_is_wrong_and_a_better_rank_counts() -> None:
    videos = [video("a", "0909000000", ((16, 64),)), video("b", "0000060000", ((80, 96),)), video("c", "8000000000")]
    found = measure_detection(videos, RULE)
    # 0.9 right (IoU 1/3), 0.9 again wrong, 0.8 wrong, 0.6 right
    assert found.ap_by_iou is not None
    assert found.ap_by_iou[0.3] == pytest.approx((1 + 2 / 4) / 2)
    assert found.ap_by_iou[0.4] == pytest.approx((1 / 4) / 2)


def test_the_delay_runs_to_the_end_of_the_snippet_that_opens_the_event() -> None:
    late = video("late", "0009900000", ((40, 80),))  # opens at snippet 3, which ends at frame 64
    early = video("early", "0999000000", ((48, 64),))  # the alarm is on when it begins
    assert measure_detection([late], RULE).delay_frames == 24
    assert measure_detection([late], RULE).delay_seconds == pytest.approx(24 / 16)
    assert measure_detection([early], RULE).delay_frames == 0
    two = EventRule(threshold=0.5, release=0.5, patience=1, min_snippets=2)
    assert measure_detection([late], two).delay_frames == 40  # reported a snippet later


def test_what_is_undefined_says_why() -> None:
    untimed = measure_detection([video("a", "0990", ((16, 48),), fps=None)], RULE)
    assert untimed.delay_seconds is None and untimed.delay_frames == 16
    assert set(untimed.explain_undefined()) == {"temporal.delay_seconds", "temporal.false_alarms_per_hour"}
    normal = measure_detection([video("a", "0000")], RULE)
    assert normal.mean_ap is None and normal.false_alarms_per_hour == 0
    assert "temporal.mean_ap" in normal.explain_undefined()
