"""Dataclasses as plain values (dicts, lists, numbers, strings), as JSON and checkpoints hold them, and back.

Reading is strict: a key that is unknown or missing, or a value of another type, is an error that names it.
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


def _instances(kind: type) -> Callable[[Any, Any], Any]:
    """What has no plain form, such as a tensor, is taken as it is."""

    def checked(value: Any, _: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"expected a {kind.__name__}, not {value!r}")
        return value

    return checked


_converter = cattrs.Converter(forbid_extra_keys=True, structure_fallback_factory=_instances)


def to_plain(value: Any) -> Any:
    """A dataclass, or a container of some, as plain values."""
    return _converter.unstructure(value)


def from_plain(kind: type[T], value: Any, source: str | Path) -> T:
    """The inverse of `to_plain`. Raises a UserError that names `source` and what in it does not fit."""
    try:
        return _converter.structure(value, kind)
    except Exception as error:
        found = cattrs.transform_error(error, format_exception=_describe)
        reasons = "; ".join(reason.removesuffix(" @ $").replace(" @ $.", " at ") for reason in found)
        raise UserError(f"{source} does not hold a {kind.__name__} of this version: {reasons}") from error


def differences(wanted: Any, found: Any) -> list[str]:
    """What differs between two configurations, as "name: wanted, not found". Nested names are joined by dots."""
    return list(_differing(to_plain(wanted), to_plain(found), ""))


def _differing(wanted: Any, found: Any, name: str) -> Any:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys([*wanted, *found]):
            yield from _differing(wanted.get(key), found.get(key), f"{name}.{key}" if name else str(key))
    elif wanted != found and _listed(wanted) != _listed(found):
        yield f"{name}: {wanted}, not {found}"


def _listed(value: Any) -> Any:
    """JSON knows no tuples."""
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _strictly(kind: type) -> Callable[[Any, Any], Any]:
    """Dataclasses: no key may be missing, defaults or not."""
    structure: Any = make_dict_structure_fn(kind, _converter, _cattrs_forbid_extra_keys=True)
    names = [field.name for field in dataclasses.fields(kind) if field.init]

    def checked(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"{kind.__name__} is not made of {type(value).__name__}")
        missing = [name for name in names if name not in value]
        if missing:
            raise ValueError(f"{kind.__name__} lacks {', '.join(missing)}")
        return structure(value, kind)

    return checked


def _describe(error: BaseException, kind: type | None) -> str:
    if isinstance(error, cattrs.errors.ForbiddenExtraKeysError):
        return f"{error.cl.__name__} does not know {', '.join(sorted(map(str, error.extra_fields)))}"
    return str(error)


_converter.register_structure_hook_factory(dataclasses.is_dataclass, _strictly)
