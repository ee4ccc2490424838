"""The interface of all sinks."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

from ssrl.errors import UserError
from ssrl.watch.notices import Kind, Notice


class SinkAway(Exception):
    """The receiver cannot be reached, or asks to wait: try again."""


class SinkRefused(Exception):
    """The receiver will never take this notice: go on with the next."""


@dataclass(frozen=True)
class Camera:
    """What sinks call the source."""

    name: str
    threshold: float


class Sink(Protocol):
    """A receiver of notices. `deliver` is called from one thread, notice by notice, and again after a SinkAway."""

    kinds: frozenset[Kind]  # that it takes

    def deliver(self, notice: Notice) -> None:
        """Return once the receiver has the notice. Raises SinkAway or SinkRefused."""

    def close(self) -> None: ...


def load_optional(module: str, package: str, address: str) -> Any:
    """Import what a sink needs, or raise a UserError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{address} needs {package}, which is not installed; install it with pip install 'ssrl[watch]'"
        ) from error
