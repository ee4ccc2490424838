"""The whole pipeline on a synthetic set: `make demo`.

    synthesize → extract (micro3d) → train stages 1 to 4 → evaluate → report

Each phase resumes where an interrupted demo stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssrl.commands import evaluate, extract
from ssrl.commands.options import HELP
from ssrl.console import ProgressBar, as_percent, handle_errors, note, results
from ssrl.datasets.synthetic.config import SynthConfig
from ssrl.workflows.evaluate import EvaluateRequest, evaluate_model
from ssrl.workflows.extract import ExtractRequest, extract_features
from ssrl.workflows.train import TrainRequest, train_model

if TYPE_CHECKING:
    from ssrl.checkpoints import StageResult


@dataclass
class Phases:
    """The duration of each phase in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        note(f"\n{name}")
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began


@click.command(context_settings=HELP)
@click.option("--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--seed", default=0, show_default=True, help="Seed of the dataset and of training.")
@handle_errors
def main(out: Path, seed: int) -> None:
    """Run the whole pipeline on a synthetic dataset: about five minutes on two cores.

    Example: python -m ssrl.commands.demo --out demo
    """
    from ssrl.commands.progress import ExtractionProgress, ScoringProgress, TrainingProgress
    from ssrl.datasets.synthetic.dataset import synthesize

    data, features, run, folder = out / "data", out / "features" / "synthetic", out / "run", out / "report"
    phases = Phases()
    with phases.time("synthesize"), ProgressBar("synthesizing") as bar:
        synthesize(data, SynthConfig(seed=seed), on_progress=bar.update)
    with phases.time("extract"), ExtractionProgress() as progress:
        extract.report(extract_features(ExtractRequest("shanghaitech", root=data, out=features), progress))
    with phases.time("train"), TrainingProgress() as progress:
        training = TrainRequest(features, run, seed=seed, resume=True)
        stages = train_model(training, progress).stages
    with phases.time("evaluate"), ScoringProgress() as progress:
        result = evaluate_model(EvaluateRequest(run / "best.pt", report=folder), progress)
    evaluate.report(result)
    _print_summary(stages, phases, folder / "index.html")


def _print_summary(results_by_stage: Sequence[StageResult], phases: Phases, page: Path) -> None:
    from rich.table import Table

    stages = Table("stage", "scales", "frame AUC, test", title="AUC by stage, at its last step")
    for result in results_by_stage:
        stages.add_row(str(result.stage), ", ".join(map(str, result.scales)), as_percent(result.last_test_auc))
    times = Table("phase", "time", title="time by phase")
    for name, seconds in [*phases.seconds.items(), ("total", sum(phases.seconds.values()))]:
        times.add_row(name, f"{seconds:.0f} s")
    results.print()
    results.print(stages)
    results.print(times)
    results.print(f"report: {page}", markup=False)


if __name__ == "__main__":
    main()
