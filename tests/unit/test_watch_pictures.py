"""Notices of events and their pictures, made beside the watch."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from ssrl.watch.notices import Kind, Notice
from ssrl.watch.pictures import Hottest, MakeHeat, PictureMaker
from tests.receivers import wait_for


class Receiver:
    """In the place of a delivery."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def put(self, notice: Notice) -> None:
        self.notices.append(notice)


def make_hottest(sharpen: MakeHeat | None = None) -> Hottest:
    heat = np.zeros((48, 96), np.float32)
    heat[:24, :48] = 1
    return Hottest(0.9, np.zeros((48, 96, 3), np.uint8), heat, None, datetime(2026, 1, 1, tzinfo=UTC), sharpen)


def make_notice(kind: Kind, number: int = 0) -> Notice:
    return Notice(kind, f"{kind}-{number}", {"event": str(number), "region": None})


def start() -> tuple[PictureMaker, Receiver]:
    receiver = Receiver()
    maker = PictureMaker([receiver])  # type: ignore[list-item]
    maker.start()
    return maker, receiver


def test_notices_keep_their_order_and_scores_overtake_them() -> None:
    maker, receiver = start()
    begin = threading.Event()

    def wait() -> None:
        begin.wait(10)

    for number in range(3):
        maker.put(make_notice("opened", number), make_hottest(wait))
        maker.put(make_notice("closed", number))
    maker.put(make_notice("score"))
    assert [notice.kind for notice in receiver.notices] == ["score"]
    begin.set()
    maker.finish(10)
    keys = [notice.key for notice in receiver.notices[1:]]
    assert keys == [f"{kind}-{number}" for number in range(3) for kind in ("opened", "closed")]


def test_a_snippet_is_drawn_once_with_its_sharp_region() -> None:
    calls = []

    def sharpen() -> np.ndarray:
        calls.append(1)
        heat = np.zeros((48, 96), np.float32)
        heat[12:24, 24:48] = 1
        return heat

    maker, receiver = start()
    hottest = make_hottest(sharpen)
    for kind in ("opened", "closed"):
        maker.put(make_notice(kind), hottest)
    maker.finish(10)
    first, second = receiver.notices
    assert len(calls) == 1 and first.picture == second.picture and first.picture
    assert first.body["region"] == second.body["region"] == [0.25, 0.25, 0.5, 0.5]


def test_a_heatmap_that_cannot_be_made_sharp_stays_coarse(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise MemoryError("no room")

    maker, receiver = start()
    maker.put(make_notice("opened"), make_hottest(fail))
    maker.finish(10)
    assert receiver.notices[0].picture and "as coarse as the patches" in caplog.text


def test_the_watch_goes_on_where_priorities_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    maker, receiver = start()
    maker.put(make_notice("opened"), make_hottest())
    maker.finish(10)
    assert receiver.notices[0].picture


def test_nothing_is_held_between_events() -> None:
    maker, receiver = start()
    hottest = make_hottest()
    pixels = weakref.ref(hottest)
    maker.put(make_notice("closed"), hottest)
    del hottest
    wait_for(lambda: receiver.notices)
    gc.collect()
    wait_for(lambda: pixels() is None)
    maker.finish(10)


def test_what_is_late_at_the_end_has_a_coarse_picture() -> None:
    begin = threading.Event()
    calls = []

    def wait() -> None:
        calls.append(1)
        begin.wait(10)

    maker, receiver = start()
    for number in range(3):
        maker.put(make_notice("closed", number), make_hottest(wait))
    threading.Timer(0.5, begin.set).start()
    maker.finish(0.1)
    assert len(calls) == 1 and all(notice.picture for notice in receiver.notices) and len(receiver.notices) == 3
