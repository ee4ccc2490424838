"""What all commands share: where output goes, and how errors end.

Results go to stdout, progress and notes to stderr. Exit 0: all done; 1: something failed; 2: wrong use.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
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
        _show_log()
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
    return "not defined" if value is None else f"{value:.2%}"


class ProgressBar:
    """A bar on stderr with count, time, ETA and news, which give way where the line is too short; silent where stderr
    is no terminal.
    """

    def __init__(self, title: str = "", unit: str = "videos") -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[news]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=notes,
            expand=True,
            disable=not notes.is_terminal,
        )
        self.title = title

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """A new line of the bar, which is advanced from now on."""
        self._task = self._bar.add_task(title, total=total, completed=done, news="")

    def advance(self, news: str = "", count: int = 1) -> None:
        self._bar.update(self._task, advance=count, news=news)

    def tell(self, news: str) -> None:
        self._bar.update(self._task, news=news)

    def count(self, done: int, total: int) -> None:
        """For work that tells how much of it is done: (done, total)."""
        if not self._bar.tasks:
            self.begin(self.title, total)
        self._bar.update(self._task, completed=done, total=total)


class NotesHandler(logging.Handler):
    """Shows what the library logs as notes and warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        (warn if record.levelno >= logging.WARNING else note)(self.format(record))


def _show_log() -> None:
    logger = logging.getLogger("ssrl")
    if not any(isinstance(handler, NotesHandler) for handler in logger.handlers):
        logger.addHandler(NotesHandler())
        logger.setLevel(logging.INFO)


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
