"""A live source + checkpoint → scores, events, and whoever is to hear of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssrl.config import check_false_alarms
from ssrl.errors import UserError
from ssrl.hardware import Device

if TYPE_CHECKING:
    from ssrl.checkpoints import Checkpoint
    from ssrl.evaluate.events import EventRule
    from ssrl.watch.secrets import Secrets
    from ssrl.watch.sinks import Delivery
    from ssrl.workflows.live import LiveScorer

logger = logging.getLogger(__name__)
FINISH_SECONDS = 10.0  # for pictures of what is left at the end, and for sinks to take it
WARNING_SECONDS = 30.0  # between warnings of dropped frames
FIRST_SECONDS = 30.0  # that clips may begin with, before the frame rate is known
RATE_FACTOR = 1.5  # between the camera's frame rate and that of the training videos, above which we warn


@dataclass(frozen=True)
class WatchRequest:
    """What to watch with which checkpoint, and whom to tell of events. Addresses may name $VARIABLES."""

    source: str  # rtsp://, http://, a device or a file
    checkpoint: str | PathLike[str] | Checkpoint
    sinks: Sequence[str] = ()
    secrets: Path | None = None  # lines NAME=VALUE, for the variables in addresses
    name: str | None = None  # of the camera; None: its host, or the file's name
    weights: str | None = None  # file of the encoder's weights; None: as in the checkpoint
    zones: Path | None = None  # file of parts of the frame to watch or to ignore
    false_alarms: float = 0.01  # share of a normal video's snippets that may raise an alarm
    patience: int = 2  # quiet snippets that end an event
    min_snippets: int = 2  # of an event
    window: int = 32  # snippets that the network sees at once
    fps: float | None = None  # frames per second to take; None: all
    realtime: bool = False  # read a file as fast as it is shown
    follow: float | None = None  # the file is still being written: wait so many seconds for more
    timeout: float = 10.0  # seconds without a picture after which a connection counts as lost
    clip_before: float = 5.0  # seconds of a clip before its event
    clip_after: float = 5.0
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_false_alarms(self.false_alarms)
        for name in ("window", "patience", "min_snippets"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("fps", "follow", "timeout"):
            if (value := getattr(self, name)) is not None and not 0 < value < float("inf"):
                raise UserError(f"{name} must be above 0, not {value}")
        if self.clip_before < 0 or self.clip_after < 0:
            raise UserError("a clip cannot have less than 0 seconds before and after its event")


@dataclass(frozen=True)
class WatchResult:
    """What was seen until the end."""

    num_snippets: int
    num_events: int
    dropped_frames: int
    undelivered: dict[str, int]  # sink → notices that it did not take


def watch_source(
    request: WatchRequest,
    tell: Callable[[dict[str, Any]], None],
    stop: threading.Event | None = None,
) -> WatchResult:
    """Watch until the source ends or `stop` is set. `tell` takes each line: a snippet, an event, or a change of the
    connection. Raises a UserError, without credentials, for what cannot be watched.
    """
    from ssrl.watch.secrets import Secrets

    secrets = Secrets.read(request.secrets)
    with _hiding(secrets):
        return _watch(request, secrets, tell, stop or threading.Event())


def _watch(
    request: WatchRequest, secrets: Secrets, tell: Callable[[dict[str, Any]], None], stop: threading.Event
) -> WatchResult:
    from ssrl.checkpoints import Checkpoint, load_checkpoint
    from ssrl.watch.addresses import parse_address
    from ssrl.watch.clips import Recorder
    from ssrl.watch.connection import Frames
    from ssrl.watch.events import ClipRule, EventLog
    from ssrl.watch.pictures import PictureMaker
    from ssrl.watch.source import Lost, Restored, Source

    address = parse_address(secrets.expand(request.source), request.follow)
    checkpoint, checkpoint_name = request.checkpoint, "the checkpoint"
    if not isinstance(checkpoint, Checkpoint):
        checkpoint, checkpoint_name = load_checkpoint(checkpoint), str(checkpoint)
    name = request.name or secrets.hide(address.default_name)
    rule = make_rule(checkpoint, request)
    scorer = _open_scorer(request, checkpoint, checkpoint_name, name, rule)
    deliveries = _open_sinks(request, secrets, name, rule.threshold)
    clips = ClipRule(any("clip" in each.kinds for each in deliveries), request.clip_before, request.clip_after)
    recorder = Recorder(FIRST_SECONDS if clips.wanted else 0.0)
    pictures = PictureMaker(deliveries)
    log = EventLog(name, rule, clips, recorder, scorer, tell, pictures)
    source = Source(address, Frames(scorer.geometry, request.fps, request.realtime, request.timeout), recorder, stop)
    dropping, num_snippets = _DropWarning(name), 0
    pictures.start()
    try:
        for item in source.watch():
            if isinstance(item, Lost):
                log.close()
                scorer.clear()
                logger.warning(f"{name}: connection lost: {item.reason}")
                log.report_connection("lost", item.time, reason=item.reason)
            elif isinstance(item, Restored):
                logger.info(f"{name}: connection restored after {item.outage_seconds:.1f} s")
                log.report_connection("restored", item.time, outage_seconds=round(item.outage_seconds, 1))
            else:
                if clips.wanted:  # an event is told some snippets after it began, and decoding is ahead
                    late = rule.min_snippets + rule.patience + 3
                    snippet_seconds = item.end_seconds - item.start_seconds
                    recorder.before_seconds = request.clip_before + late * snippet_seconds
                if not num_snippets:
                    _compare_rates(checkpoint, request.fps or source.rate, name)
                score, distance = scorer.score(item.pixels)
                if distance is not None and distance > 1:
                    logger.warning(
                        f"{name} is unlike the videos that this checkpoint was trained on ({distance:.1f} times their "
                        f"distance), so its scores mean little; train on videos of this camera too"
                    )
                log.add(item, score, source.dropped_frames, time.monotonic)
                dropping.check(source.dropped_frames)
                num_snippets += 1
            log.finish_clips()
    finally:
        log.close()
        log.finish_clips(is_end=True)
        pictures.finish(FINISH_SECONDS)
        undelivered = _finish(deliveries)
    return WatchResult(num_snippets, log.num_events, source.dropped_frames, undelivered)


def _open_scorer(
    request: WatchRequest, checkpoint: Checkpoint, checkpoint_name: str, name: str, rule: EventRule
) -> LiveScorer:
    from ssrl.evaluate.zones import load_zones
    from ssrl.extract.runtimes import choose_runtime
    from ssrl.extract.tracing import can_trace
    from ssrl.hardware import choose_device
    from ssrl.watch.window import Window
    from ssrl.workflows.encoders import load_same_encoder
    from ssrl.workflows.heat import HeatMaker
    from ssrl.workflows.live import CameraZones, LiveScorer
    from ssrl.workflows.zoning import explain_limit

    zones = None if request.zones is None else load_zones(request.zones)
    if zones is not None and not zones.concern(name):
        logger.warning(f"{name}: {request.zones} has no zone for this camera; see its `videos`, or set --name")
        zones = None
    encoder = load_same_encoder(checkpoint, checkpoint_name, request.weights)
    assert checkpoint.features is not None
    config = checkpoint.features.config.with_scales(checkpoint.model.scales)
    settings = choose_runtime(encoder, device=request.device, precision=config.precision)
    runtime = settings.make_runtimes(config.geometry)(config.scales)
    window = Window(checkpoint.build_network(choose_device(request.device)), request.window)
    heat = HeatMaker(window.network, config.geometry, encoder=encoder)
    if zones is not None and not can_trace(encoder):
        logger.warning(f"{name}: {explain_limit(heat)}")
    ignoring = None if zones is None else CameraZones(zones, name, rule.release_level)
    scorer = LiveScorer(runtime, config, window, heat, checkpoint.domain, ignoring)
    logger.info(f"{name}: {settings}; an event begins at a score of {rule.threshold:.3g}")
    return scorer


def make_rule(checkpoint: Checkpoint, request: WatchRequest) -> EventRule:
    from ssrl.evaluate.events import EventRule
    from ssrl.evaluate.protocol import THRESHOLD

    threshold = checkpoint.get_threshold(request.false_alarms)
    if threshold is None:
        logger.warning(
            f"the checkpoint has no measured threshold, so events begin at a score of {THRESHOLD:g}; train with "
            f"--recipe blend or linear on 8 or more normal videos to have one"
        )
    return EventRule(threshold or THRESHOLD, patience=request.patience, min_snippets=request.min_snippets)


def _open_sinks(request: WatchRequest, secrets: Secrets, name: str, threshold: float) -> list[Delivery]:
    """Open all sinks, then start their threads: an error in the last starts none."""
    from ssrl.watch.sinks import Camera, Delivery, open_sink

    camera = Camera(name, threshold)
    deliveries = [
        Delivery(secrets.hide(address), open_sink(secrets.expand(address), camera)) for address in request.sinks
    ]
    for delivery in deliveries:
        delivery.start()
    return deliveries


def _finish(deliveries: Sequence[Delivery]) -> dict[str, int]:
    """Let the sinks take what is left. Returns what was not delivered, by sink."""
    deadline = time.monotonic() + FINISH_SECONDS
    left = {each.label: each.finish(max(0.1, deadline - time.monotonic())) + each.dropped for each in deliveries}
    for label, count in left.items():
        if count:
            logger.warning(f"{label}: {count} notices were not delivered")
    return {label: count for label, count in left.items() if count}


def _compare_rates(checkpoint: Checkpoint, rate: float | None, name: str) -> None:
    """Warn if a snippet covers a time much longer or shorter than those of the training videos, where these tell."""
    from statistics import median

    from ssrl.store.reader import Store

    assert checkpoint.features is not None
    try:
        rates = [record.fps for record in Store(Path(checkpoint.features.path)).records("train") if record.fps]
    except (UserError, OSError):
        return  # the store is not at hand
    if not rates or not rate:
        return
    usual = median(rates)
    if not 1 / RATE_FACTOR <= rate / usual <= RATE_FACTOR:
        remedy = f"use --fps {usual:g}" if rate > usual else "set the camera to a higher rate"
        logger.warning(
            f"{name} has {rate:g} frames per second, the training videos {usual:g}: motion looks "
            f"{'slower' if rate > usual else 'faster'} than in training; {remedy}"
        )


class _DropWarning:
    """Says now and then that frames are dropped."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said, self._count = -float("inf"), 0

    def check(self, dropped_frames: int) -> None:
        if dropped_frames == self._count or time.monotonic() - self._said < WARNING_SECONDS:
            return
        logger.warning(
            f"{self._name}: too slow for its frame rate: {dropped_frames - self._count} frames dropped, "
            f"{dropped_frames} in all; use --fps, a GPU, or a smaller frame size in training"
        )
        self._said, self._count = time.monotonic(), dropped_frames


@contextmanager
def _hiding(secrets: Secrets) -> Iterator[None]:
    """Keep credentials out of log records and errors."""
    from ssrl.watch.secrets import HideSecrets

    handlers, hide = logging.getLogger("ssrl").handlers, HideSecrets(secrets)
    for handler in handlers:
        handler.addFilter(hide)
    try:
        yield
    except UserError as error:
        raise UserError(secrets.hide(str(error))) from None
    finally:
        for handler in handlers:
            handler.removeFilter(hide)
