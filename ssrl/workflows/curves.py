"""The curves of a training run, curves.png, drawn from its log: losses by step above, AUC by stage below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ssrl.checkpoints import StageResult
from ssrl.files import replacing
from ssrl.geometry import ceil_div
from ssrl.train.log import LOG, CheckRecord, Log, StepRecord
from ssrl.train.stages import TrainingWatcher

CURVES = "curves.png"
MAX_POINTS = 300  # of a curve in a stage; of more steps, means are drawn
SMOOTHING = 0.1  # of a stage's steps in a moving mean
COLORS = ("#2f5fd0", "#e8742c", "#2c9c69", "#a04fc4")
TOTAL_COLOR = "#22262e"
BAND_COLOR = "#eef1f6"  # of every other stage
GRID_COLOR = "#d5d9e0"
LEGEND: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False}


@dataclass(frozen=True)
class Stage:
    """A finished stage, with its steps and checks. Its first step is step `start` + 1 of the run."""

    result: StageResult
    start: int
    steps: tuple[StepRecord, ...]
    checks: tuple[CheckRecord, ...]

    @property
    def stop(self) -> int:
        return self.start + self.result.last_step


class CurveDrawer(TrainingWatcher):
    """Draws the curves anew after each stage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stage_ends(self, result: StageResult) -> None:
        with replacing(self._folder / CURVES) as temporary:
            plot_run(self._folder / LOG).savefig(temporary, format="png", dpi=150)


def plot_run(log: Path) -> Figure:
    """Plot the finished stages of a run. Losses are left out if there are none to compare, as for a linear model."""
    stages = _read_stages(log)
    trained = [stage for stage in stages if len(stage.steps) > 1]
    figure = Figure(figsize=(10, 7 if trained else 4), layout="constrained")
    panels = figure.subplots(2 if trained else 1, sharex=True, squeeze=False)[:, 0]
    if trained:
        _plot_losses(panels[0], trained)
    _plot_aucs(panels[-1], stages)
    for axes in panels:
        _mark_stages(axes, stages)
    for stage in stages:
        scales = ", ".join(map(str, stage.result.scales))
        title = f"stage {stage.result.stage}\nscale{'s' * (len(stage.result.scales) > 1)} {scales}"
        place = ((stage.start + stage.stop) / 2, 1.02)
        panels[0].text(*place, title, transform=panels[0].get_xaxis_transform(), ha="center", va="bottom", fontsize=9)
    panels[-1].set(xlabel="step", xlim=(0, stages[-1].stop))
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _read_stages(log: Path) -> list[Stage]:
    records = list(Log(log).read())
    results = [record for record in records if isinstance(record, StageResult)]
    starts = accumulate((result.last_step for result in results), initial=0)
    steps = [record for record in records if isinstance(record, StepRecord)]
    checks = [record for record in records if isinstance(record, CheckRecord)]
    return [
        Stage(
            result,
            start,
            tuple(record for record in steps if record.stage == result.stage),
            tuple(record for record in checks if record.stage == result.stage),
        )
        for result, start in zip(results, starts, strict=False)
    ]


def _plot_losses(axes: Axes, stages: Sequence[Stage]) -> None:
    """Each batch pale, moving means bold. Terms differ by orders of magnitude, so the axis is logarithmic."""
    names = dict.fromkeys(name for stage in stages for step in stage.steps for name in step.losses)
    if len(names) == 2:
        del names["total"]  # equals the one term
    lowest = []
    for index, name in enumerate(names):
        color = TOTAL_COLOR if name == "total" else COLORS[index % len(COLORS)]
        for stage in stages:
            x = _thin([stage.start + step.step for step in stage.steps])
            y = _thin([step.losses[name] for step in stage.steps])
            smooth = _smooth(y)
            axes.plot(x, _mask(y), color=color, lw=0.8, alpha=0.25)
            axes.plot(x, _mask(smooth), color=color, lw=1.8, label=name if stage is stages[0] else "")
            lowest += [value for value in smooth if value > 0]
    axes.set(yscale="log", ylabel="loss")
    if lowest:
        axes.set_ylim(bottom=min(lowest) / 2)
    axes.legend(**LEGEND)


def _thin(values: Sequence[float]) -> np.ndarray:
    """Means of equally many neighbors, so that at most `MAX_POINTS` are left."""
    count = ceil_div(len(values), MAX_POINTS)
    return np.array([np.mean(values[start : start + count]) for start in range(0, len(values), count)])


def _smooth(values: np.ndarray) -> np.ndarray:
    """Moving means over a share of the curve; fewer values at its ends."""
    window = np.ones(max(1, round(SMOOTHING * len(values))))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _mask(values: np.ndarray) -> np.ndarray:
    """A term of 0, which has no logarithm, becomes a gap."""
    return np.where(values > 0, values, np.nan)


def _plot_aucs(axes: Axes, stages: Sequence[Stage]) -> None:
    """Those of each stage at its end, and the selection metric where it was checked."""
    results, stops = [stage.result for stage in stages], [stage.stop for stage in stages]
    checks = [(stage.start + check.step, check) for stage in stages for check in stage.checks]
    if checks:
        steps, values = [step for step, _ in checks], [check.value for _, check in checks]
        _plot_defined(axes, steps, values, f"{checks[0][1].metric}, at checks", ".-", TOTAL_COLOR)
    for label, color, get_own, get_linear in (
        ("test frames", COLORS[0], attrgetter("last_test_auc"), attrgetter("linear_test_auc")),
        ("held-out videos", COLORS[1], attrgetter("held_out_auc"), attrgetter("linear_held_out_auc")),
    ):
        own, linear = [get_own(result) for result in results], [get_linear(result) for result in results]
        _plot_defined(axes, stops, own, label, "o-", color)
        if linear != own:
            _plot_defined(axes, stops, linear, f"{label}, linear model", "o:", color, mfc="white")
    axes.set_ylabel("AUC")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    if axes.lines:
        axes.set_ylim(min(0.9, axes.get_ylim()[0]), 1)
        axes.legend(**LEGEND)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no AUC is defined", transform=axes.transAxes, ha="center")


def _plot_defined(
    axes: Axes, steps: Sequence[int], values: Sequence[float | None], label: str, style: str, color: str, **more: Any
) -> None:
    places = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    if places:
        axes.plot(*zip(*places, strict=True), style, label=label, color=color, lw=1.4, ms=6, clip_on=False, **more)


def _mark_stages(axes: Axes, stages: Sequence[Stage]) -> None:
    for stage in stages[1::2]:
        axes.axvspan(stage.start, stage.stop, color=BAND_COLOR, lw=0, zorder=0)
    axes.grid(axis="y", color=GRID_COLOR, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
