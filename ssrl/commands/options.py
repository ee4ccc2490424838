"""How the commands read their options: each is a field of a request, which has its default and its choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from ssrl.errors import UserError

HELP = {"help_option_names": ["-h", "--help"]}
R = TypeVar("R")


def option(request: type, name: str, *flags: str, **settings: Any) -> Callable[[Any], Any]:
    """A click option for the field `name` of a request. `settings` are click's, and add to what the field says."""
    field = next(field for field in fields(request) if field.name == name)
    default = None if field.default is MISSING else field.default
    kind = settings["type"] if "type" in settings else _plain_type(_hint(request, name, field.type))
    found: dict[str, Any] = {"required": True} if field.default is MISSING else {"default": default}
    if kind is bool:
        found["is_flag"] = True
    elif "callback" in settings:
        found |= {"default": settings.pop("show", str)(default), "show_default": default is not None}
    else:
        choices = click.Choice(get_args(kind)) if get_origin(kind) is Literal else None
        found |= {"type": choices or (click.Path(path_type=Path) if kind is Path else kind)}
        found["show_default"] = default is not None
    return click.option(*(flags or [f"--{name.replace('_', '-')}"]), name, **{**found, **settings})


def make_request(kind: type[R], **options: Any) -> R:
    """The request that a command was given. What it refuses is wrong use, which exits with 2."""
    try:
        return kind(**options)
    except UserError as error:
        raise click.UsageError(str(error)) from error


def _hint(request: type, name: str, annotation: Any) -> Any:
    """The type of one field. Those of the others may name classes that a command does not import."""
    alone = type(request.__name__, (), {"__annotations__": {name: annotation}, "__module__": request.__module__})
    return get_type_hints(alone)[name]


def _plain_type(hint: Any) -> Any:
    """X | None → X"""
    if get_origin(hint) in (Union, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def parse_numbers(context: Any, parameter: Any, value: str | None) -> tuple[int, ...] | None:
    """ "1,2,3,4" → (1, 2, 3, 4), for scales and seeds."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise click.BadParameter(f"{value!r} is not a list of different numbers such as 1,2,3,4")
    return tuple(int(part) for part in parts)


def show_numbers(numbers: tuple[int, ...] | None) -> str | None:
    """The inverse of `parse_numbers`."""
    return None if numbers is None else ",".join(map(str, numbers))


def parse_size(context: Any, parameter: Any, value: str) -> tuple[int, int]:
    """ "480x840" → (480, 840)."""
    parts = value.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is not a size such as 480x840 (height x width)")
    return int(parts[0]), int(parts[1])


def show_size(size: tuple[int, int]) -> str:
    """The inverse of `parse_size`."""
    return f"{size[0]}x{size[1]}"
