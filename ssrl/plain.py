"""Conversion of dataclasses to plain values (dicts, lists, numbers, strings), for JSON and checkpoints, and back.

Reading is strict: unknown or missing keys, and values of the wrong type, are errors that name them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import cattrs
from cattrs.gen import make_dict_structure_fn

from ssrl.errors import UserError

T = TypeVar("T")


def _make_instance_hook(kind: type) -> Callable[[Any, Any], Any]:
    """Pass values without a plain form, such as tensors, through."""

    def checked(value: Any, _: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"expected a {kind.__name__}, not {value!r}")
        return value

    return checked


_converter = cattrs.Converter(forbid_extra_keys=True, structure_fallback_factory=_make_instance_hook)


def to_plain(value: Any) -> Any:
    """Convert a dataclass, or a container of dataclasses, to plain values."""
    return _converter.unstructure(value)


def from_plain(kind: type[T], value: Any, source: str | Path) -> T:
    """The inverse of `to_plain`. Raises a UserError that names `source` and what is wrong in it."""
    try:
        return _converter.structure(value, kind)
    except Exception as error:
        reasons = cattrs.transform_error(error, format_exception=_describe)
        text = "; ".join(reason.removesuffix(" @ $").replace(" @ $.", " at ") for reason in reasons)
        raise UserError(f"{source} is not a {kind.__name__} of this version: {text}") from error


def list_differences(expected: Any, actual: Any) -> list[str]:
    """List what differs between two configurations, as "name: expected, not actual"; nested names have dots."""
    return list(_find_differences(to_plain(expected), to_plain(actual), ""))


def _find_differences(expected: Any, actual: Any, name: str) -> Any:
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key in dict.fromkeys([*expected, *actual]):
            yield from _find_differences(expected.get(key), actual.get(key), f"{name}.{key}" if name else str(key))
    elif expected != actual and _tuples_to_lists(expected) != _tuples_to_lists(actual):
        yield f"{name}: {expected}, not {actual}"


def _tuples_to_lists(value: Any) -> Any:
    """JSON has no tuples."""
    return [_tuples_to_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _make_structure_hook(kind: type) -> Callable[[Any, Any], Any]:
    """Structure a dataclass; no key may be missing, even with a default."""
    structure: Any = make_dict_structure_fn(kind, _converter, _cattrs_forbid_extra_keys=True)
    names = [field.name for field in dataclasses.fields(kind) if field.init]

    def checked(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"{kind.__name__} must be a mapping, not {type(value).__name__}")
        missing = [name for name in names if name not in value]
        if missing:
            raise ValueError(f"{kind.__name__} is missing {', '.join(missing)}")
        return structure(value, kind)

    return checked


def _describe(error: BaseException, kind: type | None) -> str:
    if isinstance(error, cattrs.errors.ForbiddenExtraKeysError):
        return f"{error.cl.__name__} has unknown keys {', '.join(sorted(map(str, error.extra_fields)))}"
    return str(error)


def register_choice(union: Any, choose: Callable[[Any], type]) -> None:
    """Read a union of dataclasses as the one that `choose` picks from its plain value."""
    _converter.register_structure_hook(union, lambda value, _: _converter.structure(value, choose(value)))


_converter.register_structure_hook_factory(dataclasses.is_dataclass, _make_structure_hook)
