"""Console output and error handling of all commands.

Results go to stdout, progress and notes to stderr. Exit 0: all done; 1: something failed; 2: usage error.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, Self, TypeVar

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from ssrl.faults import describe_error

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

results = Console(highlight=False, soft_wrap=True)
notes = Console(stderr=True, highlight=False, soft_wrap=True)


def handle_errors(main: Callable[P, R]) -> Callable[P, R]:
    """Turn errors into one line each, and Ctrl-C or `kill` into a clean exit. The traceback of what nobody foresaw, a
    fault of ours, goes to a file.
    """

    @functools.wraps(main)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        signal.signal(signal.SIGTERM, _interrupt)
        _attach_log_handler()
        # PyTorch's idle threads spin by default, which slows down a decoder or another program beside it
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            return main(*args, **kwargs)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            fail(describe_error(error))
        except KeyboardInterrupt:
            again = "run the same command again to go on (ssrl-train: with --resume)"
            notes.print(f"[yellow]stopped:[/] finished work is kept; {again}")
            sys.exit(EXIT_INTERRUPTED)

    return wrapped


def fail(message: str) -> NoReturn:
    """Print `error: message` to stderr and exit with code 1."""
    notes.print("[bold red]error:[/]", end=" ")
    notes.print(message, markup=False)
    sys.exit(EXIT_FAILED)


def list_results(kind: str, entries: Mapping[str, str]) -> None:
    """Print one line "kind: id: text" to stdout per video, without markup."""
    for video_id, text in entries.items():
        results.print(f"{kind}: {video_id}: {text}", markup=False)


def note(message: str) -> None:
    """Print one line to stderr, without markup."""
    notes.print(message, markup=False)


def warn(message: str) -> None:
    notes.print("[yellow]warning:[/]", end=" ")
    notes.print(message, markup=False)


def as_percent(value: float | None) -> str:
    """Format a fraction as a percentage; None is "not defined"."""
    return "not defined" if value is None else f"{value:.2%}"


class BarsAboveStatus(Progress):
    """Bars, and the status of the last one on a line of its own."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.tasks:
            yield Text(self.tasks[-1].fields["status"], no_wrap=True, overflow="ellipsis")


class ProgressBar:
    """A bar on stderr with count, time, ETA and a status, which is cut to fit; a long one stands below. Silent if
    stderr is not a terminal.
    """

    def __init__(self, title: str = "", unit: str = "videos", long_status: bool = False) -> None:
        status = "" if long_status else "{task.fields[status]}"
        self._bar = (BarsAboveStatus if long_status else Progress)(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn(status, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=notes,
            expand=True,
            disable=not notes.is_terminal,
        )
        self.title, self.unit = title, unit

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def begin(self, title: str, total: int, done: int = 0, unit: str = "") -> None:
        """Add a line, which `advance` and `update` refer to from now on."""
        self._task = self._bar.add_task(title, total=total, completed=done, status="", unit=unit or self.unit)

    def advance(self, status: str = "", count: int = 1) -> None:
        self._bar.update(self._task, advance=count, status=status)

    def show_status(self, status: str) -> None:
        self._bar.update(self._task, status=status)

    def update(self, done: int, total: int) -> None:
        """Set the progress, for callbacks that report (done, total)."""
        if not self._bar.tasks:
            self.begin(self.title, total)
        self._bar.update(self._task, completed=done, total=total)


class NotesHandler(logging.Handler):
    """Prints the library's log records as notes and warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        (warn if record.levelno >= logging.WARNING else note)(self.format(record))


def _attach_log_handler() -> None:
    logger = logging.getLogger("ssrl")
    if not any(isinstance(handler, NotesHandler) for handler in logger.handlers):
        logger.addHandler(NotesHandler())
        logger.setLevel(logging.INFO)


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
