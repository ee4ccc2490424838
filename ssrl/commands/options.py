"""How the commands read their options."""

from __future__ import annotations

from typing import Any

import click

HELP = {"help_option_names": ["-h", "--help"]}


def parse_numbers(context: Any, parameter: Any, value: str | None) -> tuple[int, ...] | None:
    """ "1,2,3,4" → (1, 2, 3, 4), for scales and seeds."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise click.BadParameter(f"{value!r} is not a list of different numbers such as 1,2,3,4")
    return tuple(int(part) for part in parts)


def parse_size(context: Any, parameter: Any, value: str) -> tuple[int, int]:
    """ "480x840" → (480, 840)."""
    parts = value.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is not a size such as 480x840 (height x width)")
    return int(parts[0]), int(parts[1])


WHERE = click.option(
    "--where",
    default="contribution",
    type=click.Choice(["contribution", "attention"]),
    show_default=True,
    help="Pictures show what raised the score, or where PSR looks (Fig. 6).",
)
