"""The content of the page of tables: facts about the store and the runs, AUCs by row, Table 6."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ssrl.config import StoreConfig
from ssrl.datasets.video import to_frame_labels
from ssrl.hardware import choose_device, count_cores, describe_processor
from ssrl.model.recipes import ablate, find_recipe
from ssrl.paper_tables.cost import COUNT_NOTE, NUM_SEGMENTS, Cells, count_encoder, count_network, format_paper_costs
from ssrl.paper_tables.markdown import Page
from ssrl.paper_tables.request import TablesRequest
from ssrl.paper_tables.rows import ALL, WHOLE, Setting, list_omitted, list_settings, make_tables
from ssrl.paper_tables.runs import Runs
from ssrl.store.layout import StoredVideo

METRIC = (
    "frame AUC in per cent at the end of each stage, over the true frames of all test videos; "
    "no step was selected on test labels"
)
TUNED = ("small", "blend")
TUNED_REMARK = (
    "The recipes {} and the encoder micro3d were tuned on the test AUC of the synthetic dataset and of UCSD Ped2: "
    "results on these two are optimistic."
)


def make_page(runs: Runs) -> Page:
    """Make the page. All runs must be finished."""
    request, config = runs.request, runs.store.config
    assert request.scales is not None
    tables = make_tables(request.scales)
    return Page(
        title=f"The paper's tables on {request.features.name}",
        command=str(request),
        facts=list_facts(runs),
        remarks=make_remarks(request.recipe, request.scales),
        tables=tables,
        seeds=request.seeds,
        aucs=runs.collect_aucs(list_settings(tables)),
        paper=None if request.paper == "none" else request.paper,
        complexity=make_table_6(request.recipe, request.scales, config),
        complexity_note=f"For one video of {NUM_SEGMENTS} segments. {COUNT_NOTE}",
    )


def list_facts(runs: Runs) -> dict[str, str]:
    store, config = runs.store, runs.store.config
    training = runs.open_trainer(runs.jobs[0]).config
    avg = f", weights averaged from {training.average_from:.0%} of a stage on" if training.average_from < 1 else ""
    sampling = f", training videos sampled as {config.train_sampling}" if config.train_sampling != "dense" else ""
    reuse = ", features of unchanged patches reused" if config.reuse_static else ""
    snippet = f"{config.geometry.height}x{config.geometry.width}x{config.geometry.frames_per_snippet}"
    return {
        "machine": describe_machine(runs.request),
        "layout": config.dataset,
        "encoder": f"{config.encoder}, weights {config.weights} (SHA-256 {config.weights_sha256[:12]}…), "
        f"D = {config.feature_dim}",
        "snippets": f"{snippet}{sampling}{reuse}",
        "scales": ", ".join(f"{scale}: {window}" for scale, window in list_windows(config).items()),
        "training videos": describe_videos(store.records("train")),
        "test videos": describe_videos(store.records("test"), with_frames=True),
        "recipe": f"{training.recipe}, {training.steps} steps per stage, learning rate {training.learning_rate:g}{avg}",
        "seeds": ", ".join(map(str, runs.request.seeds)),
        "metric": METRIC,
    }


def describe_machine(request: TablesRequest) -> str:
    """The processor of the machine that writes the page, and the GPU if used."""
    text, device = f"{describe_processor()}, {count_cores()} cores", choose_device(request.device)
    return f"{text}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else text


def list_windows(config: StoreConfig) -> dict[int, str]:
    """Scale → its windows and their number."""
    grids = [config.geometry.grid(scale) for scale in config.scales]
    return {grid.scale: f"{grid.window_height}x{grid.window_width} ({grid.num_patches})" for grid in grids}


def describe_videos(records: Sequence[StoredVideo], with_frames: bool = False) -> str:
    frames = sum(record.num_frames for record in records)
    abnormal = sum(record.video.label == 1 for record in records)
    text = f"{len(records)} ({abnormal} abnormal), {frames:,} frames"
    if not with_frames:
        return text
    labels = (to_frame_labels(record.video.anomalies or (), record.num_frames) for record in records)
    return f"{text} ({sum(int(frames.sum()) for frames in labels):,} anomalous)"


def make_remarks(recipe: str, scales: tuple[int, ...]) -> list[str]:
    """Notes on the recipe's tuning, and on missing scales."""
    remarks = [TUNED_REMARK.format(" and ".join(TUNED))] if recipe in TUNED else []
    missing = list_omitted(scales)
    if missing:
        named = "; ".join(", ".join(map(str, subset)) for subset in missing)
        remarks.append(
            f"All scales are {', '.join(map(str, scales))} here, {', '.join(map(str, ALL))} in the paper. "
            f"Omitted from Table 3 for lack of scales: {named}."
        )
    return remarks


def make_table_6(recipe: str, scales: tuple[int, ...], config: StoreConfig) -> tuple[Cells, ...]:
    """Our networks, their encoder, and the paper's printed numbers."""
    networks = (
        ("baseline: scale 1 alone", WHOLE),
        ("SSRL", Setting("plain", scales)),
        ("SSRL, PSR shared", Setting("shared", scales)),
    )
    ours = []
    for name, setting in networks:
        model = find_recipe(recipe).model(config.feature_dim, setting.scales, config.grids)
        ours.append(count_network(name, ablate(model, **setting.ablation), config.num_crops))
    return (*ours, *count_encoder(scales, config), *format_paper_costs("paper"))
