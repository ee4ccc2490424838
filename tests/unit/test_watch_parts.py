"""The parts of a watch, one by one: the window, clips, the mailbox, and sampling."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch

from ssrl.evaluate.scoring import score_snippets
from ssrl.model.build import build_network
from ssrl.model.domain import Domain
from ssrl.model.recipes import RECIPES
from ssrl.watch.clips import Packet, Recorder
from ssrl.watch.mailbox import Mailbox, Snippet
from ssrl.watch.window import DomainCheck, Window
from tests.stores import CONFIG, D

GEOMETRY = CONFIG.geometry


@pytest.mark.parametrize("recipe", ["paper", "released", "blend"])
def test_a_score_is_that_of_the_last_snippet_of_the_window(recipe: str) -> None:
    """As offline scores a video that ends there, and began a window before: at first, too, when it is short."""
    torch.manual_seed(0)
    model = RECIPES[recipe].model(D, (1, 2))
    network = build_network(model).eval()
    generator = np.random.default_rng(0)
    features = {scale: generator.normal(size=(45, GEOMETRY.grid(scale).num_patches, D)) for scale in (1, 2)}
    window = Window(network, 32)
    scores = [window.score({scale: each[i] for scale, each in features.items()}) for i in range(45)]
    for end in (1, 2, 7, 31, 32, 33, 45):
        seen = {scale: each[max(0, end - 32) : end] for scale, each in features.items()}
        assert scores[end - 1] == pytest.approx(score_snippets(network, seen)[0][-1], abs=1e-6), end
    window.clear()
    assert window.score({scale: each[0] for scale, each in features.items()}) == pytest.approx(scores[0], abs=1e-6)


def test_a_window_sees_segments_as_long_as_in_training() -> None:
    torch.manual_seed(0)
    model = replace(RECIPES["blend"].model(D, (1, 2)), segment_length=3.2)
    network = build_network(model).eval()
    generator = np.random.default_rng(0)
    features = {scale: generator.normal(size=(99, GEOMETRY.grid(scale).num_patches, D)) for scale in (1, 2)}
    window = Window(network, 32)
    scores = [window.score({scale: each[i] for scale, each in features.items()}) for i in range(99)]
    segments = {scale: each[3:].reshape(32, 3, *each.shape[1:]).mean(axis=1) for scale, each in features.items()}
    assert scores[98] == pytest.approx(score_snippets(network, segments)[0][-1], abs=1e-6)
    moment = window.get_moment()
    assert moment.place == 31 and moment.features[1].shape == (32, 1, D)


def test_a_camera_unlike_the_training_videos_is_told_once() -> None:
    unit = torch.ones(D)
    domain = Domain({1: 0 * unit}, {1: unit}, {1: torch.eye(D)}, unit, 1.0, limit=2.0)  # all is in the components
    within = (D / (D + 1)) ** 0.5  # the root mean square over them and an empty rest
    for value, expected in ((1.0, 0.5 * within), (6.0, 3.0 * within)):
        check = DomainCheck(domain, 3)
        distances = [check.add({1: np.full((1, D), value)}) for _ in range(5)]
        assert distances == [None, None, pytest.approx(expected), None, None]
    assert DomainCheck(None, 1).add({1: np.zeros((1, D))}) is None


def make_snippet(number: int) -> Snippet:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Snippet(np.zeros((16, 1, 1, 3), np.uint8), number, number + 1, now, now, 0.0, 16)


def test_a_full_mailbox_drops_the_oldest_snippet() -> None:
    mailbox = Mailbox(2, lossless=False)
    for number in range(5):
        mailbox.put(make_snippet(number))
    mailbox.end(None)
    taken = [mailbox.take(0.0), mailbox.take(0.0)]
    assert [snippet.start_seconds for snippet in taken if snippet] == [3, 4]
    assert mailbox.dropped_frames == 3 * 16 and mailbox.is_finished


def make_packet(seconds: float, size: int = 10) -> Packet:
    """A key frame each full second."""
    return Packet(bytes(size), None, None, seconds == int(seconds), seconds, CODING)


CODING: Any = object()


def record(recorder: Recorder, start: float, stop: float) -> None:
    for tenth in range(round(10 * start), round(10 * stop)):
        recorder.add(make_packet(tenth / 10))


def test_a_clip_goes_from_a_key_frame_before_to_its_end() -> None:
    recorder = Recorder(3.0)
    record(recorder, 0, 10)
    clip = recorder.begin_clip(8.4, longest_seconds=60)
    record(recorder, 10, 12)
    assert not recorder.is_complete(clip)
    recorder.end_clip(clip, 12.5)
    record(recorder, 12, 14)
    assert recorder.is_complete(clip)
    seconds = [packet.seconds for packet in clip.packets]
    assert (seconds[0], seconds[-1], len(seconds)) == (8.0, 12.5, 46)
    late = recorder.begin_clip(0.0, longest_seconds=60)  # what is not kept any more is left out
    assert late.packets[0].seconds == 10.0
    recorder.end_clip(late, 12.0)  # in the past: cut
    assert late.packets[-1].seconds == 12.0 and recorder.is_complete(late)
    cut = recorder.begin_clip(13.0, longest_seconds=60)
    recorder.end_clips()
    assert recorder.is_complete(cut)
