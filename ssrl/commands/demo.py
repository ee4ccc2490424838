"""The whole pipeline on a synthetic set: `make demo`.

    synthesise → extract (micro3d) → train stages 1 to 4 → evaluate → report

Each phase goes on where an earlier, interrupted demo stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from ssrl.commands.options import HELP
from ssrl.console import command_errors, note, results


@dataclass
class Phases:
    """How long each phase took, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, phase: Callable[[], None]) -> None:
        note(f"\n{name}")
        began = time.monotonic()
        phase()
        self.seconds[name] = time.monotonic() - began


@click.command(context_settings=HELP)
@click.option("--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Where all of it goes.")
@click.option("--seed", default=0, show_default=True, help="Of the set and of the training.")
@command_errors
def main(out: Path, seed: int) -> None:
    """Show the pipeline at work on videos that it draws itself: about five minutes on two cores.

    Example: python -m ssrl.commands.demo --out demo
    """
    from ssrl.commands import evaluate, extract, synth, train

    data, features, run, report = out / "data", out / "features" / "synthetic", out / "run", out / "report"
    phases = Phases()
    phases.run("synthesise", lambda: _call(synth.main, "--out", data, "--seed", seed, "--no-pixel-masks"))
    phases.run("extract", lambda: _call(extract.main, "--dataset", "shanghaitech", "--root", data, "--out", features))
    phases.run(
        "train",
        lambda: _call(
            train.main, "--features", features, "--out", run, "--recipe", "small", "--seed", seed, "--resume"
        ),
    )
    phases.run(
        "evaluate",
        lambda: _call(evaluate.main, "--ckpt", run / "best.pt", "--report", report, "--json", report / "metrics.json"),
    )
    _summary(run, phases, report)


def _call(command: click.Command, *arguments: object) -> None:
    """Run another command as if it had been typed; its failure ends the demo."""
    command.main([str(argument) for argument in arguments], standalone_mode=False)


def _summary(run: Path, phases: Phases, report: Path) -> None:
    from rich.table import Table

    from ssrl.checkpoints import load_checkpoint

    stages = Table("stage", "scales", "frame AUC, test", title="AUC by stage, at its last step")
    for stage in load_checkpoint(run / "best.pt").metrics["stages"]:
        auc = stage["last_test_auc"]
        stages.add_row(str(stage["stage"]), ", ".join(map(str, stage["scales"])), f"{100 * auc:.2f} %")
    times = Table("phase", "time", title="time by phase")
    for name, seconds in [*phases.seconds.items(), ("all", sum(phases.seconds.values()))]:
        times.add_row(name, f"{seconds:.0f} s")
    results.print()
    results.print(stages)
    results.print(times)
    results.print(f"report: {report / 'index.html'}", markup=False)


if __name__ == "__main__":
    main()
