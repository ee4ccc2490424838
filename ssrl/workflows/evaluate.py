"""Checkpoint + store → metrics, report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssrl.config import check_false_alarms
from ssrl.errors import UserError
from ssrl.hardware import Device
from ssrl.workflows.choices import Protocol, Where
from ssrl.workflows.score import describe_threshold

if TYPE_CHECKING:
    from ssrl.checkpoints import Checkpoint
    from ssrl.evaluate.metrics import Evaluation
    from ssrl.evaluate.pixels import Localization
    from ssrl.evaluate.protocol import VideoScores
    from ssrl.model.build import Network
    from ssrl.store.reader import Store
    from ssrl.workflows.heat import HeatMaker

MAX_HEATMAP_VIDEOS = 12  # in a report: those with the highest scores


@dataclass(frozen=True)
class EvaluateRequest:
    """What to evaluate, and which files to write."""

    checkpoint: str | PathLike[str]
    features: Path | None = None  # the store; None: the checkpoint's
    json: Path | None = None  # file for all metrics
    report: Path | None = None  # folder for the report
    protocol: Protocol = "true"
    false_alarms: float = 0.01  # share of a normal video's snippets that may raise an alarm
    where: Where = "contribution"  # what the report's heatmaps show
    masks: Path | None = None  # folder of pixel masks; None: beside the videos, as datasets have them
    device: Device = "auto"
    compare: Path | None = None  # another checkpoint, to be evaluated on the same videos

    def __post_init__(self) -> None:
        check_false_alarms(self.false_alarms)


@dataclass(frozen=True)
class Selected:
    """How a checkpoint was selected, and the frame AUC of the last step for comparison."""

    by: str
    step: int | None
    last_step: int | None
    last_step_auc: float | None
    linear_auc: float | None  # of a linear model on the same features
    held_out_auc: float | None  # video-level, on training videos held out in turn
    linear_held_out_auc: float | None

    def __str__(self) -> str:
        return self.by if self.step is None else f"{self.by}, step {self.step} of {self.last_step}"


@dataclass(frozen=True)
class Compared:
    """The other checkpoint's metrics and scores on the same videos, in the same order."""

    checkpoint_path: Path
    evaluation: Evaluation
    videos: tuple[VideoScores, ...]


@dataclass(frozen=True)
class EvaluateResult:
    """Metrics, scores and their source; `report` is the page."""

    evaluation: Evaluation
    videos: tuple[VideoScores, ...]
    checkpoint: Checkpoint
    checkpoint_path: Path
    store: Store
    where: Where = "contribution"
    localization: Mapping[Where, Localization] = field(default_factory=dict)  # empty: no pixel masks
    report: Path | None = None
    compared: Compared | None = None

    @cached_property
    def selected(self) -> Selected:
        if not self.checkpoint.stages:
            imported = self.checkpoint.imported_from
            return Selected(f"imported from {imported}" if imported else "unknown", *[None] * 6)
        last = self.checkpoint.stages[-1]
        return Selected(
            last.selection,
            last.selected_step,
            last.last_step,
            last.last_test_auc,
            last.linear_test_auc,
            last.held_out_auc,
            last.linear_held_out_auc,
        )

    def metrics(self) -> dict[str, Any]:
        """The content of the JSON file: the metrics and their source."""
        from ssrl.plain import to_plain

        shown = self.localization.get(self.where)
        return {
            **self.evaluation.to_json(),
            "pixel_auc": shown and shown.pixel_auc,
            "pointing": shown and shown.pointing,
            "localization": to_plain(self.localization),
            "selection": to_plain(self.selected),
            "stages": to_plain(self.checkpoint.stages),
            "calibration": to_plain(self.checkpoint.calibration),
            "unlike_training": [video.id for video in self.videos if video.is_foreign],
            "checkpoint": str(self.checkpoint_path),
            "features": str(self.store.root),
            **self._compare(),
        }

    def _compare(self) -> dict[str, Any]:
        from ssrl.evaluate.report.comparison import subtract_metrics

        if self.compared is None:
            return {}
        return {
            "compare": {
                "checkpoint": str(self.compared.checkpoint_path),
                "metrics": self.compared.evaluation.to_json(),
                "differences": subtract_metrics(self.evaluation, self.compared.evaluation),
            }
        }


class EvaluationWatcher:
    """Callbacks of an evaluation, no-ops to be overridden."""

    def scoring_begins(self, num_videos: int) -> None: ...

    def video_scored(self, video: VideoScores) -> None: ...

    def localization_begins(self, num_videos: int) -> None: ...

    def video_localized(self, video_id: str) -> None: ...

    def masks_left_out(self, video_id: str, reason: str) -> None: ...


