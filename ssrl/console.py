"""What all commands share: where output goes, how errors end, how progress looks.

Results go to stdout, progress and notes to stderr. Exit 0: all done; 1: something failed; 2: wrong use.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from ssrl.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

results = Console(highlight=False, soft_wrap=True)
notes = Console(stderr=True, highlight=False, soft_wrap=True)


def command_errors(main: Callable[P, R]) -> Callable[P, R]:
    """End a command cleanly: one line for a user's error, no traceback on Ctrl-C or `kill`."""

    @functools.wraps(main)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        signal.signal(signal.SIGTERM, _interrupt)
        # PyTorch's threads spin while they wait; beside a decoder, or another program, that costs more than it saves
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            return main(*args, **kwargs)
        except UserError as error:
            fail(str(error))
        except KeyboardInterrupt:
            notes.print("[yellow]stopped:[/] what is finished is kept; the same command goes on from here")
            sys.exit(EXIT_INTERRUPTED)

    return wrapped


def fail(message: str) -> NoReturn:
    """Print `error: message` to stderr and leave with exit code 1."""
    notes.print("[bold red]error:[/]", end=" ")
    notes.print(message, markup=False)
    sys.exit(EXIT_FAILED)


def note(message: str) -> None:
    """One line of news on stderr, printed as it stands."""
    notes.print(message, markup=False)


def warn(message: str) -> None:
    notes.print("[yellow]warning:[/]", end=" ")
    notes.print(message, markup=False)


def percent(value: float | None) -> str:
    """A share of 1 in per cent, or that it is not defined."""
    return "not defined" if value is None else f"{100 * value:.2f} %"


def progress_bar(unit: str) -> Progress:
    """A bar on stderr with count, time, ETA and news, which give way where the line is too short; silent where stderr
    is no terminal.
    """
    news = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}", table_column=news),
        console=notes,
        expand=True,
        disable=not notes.is_terminal,
    )


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
