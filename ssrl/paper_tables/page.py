"""What stands on the page of tables: the facts of the store and of the runs, the rows' AUCs, Table 6."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ssrl.config import StoreConfig
from ssrl.datasets.video import to_frame_labels
from ssrl.hardware import choose_device, cores, processor
from ssrl.model.recipes import ablate, find_recipe
from ssrl.paper_tables.cost import NUM_SEGMENTS, WHAT_IS_COUNTED, Cells, count_encoder, count_network, printed_costs
from ssrl.paper_tables.markdown import Page
from ssrl.paper_tables.request import TablesRequest
from ssrl.paper_tables.rows import ALL, WHOLE, Setting, auc_tables, left_out, settings_of
from ssrl.paper_tables.runs import Runs
from ssrl.store.layout import StoredVideo

METRIC = (
    "frame AUC in per cent at the end of each stage, over the true frames of all test videos; "
    "no step was selected on test labels"
)
SMALL_REMARK = (
    "The recipe small and the encoder micro3d were settled on the synthetic set and on UCSD Ped2 with the test AUC in "
    "view: figures on these two sets are optimiztic."
)


def make_page(runs: Runs) -> Page:
    """All runs must be finished."""
    request, config = runs.request, runs.store.config
    assert request.scales is not None
    tables = auc_tables(request.scales)
    return Page(
        title=f"The paper's tables on {request.features.name}",
        command=str(request),
        facts=list_facts(runs),
        remarks=make_remarks(request.recipe, request.scales),
        tables=tables,
        seeds=request.seeds,
        aucs=runs.aucs(settings_of(tables)),
        paper=None if request.paper == "none" else request.paper,
        complexity=make_table_6(request.recipe, request.scales, config),
        complexity_note=f"Of one video of {NUM_SEGMENTS} segments. {WHAT_IS_COUNTED}",
    )


def list_facts(runs: Runs) -> dict[str, str]:
    store, config = runs.store, runs.store.config
    training = runs.trainer(runs.jobs[0]).config
    mean = f", weights averaged from {training.average_from:.0%} of a stage on" if training.average_from < 1 else ""
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
        "training videos": count_videos(store.records("train")),
        "test videos": count_videos(store.records("test"), with_frames=True),
        "recipe": f"{training.recipe}, {training.steps} steps a stage, learning rate {training.learning_rate:g}{mean}",
        "seeds": ", ".join(map(str, runs.request.seeds)),
        "metric": METRIC,
    }


def describe_machine(request: TablesRequest) -> str:
    """The machine that writes the page, with its GPU where that was asked for or found."""
    text, device = f"{processor()}, {cores()} cores", choose_device(request.device)
    return f"{text}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else text


def list_windows(config: StoreConfig) -> dict[int, str]:
    """Scale → its windows and their number."""
    grids = [config.geometry.grid(scale) for scale in config.scales]
    return {grid.scale: f"{grid.window_height}x{grid.window_width} ({grid.num_patches})" for grid in grids}


def count_videos(records: Sequence[StoredVideo], with_frames: bool = False) -> str:
    frames = sum(record.num_frames for record in records)
    abnormal = sum(record.video.label == 1 for record in records)
    text = f"{len(records)} ({abnormal} abnormal), {frames:,} frames"
    if not with_frames:
        return text
    labels = (to_frame_labels(record.video.anomalies or (), record.num_frames) for record in records)
    return f"{text} ({sum(int(frames.sum()) for frames in labels):,} anomalous)"


def make_remarks(recipe: str, scales: tuple[int, ...]) -> list[str]:
    """What a reader must know: how the recipe came about, and where not all of the paper's scales are there."""
    found = [SMALL_REMARK] if recipe == "small" else []
    missing = left_out(scales)
    if missing:
        named = "; ".join(", ".join(map(str, subset)) for subset in missing)
        found.append(
            f"All scales are {', '.join(map(str, scales))} here; the paper's are {', '.join(map(str, ALL))}. "
            f"Left out of Table 3, because they need other scales: {named}."
        )
    return found


def make_table_6(recipe: str, scales: tuple[int, ...], config: StoreConfig) -> tuple[Cells, ...]:
    """Our networks, their encoder, and the paper's figures as printed."""
    networks = (
        ("baseline: scale 1 alone", WHOLE),
        ("SSRL", Setting("plain", scales)),
        ("SSRL, PSR shared", Setting("shared", scales)),
    )
    ours = []
    for name, setting in networks:
        model = find_recipe(recipe).model(config.feature_dim, setting.scales, config.grids)
        ours.append(count_network(name, ablate(model, **setting.ablation), config.num_crops))
    return (*ours, *count_encoder(scales, config), *printed_costs("paper"))
