"""The paper's Tables 1, 3, 4, 5 and 6 on the features of any store: `make tables DATASET=NAME`.

    rows of the tables → the few runs that give them, at each seed → train → one Markdown page

Every run is a folder of its own, so that the same command goes on where it was stopped, and may be given several times
at once, on several machines with one file system: each run is trained by one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ssrl.commands.options import HELP, parse_numbers
from ssrl.console import command_errors, note, results
from ssrl.errors import UserError
from ssrl.paper_tables.request import MODULE, Request, default_page
from ssrl.paper_tables.rows import PAPER_NAMES, auc_tables, check_scales, runs_for, settings_of

if TYPE_CHECKING:
    from ssrl.commands.train import TrainingProgress
    from ssrl.paper_tables.runs import Job, Runs
    from ssrl.store.reader import Store


@click.command(context_settings=HELP)
@click.option("--features", required=True, type=click.Path(path_type=Path), help="The store.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder of the runs.")
@click.option("--recipe", default="paper", show_default=True, help="As of ssrl-train: paper, released, small.")
@click.option("--seeds", default="0,1,2", show_default=True, callback=parse_numbers, help="Every run at each of them.")
@click.option("--scales", callback=parse_numbers, help="The rows' scales, 1 and others.  [default: the store's]")
@click.option("--steps", type=click.IntRange(min=1), help="Batches a stage.  [default: the recipe's]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--paper",
    default="none",
    show_default=True,
    type=click.Choice([*PAPER_NAMES, "none"]),
    help="The paper's figures beside ours. A store cannot tell whether it holds the set itself, or one laid out as it.",
)
@click.option("--page", type=click.Path(path_type=Path), help="The page to write.  [default: tables.md in --out]")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Processes that share the runs.")
@command_errors
def main(
    features: Path,
    out: Path,
    recipe: str,
    seeds: tuple[int, ...],
    scales: tuple[int, ...] | None,
    steps: int | None,
    device: str,
    paper: str,
    page: Path | None,
    jobs: int,
) -> None:
    """Train what the rows of the paper's tables need, and write them as one page.

    Killed, it goes on with the same command; given twice, the two share the work.

    Example: python -m ssrl.commands.tables --features features/mine --out tables/mine --recipe small --jobs 2
    """
    from ssrl.store.reader import Store

    store = Store(features)
    wanted = check_scales(scales or store.config.scales)
    store.check_scales(wanted)
    request = Request(features, out, recipe, seeds, wanted, steps, device, paper, page or default_page(out))
    runs = open_runs(store, request)
    if jobs > 1:
        share(request, jobs)
    else:
        runs.work(watch)
    conclude(runs, request)


def open_runs(store: Store, request: Request) -> Runs:
    """The runs that give all rows; the training view, which all of them read, is built here where it is not there."""
    from ssrl.evaluate.scoring import frame_auc
    from ssrl.hardware import choose_device
    from ssrl.paper_tables.runs import Runs
    from ssrl.store.segments import segment_view
    from ssrl.train.config import training_config

    num_segments = training_config(request.recipe).num_segments
    test_auc = frame_auc(store)
    if test_auc is None:
        raise UserError(f"the tables are of frame AUCs, but {what_is_missing(store)}")
    segment_view(store, num_segments)
    runs = runs_for(settings_of(auc_tables(request.scales)))
    device = choose_device(request.device)
    return Runs(store, request.out, runs, request.seeds, request.recipe, request.steps, device, test_auc)


def watch(job: Job, number: int, count: int) -> TrainingProgress:
    from ssrl.commands.train import TrainingProgress

    note(f"run {number} of {count}: {job}")
    return TrainingProgress(len(job.run.scales))


def what_is_missing(store: Store) -> str:
    """Why there is no frame AUC on a store, and what to do."""
    videos = store.records("test")
    bare = [video.id for video in videos if video.anomalies is None]
    if not videos:
        return f"{store.root} has no test videos; extract some, with test in their split column"
    if bare:
        return (
            f"{len(bare)} of the {len(videos)} test videos of {store.root} have no frame labels ({bare[0]} is one); "
            f"extract them with --frame-labels, or from a dataset that has them"
        )
    return f"no test video of {store.root} has an anomalous frame; extract some that have"


def conclude(runs: Runs, request: Request) -> None:
    """Write the page, or say who will."""
    from ssrl.files import write_text
    from ssrl.paper_tables.page import make_page

    left = runs.unfinished()
    if left:
        note(
            f"{len(left)} of {len(runs.jobs)} runs are in the hands of other processes ({left[0]} is one); "
            f"the last of them writes {request.page}"
        )
        return
    write_text(request.page, str(make_page(runs, request)))
    results.print(f"page: {request.page}", markup=False)


def share(request: Request, jobs: int) -> None:
    """Let `jobs` processes of this command do the work, each with its share of the cores, and wait for all."""
    from ssrl.hardware import cores

    command = [sys.executable, "-m", MODULE, *request.arguments()]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, cores() // jobs))}
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(jobs)]
    relays = [
        threading.Thread(target=relay, args=(number, process.stderr)) for number, process in enumerate(processes, 1)
    ]
    for thread in relays:
        thread.start()
    try:
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.terminate()  # does nothing to those that have ended
        for thread in relays:
            thread.join()
    if any(codes):
        raise UserError(
            f"{sum(map(bool, codes))} of {jobs} processes failed, for the reasons above; "
            f"what is finished is kept, and the same command goes on from there"
        )


def relay(number: int, lines: IO[str]) -> None:
    """Say what one of several processes says, line by line."""
    for line in lines:
        note(f"job {number}: {line.rstrip()}")


if __name__ == "__main__":
    main()
