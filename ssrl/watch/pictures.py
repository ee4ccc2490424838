"""Pictures of events: a thread of their own traces heatmaps, which takes long, so that lines do not wait for them.

notices ──▶ queue ──▶ hottest snippet → sharp heatmap → region, picture ──▶ sinks      in order
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from queue import Queue

import numpy as np
from PIL import Image

from ssrl.evaluate.heatmaps import draw_overlay
from ssrl.evaluate.localization import Box, find_hottest_region
from ssrl.faults import describe_error
from ssrl.watch.notices import Notice, round_box
from ssrl.watch.sinks import Delivery

logger = logging.getLogger(__name__)
JPEG_QUALITY = 88
NICENESS = 5  # added to the process's: the watch goes first. With more, what the thread locks would be held up
MAX_NOTICES = 16  # that wait for their pictures; if there are more, the watch waits
MakeHeat = Callable[[], np.ndarray | None]  # → (H, W)


@dataclass(frozen=True, eq=False)
class Hottest:
    """The snippet of an event with the highest score so far."""

    score: float
    frame: np.ndarray  # (H, W, 3)
    heat: np.ndarray | None  # (H, W)
    region: Box | None
    time: datetime
    sharpen: MakeHeat | None = None  # makes a sharper heatmap

    def sharpened(self) -> Hottest:
        """With its sharp heatmap, if one can be made."""
        try:
            heat = self.sharpen() if self.sharpen else None
        except Exception as error:
            logger.warning(f"a heatmap stays as coarse as the patches: {describe_error(error)}")
            heat = None
        if heat is None:
            return self
        return replace(self, heat=heat, region=find_hottest_region(heat), sharpen=None)

    def draw(self) -> bytes:
        """Its middle frame under its heatmap, as JPEG."""
        picture = self.frame
        if self.heat is not None:
            picture = draw_overlay(self.frame, self.heat, self.score, f"{self.time:%Y-%m-%d %H:%M:%S}")
        content = io.BytesIO()
        Image.fromarray(picture).save(content, format="JPEG", quality=JPEG_QUALITY)
        return content.getvalue()


class PictureMaker(threading.Thread):
    """Passes notices on to the sinks, those of events with their pictures."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        super().__init__(name="pictures", daemon=True)
        self._deliveries = deliveries
        self._queue: Queue[tuple[Notice, Hottest | None] | None] = Queue(MAX_NOTICES)
        self._seen: weakref.ref[Hottest] | None = None  # the last one that was drawn
        self._drawn: tuple[Box | None, bytes] = (None, b"")
        self._is_late = False

    def put(self, notice: Notice, hottest: Hottest | None = None) -> None:
        """Scores overtake the others, which keep their order."""
        if notice.kind == "score":
            self._pass_on(notice)
        elif self._deliveries:
            self._queue.put((notice, hottest))

    def finish(self, wait_seconds: float) -> None:
        """Pass on what is left; what is left after so long, with coarse heatmaps."""
        self._queue.put(None)
        self.join(wait_seconds)
        self._is_late = True
        self.join()

    def run(self) -> None:
        _lower_priority()
        while (item := self._queue.get()) is not None:
            self._deliver(*item)
            del item  # pixels and clips, until the next event

    def _deliver(self, notice: Notice, hottest: Hottest | None) -> None:
        try:
            notice = notice if hottest is None else self._add_picture(notice, hottest)
        except Exception as error:  # the notice matters more than its picture
            logger.warning(f"{notice.key}: its picture cannot be made: {describe_error(error)}")
        self._pass_on(notice)

    def _pass_on(self, notice: Notice) -> None:
        for each in self._deliveries:
            each.put(notice)

    def _add_picture(self, notice: Notice, hottest: Hottest) -> Notice:
        if self._seen is None or self._seen() is not hottest:
            shown = hottest if self._is_late else hottest.sharpened()
            self._seen, self._drawn = weakref.ref(hottest), (shown.region, shown.draw())
        region, picture = self._drawn
        return replace(notice, body={**notice.body, "region": round_box(region)}, picture=picture)


def _lower_priority() -> None:
    """Of this thread: on Linux, each has its own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