def evaluate_model(request: EvaluateRequest, watcher: EvaluationWatcher | None = None) -> EvaluateResult:
    """Score the test videos of a store, compute the metrics and write the requested files.

    Raises a UserError if the store does not match the checkpoint or has no test videos.
    """
    from ssrl.checkpoints import load_checkpoint
    from ssrl.evaluate.metrics import evaluate
    from ssrl.evaluate.protocol import THRESHOLD, check_protocol
    from ssrl.evaluate.scoring import score_split
    from ssrl.files import check_output, write_json
    from ssrl.hardware import choose_device
    from ssrl.workflows.heat import make_heat
    from ssrl.workflows.localize import measure_localization

    check_protocol(request.protocol)
    if request.json is not None:
        check_output(request.json)
    if request.report is not None:
        check_output(request.report, is_folder=True)
    watcher = watcher or EvaluationWatcher()
    checkpoint = load_checkpoint(request.checkpoint)
    store, device = open_store(checkpoint, request.features), choose_device(request.device)
    other = None if request.compare is None else load_checkpoint(request.compare)
    if other is not None:
        _check_fit(other, request.compare, store)

    def score(checkpoint: Checkpoint, network: Network) -> Iterator[VideoScores]:
        threshold = checkpoint.get_threshold(request.false_alarms) or THRESHOLD
        for video in score_split(network, store, threshold=threshold, domain=checkpoint.domain):
            watcher.video_scored(video)
            yield video

    watcher.scoring_begins(len(store.records("test")) * (1 if other is None else 2))
    network = checkpoint.build_network(device)
    videos = tuple(score(checkpoint, network))
    compared = None
    if other is not None and request.compare is not None:
        others = tuple(score(other, other.build_network(device)))
        compared = Compared(request.compare, evaluate(others, request.protocol), others)
    path, page = Path(request.checkpoint), request.report / "index.html" if request.report else None
    heat = make_heat(checkpoint, network, store, request.where)
    result = EvaluateResult(
        evaluate(videos, request.protocol),
        videos,
        checkpoint,
        path,
        store,
        request.where,
        measure_localization(heat, store, videos, request.masks, watcher),
        page,
        compared,
    )
    if request.json is not None:
        write_json(request.json, result.metrics())
    if request.report is not None:
        _write_report(request.report, result, heat, request.false_alarms)
    return result


def _check_fit(other: Checkpoint, path: Path | None, store: Store) -> None:
    """Raise a UserError if the checkpoint to compare with was trained on other features than these."""
    try:
        open_store(other, store.root)
    except UserError as error:
        raise UserError(f"{path} cannot be compared on these videos: {error}") from error


def open_store(checkpoint: Checkpoint, path: Path | None = None) -> Store:
    """Open the store at `path`, or the checkpoint's. Raises a UserError if it does not match the checkpoint."""
    from ssrl.plain import list_differences
    from ssrl.store.reader import Store

    trained_on = checkpoint.features
    if path is None:
        if trained_on is None:
            raise UserError("the checkpoint does not record its features; give them with --features")
        path = Path(trained_on.path)
        if not (path / "store.json").is_file():
            raise UserError(f"the checkpoint's features are no longer at {path}; give their folder with --features")
    store = Store(path)
    if trained_on is not None and store.config.fingerprint != trained_on.config.fingerprint:
        changes = list_differences(store.config.with_scales(trained_on.config.scales), trained_on.config)
        different = [text for text in changes if not text.startswith("dataset:")]
        if different:
            raise UserError(
                f"{path} does not match the features that the checkpoint was trained on "
                f"(this store, not the training store): {'; '.join(different)}"
            )
    store.check_scales(checkpoint.model.scales)
    return store


def _as_percent(share: float | None) -> str:
    return "not defined" if share is None else f"{share:.2%}"


def _write_report(folder: Path, result: EvaluateResult, heat: HeatMaker, false_alarms: float) -> None:
    """Write the report, with heatmaps of the most suspicious snippets if the videos are still in place."""
    from ssrl.evaluate.report.comparison import Comparison
    from ssrl.evaluate.report.write import write_report
    from ssrl.workflows.media import MediaKinds, write_media

    store, selected = result.store, result.selected
    facts = {
        "checkpoint": str(result.checkpoint_path),
        "features": f"{store.root} ({store.config.encoder}, weights {store.config.weights})",
        "scales": ", ".join(map(str, result.checkpoint.model.scales)),
        "selection": str(selected),
        "AUC of the last step": _as_percent(selected.last_step_auc),
        "AUC of a linear model": _as_percent(selected.linear_auc),
        "held-out training videos": (
            f"video-level AUC {_as_percent(selected.held_out_auc)}, linear model "
            f"{_as_percent(selected.linear_held_out_auc)}"
        ),
        "threshold": describe_threshold(result.checkpoint, false_alarms),
        "protocol": result.evaluation.protocol,
    }
    compared = None
    if result.compared is not None:
        facts["compared with"] = str(result.compared.checkpoint_path)
        names = _name_runs(result.checkpoint_path, result.compared.checkpoint_path)
        compared = Comparison(*names, result.compared.evaluation, result.compared.videos)
    suspicious = sorted(result.videos, key=lambda video: -video.highest_score)[:MAX_HEATMAP_VIDEOS]
    made = write_media(folder, store, suspicious, result.checkpoint, heat, MediaKinds(clips=False, timeline=False))
    title = f"Anomaly scores on {store.config.dataset}"
    write_report(
        folder,
        result.evaluation,
        result.videos,
        title=title,
        facts=facts,
        media={video_id: each.media for video_id, each in made.items()},
        metrics=result.metrics(),
        compared=compared,
        localization={str(where): found for where, found in result.localization.items()},
    )


def _name_runs(one: Path, other: Path) -> tuple[str, str]:
    """Name two checkpoints by where their paths differ last: a/run/best.pt, a/new/best.pt → run, new."""
    parts = zip(reversed(one.absolute().parts), reversed(other.absolute().parts), strict=False)
    return next((pair for pair in parts if pair[0] != pair[1]), (str(one), str(other)))
