"""Protocols and metrics against hand-counted cases, published frame counts and scikit-learn on whole arrays."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score

from ssrl.errors import UserError
from ssrl.evaluate.metrics import evaluate
from ssrl.evaluate.protocol import Protocol, VideoScores, expand_to_frames
from tests.scores import Intervals, make_scores

EXACT = 1e-12  # float64 sums of a few terms

# Length and anomalous frames [start, stop) of the 44 abnormal test videos of ShanghaiTech's weakly supervised
# split, taken from the dataset's own test_frame_mask files.
SHANGHAITECH = json.loads((Path(__file__).parents[1] / "data" / "shanghaitech_abnormal_test.json").read_text())


def video(
    video_id: str,
    label: int | None,
    scores: ArrayLike,
    num_frames: int | None = None,
    anomalies: Intervals | None = (),
    category: str = "",
    length: int = 1,
    fps: float | None = None,
) -> VideoScores:
    """A video of one-frame snippets unless told otherwise, so that scores can be read as frames."""
    array = np.asarray(scores, dtype=np.float32)
    frames = len(array) * length if num_frames is None else num_frames
    return make_scores(video_id, label, category, frames, fps, array, length, anomalies)


def runs(labels: np.ndarray) -> Intervals:
    """[start, stop) of the runs of ones, counted in the plain way."""
    found: list[tuple[int, int]] = []
    for frame, label in enumerate(labels):
        if label and found and found[-1][1] == frame:
            found[-1] = (found[-1][0], frame + 1)
        elif label:
            found.append((frame, frame + 1))
    return tuple(found)


# Protocols


def test_true_protocol_cuts_the_last_snippet() -> None:
    scores, labels = expand_to_frames(video("v", 1, [0.25, 0.75], 17, ((15, 17),), length=16), "true")
    assert scores.tolist() == [0.25] * 16 + [0.75]
    assert labels.tolist() == [0] * 15 + [1, 1]
    assert scores.dtype == np.float64


@pytest.mark.parametrize(("anomalies", "padding"), [(((15, 17),), 1), (((3, 5),), 0)])
def test_released_protocol_repeats_the_last_label(anomalies: Intervals, padding: int) -> None:
    scores, labels = expand_to_frames(video("v", 1, [0.25, 0.75], 17, anomalies, length=16), "released")
    assert scores.tolist() == [0.25] * 16 + [0.75] * 16
    assert labels[17:].tolist() == [padding] * 15
    assert len(labels) == 32


@pytest.mark.parametrize("protocol", ["true", "released"])
def test_a_multiple_of_the_snippet_length_needs_no_padding(protocol: Protocol) -> None:
    scores, labels = expand_to_frames(video("v", 1, [0.25, 0.75], 32, ((30, 32),), length=16), protocol)
    assert len(scores) == len(labels) == 32
    assert labels.sum() == 2


def test_shanghaitech_frame_counts() -> None:
    """17,472 frames with 7,962 anomalous; padded by the last label 17,968 with the published 8,028."""
    videos = [
        video(name, 1, np.zeros(-(-row["num_frames"] // 16)), row["num_frames"], row["anomalies"], length=16)
        for name, row in SHANGHAITECH.items()
    ]
    true, released = evaluate(videos, "true"), evaluate(videos, "released")
    assert (true.num_videos, true.num_frames, true.num_anomalous_frames) == (44, 17_472, 7_962)
    assert (released.num_frames, released.num_anomalous_frames) == (17_968, 8_028)
    assert (142_912 - released.num_frames) % 16 == 0  # what is left for the normal videos is whole snippets
    assert not true.warnings


def test_an_interval_beyond_the_end_is_cut_and_told() -> None:
    long = video("long", 1, [0.1] * 10, anomalies=((8, 14),))
    beyond = video("beyond", 1, [0.1] * 10, anomalies=((10, 12),))
    assert expand_to_frames(long)[1].tolist() == [0] * 8 + [1, 1]
    told = evaluate([long, beyond]).warnings
    assert len(told) == 3
    assert "long" in told[0] and "9 to 14" in told[0] and "10 frames" in told[0] and "cut at frame 10" in told[0]
    assert "beyond" in told[1] and "left out" in told[1]
    assert "beyond" in told[2] and "none of its frames" in told[2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_frames": 33}, "33 frames make 3 snippets of 16, but there are 2 scores"),
        ({"num_frames": 16}, "16 frames make 1 snippets of 16, but there are 2 scores"),
        ({"num_frames": 0}, "0 frames"),
        ({"scores": [0.5, float("nan")]}, "snippet 1 is nan"),
        ({"scores": [-0.1, 0.5]}, "0..1"),
        ({"label": 2}, "label 2"),
        ({"label": 0}, "labeled normal"),
        ({"anomalies": ((5, 5),)}, "frames 6 to 5"),
        ({"anomalies": ((-1, 5),)}, "frames 0 to 5"),
        ({"fps": 0.0}, "0.0 frames per second"),
        ({"video_id": "../v"}, "not a video id"),
    ],
)
def test_a_video_that_contradicts_itself_is_refused(change: dict[str, Any], told: str) -> None:
    make = partial(video, video_id="v", label=1, scores=[0.5, 0.6], num_frames=32, anomalies=((3, 9),), length=16)
    make()
    with pytest.raises(UserError, match=told):
        make(**change)


# Metrics


def drop_temporal(undefined: dict[str, str]) -> dict[str, str]:
    """Leave out what test_detection.py tests."""
    return {name: reason for name, reason in undefined.items() if not name.startswith("temporal.")}


def test_hand_computed_metrics() -> None:
    """Seven frames. Anomalous 0.9, 0.4 and 0.6; normal 0.6, 0.1, 0.7 and 0.4.

    Of the 12 pairs 0.9 wins 4; 0.6 wins 2 and ties 1; 0.4 wins 1 and ties 1: 4 + 2.5 + 1.5 = 8 of 12.
    In abnormal videos (normal: 0.6, 0.1) 0.9 wins 2, 0.6 wins 1 and ties 1, 0.4 wins 1: 4.5 of 6.
    Ranked: 0.9 | 0.7 | 0.6 0.6 | 0.4 0.4 | 0.1 with precision 1/1, 1/2, 2/4, 3/6 where recall rises to
    1/3, 1/3, 2/3, 1; steps give (1 + 1/2 + 1/2) / 3 and trapezoids (1 + 1/2 + 1/2) / 3.
    """
    result = evaluate(
        [
            video("a", 1, [0.9, 0.6, 0.1], anomalies=((0, 1),)),
            video("b", 1, [0.4, 0.6], anomalies=((0, 2),)),
            video("n", 0, [0.7, 0.4]),
        ]
    )
    assert result.auc == pytest.approx(8 / 12, abs=EXACT)
    assert result.auc_abnormal == pytest.approx(4.5 / 6, abs=EXACT)
    assert result.ap == pytest.approx(2 / 3, abs=EXACT)
    assert result.pr_auc == pytest.approx(2 / 3, abs=EXACT)
    assert result.far == 0.5
    assert result.video_auc == 0.5  # peaks 0.9 and 0.6 against 0.7
    assert (result.num_frames, result.num_anomalous_frames) == (7, 3)
    assert (result.num_videos, result.num_abnormal_videos) == (3, 2)
    assert result.operating_points[0].detection_rate == pytest.approx(2 / 3, abs=EXACT)
    assert drop_temporal(result.undefined) == {"per_class": "the abnormal videos have no classes"}


def test_steps_and_trapezoids_differ() -> None:
    """Ranked: normal 0.9, anomalous 0.8. AP is one step of height 1/2; the trapezoid starts at precision 0."""
    result = evaluate([video("a", 1, [0.9, 0.8], anomalies=((1, 2),))])
    assert result.ap == pytest.approx(0.5, abs=EXACT)
    assert result.pr_auc == pytest.approx(0.25, abs=EXACT)


def test_equal_scores_are_chance() -> None:
    result = evaluate([video("a", 1, [0.5] * 6, anomalies=((0, 2),)), video("n", 0, [0.5] * 3)])
    assert result.auc == result.auc_abnormal == result.video_auc == 0.5
    assert result.ap == pytest.approx(2 / 9, abs=EXACT)
    assert result.far == 1.0  # 0.5 itself raises the alarm


def test_protocols_weigh_the_last_snippet_differently() -> None:
    """17 frames, the last one anomalous and alone in its snippet; 16 normal frames score more, 16 less.

    The last frame beats 16 of 32, and so does each of its 16 copies; but 1 of the first 17 frames is anomalous
    under `true`, 16 of the first 32 under `released`.
    """
    videos = [video("a", 1, [0.1, 0.5], 17, ((16, 17),), length=16), video("n", 0, [0.9], 16, length=16)]
    true, released = evaluate(videos, "true"), evaluate(videos, "released")
    assert true.auc == released.auc == 0.5
    assert (true.num_anomalous_frames, released.num_anomalous_frames) == (1, 16)
    assert true.ap == pytest.approx(1 / 17, abs=EXACT)
    assert released.ap == pytest.approx(16 / 32, abs=EXACT)


def random_videos() -> tuple[list[VideoScores], list[list[float]], list[np.ndarray]]:
    rng, length = np.random.default_rng(5), 16
    videos, scores, labels = [], [], []
    for index in range(14):
        frames = int(rng.integers(1, 90))
        score_snippets = rng.integers(0, 8, -(-frames // length)) / 7  # many ties
        truth = (rng.random(frames) < 0.3).astype(int) if index % 2 else np.zeros(frames, dtype=int)
        name = "Abuse" if index % 4 == 1 else "Arson"
        videos.append(
            video(f"{index}", index % 2, score_snippets, frames, runs(truth), name if index % 2 else "Normal", length)
        )
        scores.append([score_snippets[frame // length] for frame in range(frames)])
        labels.append(truth)
    return videos, scores, labels


def pool(parts: Sequence[ArrayLike], chosen: Iterable[int]) -> np.ndarray:
    return np.concatenate([parts[i] for i in chosen])


def test_agrees_with_scikit_learn_on_frames_laid_out_by_hand() -> None:
    videos, scores, labels = random_videos()
    result = evaluate(videos)
    abnormal, every = range(1, 14, 2), range(14)
    singles = np.concatenate(scores).astype(np.float32)
    assert result.auc == pytest.approx(roc_auc_score(pool(labels, every), singles), abs=EXACT)
    assert result.ap == pytest.approx(average_precision_score(pool(labels, every), singles), abs=EXACT)
    assert result.auc_abnormal == pytest.approx(
        roc_auc_score(pool(labels, abnormal), pool(scores, abnormal)), abs=EXACT
    )
    normal = pool(scores, range(0, 14, 2))
    assert result.far == pytest.approx(np.mean(normal >= 0.5), abs=EXACT)
    abuse = range(1, 14, 4)
    assert list(result.per_class) == ["Abuse", "Arson"]
    assert result.per_class["Abuse"].num_videos == len(abuse)
    assert result.per_class["Abuse"].auc == pytest.approx(
        roc_auc_score(pool(labels, abuse), pool(scores, abuse)), abs=EXACT
    )
    with_normal = [*abuse, *range(0, 14, 2)]
    assert result.per_class["Abuse"].auc_with_normal == pytest.approx(
        roc_auc_score(pool(labels, with_normal), pool(scores, with_normal)), abs=EXACT
    )


def test_order_of_videos_does_not_matter() -> None:
    videos, _, _ = random_videos()
    assert evaluate(videos).to_json() == evaluate(videos[::-1]).to_json()


def test_thinned_curves_keep_the_area() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < 0.2
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.15), 0, 1)
    result = evaluate([video("a", 1, scores, anomalies=runs(labels))])
    for curve, area in ((result.roc, result.auc), (result.precision_recall, result.pr_auc)):
        assert curve is not None and len(curve.x) < 3000
        assert (curve.x[0], curve.x[-1]) == (0, 1)
        assert np.all(np.diff(curve.x) >= 0)
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(area, abs=1 / 400)  # the step of the curve


def test_low_false_alarm_threshold() -> None:
    """Of 200 normal frames two may raise the alarm at 1 %: from 0.6 on they are 0.97 and 0.95."""
    normal = video("n", 0, [0.3] * 197 + [0.55, 0.95, 0.97])
    abnormal = video("a", 1, [0.2, 0.6, 0.99], anomalies=((1, 3),))
    at_half, at_one_percent = evaluate([normal, abnormal]).operating_points
    assert (at_half.threshold, at_half.far, at_half.detection_rate) == (0.5, 3 / 200, 1.0)
    assert at_one_percent.threshold == pytest.approx(0.6, abs=1e-7)  # a float32 score
    assert (at_one_percent.far, at_one_percent.detection_rate) == (2 / 200, 1.0)


def test_no_threshold_is_low_enough_where_normal_frames_score_highest() -> None:
    points = evaluate([video("n", 0, [0.9] * 50), video("a", 1, [0.9, 0.1], anomalies=((0, 1),))]).operating_points
    assert [point.threshold for point in points] == [0.5]


# What is not defined


def test_normal_videos_alone() -> None:
    result = evaluate([video("n", 0, [0.2, 0.7]), video("m", 0, [0.1], anomalies=None)])
    assert result.far == pytest.approx(1 / 3, abs=EXACT)
    assert result.num_frames == 3  # a normal video needs no frame labels
    for name in ("auc", "ap", "pr_auc", "auc_abnormal", "video_auc"):
        assert getattr(result, name) is None
        assert result.undefined[name] == "there are no abnormal videos"
    assert result.roc is None and result.precision_recall is None
    assert result.operating_points[0].detection_rate is None


def test_abnormal_videos_alone() -> None:
    result = evaluate([video("a", 1, [0.2, 0.7], anomalies=((1, 2),), category="Arson")])
    assert result.auc == result.auc_abnormal == result.per_class["Arson"].auc == 1.0
    assert result.video_auc is None and result.far is None
    undefined = drop_temporal(result.undefined)
    assert undefined == dict.fromkeys(("video_auc", "far", "operating_points"), "there are no normal videos")


def test_wholly_anomalous_videos() -> None:
    videos = [video("a", 1, [0.2, 0.7], anomalies=((0, 2),), category="Arson"), video("n", 0, [0.1])]
    result = evaluate(videos)
    assert result.auc == 1.0 and result.auc_abnormal is None and result.per_class["Arson"].auc is None
    assert result.undefined["auc_abnormal"] == "all 2 frames are anomalous in the abnormal videos"
    assert result.undefined["per_class.Arson.auc"] == "all frames are anomalous"
    assert result.per_class["Arson"].auc_with_normal == 1.0


def test_without_frame_labels_only_videos_can_be_judged() -> None:
    abnormal = video("a", 1, [0.2, 0.9], anomalies=None, category="Arson")
    result = evaluate([abnormal, video("n", 0, [0.3], anomalies=None)])
    assert result.video_auc == 1.0 and result.far == 0.0
    for name in ("auc", "ap", "pr_auc", "auc_abnormal", "per_class"):
        assert result.undefined[name] == "no abnormal video has frame labels"
    assert result.without_frame_labels == ("a",)
    assert "a" in result.warnings[0] and "video_auc" in result.warnings[0]
    assert evaluate([abnormal]).undefined["video_auc"] == "there are no normal videos"
    with pytest.raises(UserError, match="no frame labels"):
        expand_to_frames(video("a", 1, [0.2], anomalies=None))


def test_one_video_without_frame_labels_is_left_out_and_named() -> None:
    known = [video("a", 1, [0.2, 0.9], anomalies=((1, 2),)), video("n", 0, [0.3])]
    unknown = video("u", 1, [0.01], anomalies=None)
    with_it, without_it = evaluate([*known, unknown]), evaluate(known)
    assert (with_it.auc, with_it.num_frames) == (without_it.auc, without_it.num_frames)
    assert with_it.video_auc == 0.5 and without_it.video_auc == 1.0
    assert with_it.without_frame_labels == ("u",) and "u" in with_it.warnings[0]


def test_json_is_plain_and_complete() -> None:
    videos, _, _ = random_videos()
    value = evaluate(videos, "released").to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    named = {"auc", "ap", "auc_abnormal", "video_auc", "far", "per_class", "num_frames", "num_videos", "protocol"}
    assert named <= set(value)
    assert value["protocol"] == "released"
    assert set(value["per_class"]["Arson"]) >= {"auc", "num_videos"}


@pytest.mark.parametrize(
    ("videos", "protocol", "told"),
    [
        ([], "true", "no videos"),
        ([video("a", 0, [0.1])] * 2, "true", "duplicate video ids: a"),
        ([video("a", 0, [0.1])], "padded", "choose from true, released"),
    ],
)
def test_wrong_use_is_refused(videos: list[VideoScores], protocol: Protocol, told: str) -> None:
    with pytest.raises(UserError, match=told):
        evaluate(videos, protocol)
