"""The paper's Tables 1, 3, 4, 5 and 6 on the features of any store: `make tables DATASET=NAME`.

    rows of the tables → the few runs that cover them, per seed → train → one Markdown page

Every run has its own folder, so the same command resumes where it stopped. Several copies, also on machines that share
a file system, divide the runs among them.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

import click

from ssrl.commands.options import HELP, make_request, option, parse_numbers, show_numbers
from ssrl.console import handle_errors, note, results
from ssrl.errors import UserError
from ssrl.hardware import count_cores
from ssrl.model.recipes import RECIPES
from ssrl.paper_tables.request import Job, TablesRequest

if TYPE_CHECKING:
    from ssrl.commands.progress import TrainingProgress
    from ssrl.paper_tables.runs import Runs


@click.command(context_settings=HELP)
@option(TablesRequest, "features", help="Feature store.")
@option(TablesRequest, "out", help="Folder of the runs.")
@option(TablesRequest, "recipe", type=click.Choice(list(RECIPES)), help="Recipe, as in ssrl-train.")
@option(TablesRequest, "seeds", callback=parse_numbers, show=show_numbers, help="Seeds of every run.")
@option(
    TablesRequest,
    "scales",
    callback=parse_numbers,
    show=show_numbers,
    help="Scales of the rows: 1 and others.  [default: the store's]",
)
@option(TablesRequest, "steps", type=click.IntRange(min=1), help="Batches per stage.  [default: the recipe's]")
@option(TablesRequest, "device", help="Device to train on.")
@option(
    TablesRequest,
    "paper",
    help="Show the paper's results beside ours. Only for features of that dataset, not of one in its layout.",
)
@option(TablesRequest, "page", help="Page to write.  [default: tables.md in --out]")
@option(TablesRequest, "jobs", type=click.IntRange(min=1), help="Processes that divide the runs.")
@handle_errors
def main(**options: Any) -> None:
    """Train the runs behind the paper's tables and write the tables as one page.

    Run the same command again to resume; two at once divide the work.

    Example: python -m ssrl.commands.tables --features features/mine --out tables/mine --recipe small --jobs 2
    """
    from ssrl.paper_tables.runs import open_runs

    request = make_request(TablesRequest, **options)
    runs = open_runs(request)
    if request.jobs > 1:
        share(runs.request)
    else:
        runs.work(watch)
    finish(runs)


def watch(job: Job, number: int, count: int) -> TrainingProgress:
    from ssrl.commands.progress import TrainingProgress

    note(f"run {number} of {count}: {job}")
    return TrainingProgress()


def finish(runs: Runs) -> None:
    """Write the page, or say who will."""
    from ssrl.files import write_text
    from ssrl.paper_tables.page import make_page

    unfinished, path = runs.list_unfinished(), runs.request.page_path
    if unfinished:
        note(
            f"{len(unfinished)} of {len(runs.jobs)} runs are being trained by other processes, e.g. {unfinished[0]}; "
            f"the last to finish writes {path}"
        )
        return
    write_text(path, str(make_page(runs)))
    results.print(f"page: {path}", markup=False)


def share(request: TablesRequest) -> None:
    """Divide the runs among several processes, each with its share of the cores, and wait for them."""
    context = multiprocessing.get_context("spawn")
    threads = str(max(1, count_cores() // request.jobs))
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
            process.terminate()  # no effect on those that have ended
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    failed = sum(process.exitcode != 0 for process in processes)
    if failed:
        raise UserError(
            f"{failed} of {request.jobs} processes failed (see above); "
            f"finished runs are kept: run the same command again to resume"
        )


@handle_errors
def work(request: TablesRequest) -> None:
    """Train in one of several processes."""
    from ssrl.paper_tables.runs import open_runs

    open_runs(request).work(watch)


if __name__ == "__main__":
    main()
