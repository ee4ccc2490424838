"""Command-line options from requests: each is a field, which holds its type, default and choices."""

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
    """Make a click option of a request's field `name`. `settings` are click's and override the field's."""
    field = next(field for field in fields(request) if field.name == name)
    default = None if field.default is MISSING else field.default
    kind = settings["type"] if "type" in settings else _strip_none(_resolve_hint(request, name, field.type))
    attributes: dict[str, Any] = {"required": True} if field.default is MISSING else {"default": default}
    if kind is bool:
        attributes["is_flag"] = True
    elif "callback" in settings:
        attributes |= {"default": settings.pop("show", str)(default), "show_default": default is not None}
    else:
        choices = click.Choice(get_args(kind)) if get_origin(kind) is Literal else None
        attributes |= {"type": choices or (click.Path(path_type=Path) if kind is Path else kind)}
        attributes["show_default"] = default is not None
    return click.option(*(flags or [f"--{name.replace('_', '-')}"]), name, **{**attributes, **settings})


def make_request(kind: type[R], **options: Any) -> R:
    """Build a command's request. What it rejects is a usage error (exit code 2)."""
    try:
        return kind(**options)
    except UserError as error:
        raise click.UsageError(str(error)) from error


def _resolve_hint(request: type, name: str, annotation: Any) -> Any:
    """Resolve the type of one field; those of others may name classes that the command does not import."""
    alone = type(request.__name__, (), {"__annotations__": {name: annotation}, "__module__": request.__module__})
    return get_type_hints(alone)[name]


def _strip_none(hint: Any) -> Any:
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
        raise click.BadParameter(f"{value!r} is not a list of distinct numbers such as 1,2,3,4")
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
