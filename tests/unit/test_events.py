"""Events in scores, and the hottest region of a heatmap."""

import numpy as np
import pytest

from ssrl.errors import UserError
from ssrl.evaluate.events import Event, EventRule, EventTracker, find_events, track_events
from ssrl.evaluate.localization import Box, find_hottest_region
from tests.scores import make_scores

RULE = EventRule(threshold=0.8, release=0.5, patience=2, min_snippets=2)


@pytest.mark.parametrize(
    "digits, expected",
    [
        ("0099690900", ((2, 8),)),  # goes on at the release level, and over one snippet below it
        ("00990099", ((2, 4), (6, 8))),  # two snippets below end it; the end of the video ends the other
        ("0900", ()),  # too short
        ("09090", ((1, 4),)),  # long enough with the gap
        ("6666", ()),  # never reaches the threshold
        ("6996", ((1, 4),)),  # begins at the threshold, not at the release level
        ("", ()),
    ],
)
def test_events_begin_at_the_threshold_and_last_to_the_release_level(
    digits: str, expected: tuple[tuple[int, int], ...]
) -> None:
    events = track_events([int(digit) / 10 for digit in digits], RULE)
    assert tuple((event.start, event.stop) for event in events) == expected


def test_an_event_is_told_when_it_is_long_enough_and_when_it_is_over() -> None:
    tracker = EventTracker(RULE)
    changes = [tracker.update(score) for score in (0, 0.8, 0.9, 0.6, 0.1, 0.1, 0.9)]
    assert [change and change.kind for change in changes] == [None, None, "opened", None, None, "closed", None]
    assert changes[5] is not None and changes[5].event == Event(1, 4, 2, 0.9)
    assert tracker.event is None and tracker.finish() is None  # the last snippet alone is too short


@pytest.mark.parametrize("threshold, release", [(0.4, 0.32), (0.5, 0.4), (0.56, 0.53), (0.9, 0.72)])
def test_events_end_above_even_odds(threshold: float, release: float) -> None:
    assert EventRule(threshold).release_level == pytest.approx(release)


def test_a_threshold_above_all_scores_finds_nothing() -> None:
    assert track_events([1.0, 1.0, 1.0], EventRule(float(np.nextafter(1, 2)))) == ()


def test_a_video_of_one_snippet_may_have_an_event() -> None:
    assert find_events(make_scores("short", None, "", 5, None, np.array([0.9]))) == (Event(0, 1, 0, 0.9),)


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.1}, {"release": 0.6}, {"patience": 0}])
def test_a_rule_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="must"):
        EventRule(**wrong)  # type: ignore[arg-type]


def test_the_hottest_region_is_connected_to_the_hottest_point() -> None:
    heat = np.zeros((10, 20), np.float32)
    heat[2:4, 5:10] = 0.6
    heat[3, 6] = 1.0
    heat[8, 18] = 0.9  # hot, but elsewhere
    assert find_hottest_region(heat) == Box(0.25, 0.2, 0.5, 0.4)
    assert find_hottest_region(np.zeros((2, 2))) is None
