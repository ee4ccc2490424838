"""ssrl-eval: checkpoint + store → metrics, JSON, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssrl.commands.options import HELP, make_request, option
from ssrl.console import as_percent, handle_errors, note, results, warn
from ssrl.workflows.evaluate import EvaluateRequest, evaluate_model, open_store

if TYPE_CHECKING:
    from ssrl.evaluate.detection import Detection
    from ssrl.workflows.evaluate import EvaluateResult

METRICS = (
    ("auc", "AUC, all frames"),
    ("ap", "average precision"),
    ("auc_abnormal", "AUC, abnormal videos only"),
    ("video_auc", "video-level AUC"),
    ("far", "false-alarm rate at 0.5"),
)


@click.command(context_settings=HELP)
@option(EvaluateRequest, "checkpoint", "--ckpt", type=click.Path(path_type=Path), help="Checkpoint from ssrl-train.")
@option(EvaluateRequest, "features", help="Feature store.  [default: the checkpoint's]")
@option(EvaluateRequest, "json", help="Write all metrics to this file.")
@option(EvaluateRequest, "report", help="Write a report to this folder.")
@option(EvaluateRequest, "compare", help="Another checkpoint, shown beside this one on the same videos.")
@option(EvaluateRequest, "protocol", help="true: true frame counts; released: padded as in common ground-truth files.")
@option(EvaluateRequest, "false_alarms", help="Share of normal snippets that may raise an alarm: 0.001, 0.01 or 0.05.")
@option(EvaluateRequest, "where", help="Heatmaps of the contribution to the score, or of PSR's attention (Fig. 6).")
@option(EvaluateRequest, "masks", help="Folder of pixel masks, to measure heatmaps.  [default: beside the videos]")
@click.option("--complexity", is_flag=True, help="Count parameters and FLOPs instead (Table 6).")
@option(EvaluateRequest, "device", help="Device to run the network on.")
@handle_errors
def main(complexity: bool, **options: Any) -> None:
    """Evaluate a checkpoint on the test videos of its store.

    Example: ssrl-eval --ckpt best.pt --json metrics.json --report report
    """
    from ssrl.commands.progress import ScoringProgress

    request = make_request(EvaluateRequest, **options)
    if complexity:
        if request.json is not None or request.report is not None:
            raise click.UsageError("--complexity evaluates no videos; omit --json and --report")
        print_complexity(request)
        return
    with ScoringProgress() as progress:
        result = evaluate_model(request, progress)
    report(result)
    report_comparison(result)
    for name, path in (("metrics", request.json), ("report", result.report)):
        if path is not None:
            note(f"{name}: {path}")


def report(result: EvaluateResult) -> None:
    evaluation, selected = result.evaluation, result.selected
    for warning in evaluation.warnings:
        warn(warning)
    for name, title in METRICS:
        reason = evaluation.undefined.get(name)
        text = as_percent(getattr(evaluation, name)) + (f" ({reason})" if reason else "")
        results.print(f"{title:28}{text}", markup=False)
    for name, per_class in evaluation.per_class.items():
        results.print(f"  {name:26}{as_percent(per_class.auc)} ({per_class.num_videos} videos)", markup=False)
    print_temporal(evaluation.temporal)
    for where, found in result.localization.items():
        measured = f"pixel AUC {as_percent(found.pixel_auc)}, pointing {as_percent(found.pointing)}"
        results.print(f"{'heatmaps, ' + where:28}{measured} ({found.num_frames} frames)")
    results.print(f"{'frames, videos':28}{evaluation.num_frames}, {evaluation.num_videos} ({evaluation.protocol})")
    last, linear = as_percent(selected.last_step_auc), as_percent(selected.linear_auc)
    results.print(f"{'selection':28}{selected}; AUC of the last step {last}", markup=False)
    results.print(f"{'linear model, same features':28}{linear}", markup=False)
    held_out, linear = as_percent(selected.held_out_auc), as_percent(selected.linear_held_out_auc)
    results.print(f"{'held-out training videos':28}video-level AUC {held_out}, linear model {linear}", markup=False)


def print_temporal(temporal: Detection) -> None:
    alarms, delay = temporal.false_alarms_per_hour, temporal.delay_seconds
    frames = "" if temporal.delay_frames is None else f", median delay {temporal.delay_frames:.0f} frames"
    late = frames if delay is None else f", median delay {delay:.1f} s"
    wrong = "" if alarms is None else f"; {alarms:.1f} false alarms an hour"
    results.print(f"{'mean AP, IoU 0.1 to 0.5':28}{as_percent(temporal.mean_ap)} ({temporal.num_events} events)")
    results.print(f"{'anomalies detected':28}{temporal.detected} of {temporal.num_anomalies}{late}{wrong}")


def report_comparison(result: EvaluateResult) -> None:
    if result.compared is None:
        return
    results.print(f"compared with {result.compared.checkpoint_path}", markup=False)
    for name, title in METRICS:
        ours, theirs = getattr(result.evaluation, name), getattr(result.compared.evaluation, name)
        difference = "" if None in (ours, theirs) else f" (here {100 * (ours - theirs):+.2f})"
        results.print(f"  {title:26}{as_percent(theirs)}{difference}", markup=False)


def print_complexity(request: EvaluateRequest) -> None:
    """Print the size and cost of the network and its encoder, beside the paper's Table 6."""
    from rich.table import Table

    from ssrl.checkpoints import load_checkpoint
    from ssrl.paper_tables.cost import (
        COUNT_NOTE,
        COUNTS,
        NUM_SEGMENTS,
        count_encoder,
        count_network,
        format_paper_costs,
    )

    checkpoint = load_checkpoint(request.checkpoint)
    model, config = checkpoint.model, checkpoint.features.config if checkpoint.features else None
    if request.features is not None:
        config = open_store(checkpoint, request.features).config
    size = f", frames of {config.geometry.height}x{config.geometry.width}" if config else ""
    title = f"one video of {NUM_SEGMENTS} segments, scales {','.join(map(str, model.scales))}{size}"
    table = Table("", *COUNTS, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    num_crops = config.num_crops if config else 1
    crops = f", {num_crops} crops" if num_crops > 1 else ""
    table.add_row(*count_network(f"network, D = {model.feature_dim}{crops}", model, num_crops))
    for cells in count_encoder(model.scales, config):
        table.add_row(*cells)
    table.add_section()
    for cells in format_paper_costs("Table 6"):
        table.add_row(*cells)
    results.print(table)
    results.print(COUNT_NOTE)


if __name__ == "__main__":
    main()
