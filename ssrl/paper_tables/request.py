"""What was asked of the tables."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

MODULE = "ssrl.commands.tables"


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    features: Path
    out: Path
    recipe: str
    seeds: tuple[int, ...]
    scales: tuple[int, ...]
    steps: int | None
    device: str
    paper: str
    page: Path

    def arguments(self) -> list[str]:
        """The same request as a command line. Of several processes each has these arguments."""
        given = {
            "--features": self.features,
            "--out": self.out,
            **({} if self.page == default_page(self.out) else {"--page": self.page}),
            "--recipe": self.recipe,
            "--seeds": ",".join(map(str, self.seeds)),
            "--scales": ",".join(map(str, self.scales)),
            **({} if self.steps is None else {"--steps": self.steps}),
            **({} if self.device == "auto" else {"--device": self.device}),
            **({} if self.paper == "none" else {"--paper": self.paper}),
        }
        return [part for name, value in given.items() for part in (name, str(value))]

    def __str__(self) -> str:
        return shlex.join(["python", "-m", MODULE, *self.arguments()])


def default_page(out: Path) -> Path:
    return out / "tables.md"
