"""ssrl-eval: checkpoint + store → metrics, JSON, report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssrl.commands.options import HELP, WHERE
from ssrl.console import command_errors, note, percent, progress_bar, results, warn
from ssrl.errors import UserError

if TYPE_CHECKING:
    from ssrl.checkpoints import Checkpoint
    from ssrl.evaluate.metrics import Evaluation
    from ssrl.evaluate.protocol import VideoScores
    from ssrl.model.network import SSRL
    from ssrl.store.reader import Store

PICTURED_VIDEOS = 12  # in a report: the most suspicious ones


@click.command(context_settings=HELP)
@click.option("--ckpt", required=True, type=click.Path(path_type=Path), help="A checkpoint of ssrl-train.")
@click.option("--features", type=click.Path(path_type=Path), help="The store.  [default: the checkpoint's own]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all metrics to this file.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a report to this folder.")
@click.option("--protocol", default="true", show_default=True, help="true: true frame counts; released: padded.")
@WHERE
@click.option("--complexity", is_flag=True, help="Count parameters and FLOPs instead (Table 6); reads no features.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@command_errors
def main(
    ckpt: Path,
    features: Path | None,
    json_file: Path | None,
    report: Path | None,
    protocol: str,
    where: str,
    complexity: bool,
    device: str,
) -> None:
    """Measure a checkpoint on the test videos of its store.

    Example: ssrl-eval --ckpt best.pt --json metrics.json --report report
    """
    from ssrl.checkpoints import load_checkpoint
    from ssrl.evaluate.metrics import evaluate
    from ssrl.evaluate.protocol import check_protocol
    from ssrl.evaluate.scoring import score_videos
    from ssrl.files import write_json
    from ssrl.hardware import choose_device
    from ssrl.paper_tables.cost import print_complexity

    check_protocol(protocol)
    checkpoint = load_checkpoint(ckpt)
    if complexity:
        if json_file is not None or report is not None:
            raise UserError("--complexity measures no videos, so there is nothing for --json or --report to hold")
        print_complexity(checkpoint, None if features is None else open_store(checkpoint, features).config)
        return
    store = open_store(checkpoint, features)
    network = checkpoint.network(choose_device(device))
    with progress_bar("videos") as bar:
        task = bar.add_task("scoring", total=len(store.records("test")), news="")
        videos = []
        for video in score_videos(network, store):
            videos.append(video)
            bar.advance(task)
    evaluation = evaluate(videos, protocol)  # type: ignore[arg-type]  # checked above
    _print(evaluation, checkpoint)
    if json_file is not None:
        write_json(json_file, as_json(evaluation, checkpoint, ckpt, store))
        note(f"metrics: {json_file}")
    if report is not None:
        note(f"report: {write(report, evaluation, videos, checkpoint, network, ckpt, store, where)}")


def open_store(checkpoint: Checkpoint, features: Path | None) -> Store:
    """The store named, or the checkpoint's own; refused where its features are of another configuration."""
    from ssrl.store.layout import StoreConfig
    from ssrl.store.reader import Store

    if features is None and "path" not in checkpoint.store:
        raise UserError("the checkpoint does not say where its features are; name them with --features")
    path = features or Path(checkpoint.store["path"])
    if features is None and not (path / "store.json").is_file():
        raise UserError(f"the checkpoint's features were at {path}, and are not there; name them with --features")
    store = Store(path)
    if "config" in checkpoint.store and store.config.fingerprint != checkpoint.store.get("fingerprint"):
        trained_on = StoreConfig.from_json(checkpoint.store["config"], path)
        different = [text for text in store.config.differences(trained_on) if not text.startswith("dataset:")]
        if different:
            raise UserError(
                f"{path} holds features of another configuration than the checkpoint was trained on "
                f"(there, not trained on): {'; '.join(different)}"
            )
    store.check_scales(checkpoint.model.scales)
    return store


def as_json(evaluation: Evaluation, checkpoint: Checkpoint, ckpt: Path, store: Store) -> dict[str, Any]:
    stages = checkpoint.metrics.get("stages", [])
    return {
        **evaluation.to_json(),
        "selection": _selection(checkpoint),
        "stages": stages,
        "checkpoint": str(ckpt),
        "features": str(store.root),
    }


def _selection(checkpoint: Checkpoint) -> dict[str, Any]:
    """How the checkpoint was chosen, and the frame AUC of the last step beside it."""
    last: Mapping[str, Any] = (checkpoint.metrics.get("stages") or [{}])[-1]
    return {
        "by": last.get("selection", "unknown"),
        "step": last.get("selected_step"),
        "last_step": last.get("last_step"),
        "last_step_auc": last.get("last_test_auc"),
    }


def write(
    folder: Path,
    evaluation: Evaluation,
    videos: list[VideoScores],
    checkpoint: Checkpoint,
    network: SSRL,
    ckpt: Path,
    store: Store,
    where: str,
) -> Path:
    """The report, with a map of where on the most suspicious snippets, if the videos are still at their place."""
    from ssrl.evaluate.report.write import write_report
    from ssrl.workflows.overlays import write_overlays

    selection = _selection(checkpoint)
    facts = {
        "checkpoint": str(ckpt),
        "features": f"{store.root} ({store.config.encoder}, weights {store.config.weights})",
        "scales": ", ".join(map(str, checkpoint.model.scales)),
        "selection": _selected(selection),
        "AUC of the last step": percent(selection["last_step_auc"]),
        "protocol": evaluation.protocol,
    }
    suspicious = sorted(videos, key=lambda video: -video.highest_score)[:PICTURED_VIDEOS]
    overlays = write_overlays(folder, network, store, suspicious, where)
    title = f"Anomaly scores on {store.config.dataset}"
    metrics = as_json(evaluation, checkpoint, ckpt, store)
    return write_report(folder, evaluation, videos, title=title, facts=facts, metrics=metrics, overlays=overlays)


ROWS = (
    ("auc", "AUC, all frames"),
    ("ap", "average precision"),
    ("auc_abnormal", "AUC, abnormal videos alone"),
    ("video_auc", "AUC, video by video"),
    ("far", "false-alarm rate at 0.5"),
)


def _print(evaluation: Evaluation, checkpoint: Checkpoint) -> None:
    for warning in evaluation.warnings:
        warn(warning)
    for name, title in ROWS:
        reason = evaluation.undefined.get(name)
        text = percent(getattr(evaluation, name)) + (f" ({reason})" if reason else "")
        results.print(f"{title:28}{text}", markup=False)
    for name, result in evaluation.per_class.items():
        results.print(f"  {name:26}{percent(result.auc)} ({result.num_videos} videos)", markup=False)
    selection = _selection(checkpoint)
    results.print(f"{'frames, videos':28}{evaluation.num_frames}, {evaluation.num_videos} ({evaluation.protocol})")
    results.print(
        f"{'selection':28}{_selected(selection)}; AUC of the last step {percent(selection['last_step_auc'])}",
        markup=False,
    )


def _selected(selection: Mapping[str, Any]) -> str:
    steps = "" if selection["step"] is None else f", step {selection['step']} of {selection['last_step']}"
    return f"{selection['by']}{steps}"
