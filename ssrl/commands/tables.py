"""The paper's Tables 1, 3, 4, 5 and 6 on the features of any store: `make tables DATASET=NAME`.

    rows of the tables → the few runs that give them, at each seed → train → one Markdown page

Every run is a folder of its own, so that the same command goes on where it was stopped, and may be given several times
at once, on several machines with one file system: each run is trained by one of them.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

import click

from ssrl.commands.options import HELP, make_request, option, parse_numbers, show_numbers
from ssrl.console import command_errors, note, results
from ssrl.errors import UserError
from ssrl.hardware import cores
from ssrl.model.recipes import RECIPES
from ssrl.paper_tables.request import Job, TablesRequest

if TYPE_CHECKING:
    from ssrl.commands.progress import TrainingProgress
    from ssrl.paper_tables.runs import Runs


@click.command(context_settings=HELP)
@option(TablesRequest, "features", help="The store.")
@option(TablesRequest, "out", help="Folder of the runs.")
@option(TablesRequest, "recipe", type=click.Choice(list(RECIPES)), help="As of ssrl-train.")
@option(TablesRequest, "seeds", callback=parse_numbers, show=show_numbers, help="Every run is trained at each of them.")
@option(
    TablesRequest,
    "scales",
    callback=parse_numbers,
    show=show_numbers,
    help="Scales of the rows, 1 and others.  [default: the store's]",
)
@option(TablesRequest, "steps", type=click.IntRange(min=1), help="Batches per stage.  [default: the recipe's]")
@option(TablesRequest, "device", help="Where the networks train.")
@option(
    TablesRequest,
    "paper",
    help="The paper's figures beside ours. A store cannot tell whether it holds the set itself, or one laid out as it.",
)
@option(TablesRequest, "page", help="The page to write.  [default: tables.md in --out]")
@option(TablesRequest, "jobs", type=click.IntRange(min=1), help="Processes that share the runs.")
@command_errors
def main(**options: Any) -> None:
    """Train what the rows of the paper's tables need, and write them as one page.

    Killed, it goes on with the same command; given twice, the two share the work.

    Example: python -m ssrl.commands.tables --features features/mine --out tables/mine --recipe small --jobs 2
    """
    from ssrl.paper_tables.runs import open_runs

    request = make_request(TablesRequest, **options)
    runs = open_runs(request)
    if request.jobs > 1:
        share(runs.request)
    else:
        runs.work(watch)
    conclude(runs)


def watch(job: Job, number: int, count: int) -> TrainingProgress:
    from ssrl.commands.progress import TrainingProgress

    note(f"run {number} of {count}: {job}")
    return TrainingProgress()


def conclude(runs: Runs) -> None:
    """Write the page, or say who will."""
    from ssrl.files import write_text
    from ssrl.paper_tables.page import make_page

    left, path = runs.unfinished(), runs.request.page_path
    if left:
        note(
            f"{len(left)} of {len(runs.jobs)} runs are in the hands of other processes ({left[0]} is one); "
            f"the last of them writes {path}"
        )
        return
    write_text(path, str(make_page(runs)))
    results.print(f"page: {path}", markup=False)


def share(request: TablesRequest) -> None:
    """Let several processes do the work, each with its share of the cores, and wait for all."""
    context = multiprocessing.get_context("spawn")
    threads = str(max(1, cores() // request.jobs))
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = threads  # read when a process imports PyTorch
    processes = [context.Process(target=work, args=(request,)) for _ in range(request.jobs)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()  # does nothing to those that have ended
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    failed = sum(process.exitcode != 0 for process in processes)
    if failed:
        raise UserError(
            f"{failed} of {request.jobs} processes failed, for the reasons above; "
            f"what is finished is kept, and the same command goes on from there"
        )


@command_errors
def work(request: TablesRequest) -> None:
    """One of several processes."""
    from ssrl.paper_tables.runs import open_runs

    open_runs(request).work(watch)


if __name__ == "__main__":
    main()
