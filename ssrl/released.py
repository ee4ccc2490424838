"""Names of the authors' released state dicts, and of RTFM's, mapped to ours and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ssrl.errors import UserError
from ssrl.network import SSRL, ModelConfig
from ssrl.recipes import released_model

# released prefix → ours; {branch} counts the patch scales from 0, {scale} is branch + 2
_PREFIXES = (
    ("Aggregate_clip.", "vtr."),
    ("Aggregate.", "vtr."),  # RTFM's name
    ("Aggregate_patch.{branch}.", "psr.{scale}."),
    ("patch_to_clip.{branch}.", "mpa.{scale}.conv."),
    ("linear_out.{branch}.", "mpa.{scale}.linear."),
    ("classfier.", "classifier."),
    ("fc1.", "classifier.fc1."),  # RTFM's names
    ("fc2.", "classifier.fc2."),
    ("fc3.", "classifier.fc3."),
)


def to_ours(name: str) -> str | None:
    """Our name of a released parameter, or None where there is none."""
    name = name.removeprefix("module.")
    for released, ours in _PREFIXES:
        pattern = re.escape(released).replace(r"\{branch\}", r"(?P<branch>\d+)")
        match = re.match(pattern, name)
        if match:
            scale = int(match["branch"]) + 2 if "branch" in match.groupdict() else 0
            return ours.format(scale=scale) + name[match.end() :]
    return None


def model_of(state: object, source: Path) -> ModelConfig:
    """The model that a released state dict is of: D from its classifier, scales from its patch branches."""
    names = state if isinstance(state, Mapping) else {}
    width = next((value.shape[1] for name, value in names.items() if to_ours(name) == "classifier.fc1.weight"), None)
    if width is None:
        raise UserError(f"{source} is no state dict of SSRL's or RTFM's release: it has no classifier (classfier.fc1)")
    branches = [int(match[1]) for name in names if (match := re.search(r"patch_to_clip\.(\d+)\.", name))]
    return released_model(width, tuple(range(1, max(branches, default=-1) + 3)))


def load_released(network: SSRL, state: Mapping[str, Tensor]) -> None:
    """Load a released state dict into a network of the same shape.

    Raises a UserError that lists every unknown, missing or misshapen name; none is skipped.
    """
    expected = network.state_dict()
    renamed = {released: to_ours(released) for released in state}
    unknown = sorted(released for released, ours in renamed.items() if ours not in expected)
    missing = sorted(set(expected) - set(filter(None, renamed.values())))
    found = {ours: state[released] for released, ours in renamed.items() if ours in expected}
    misshapen = sorted(
        f"{ours}: {tuple(value.shape)} instead of {tuple(expected[ours].shape)}"
        for ours, value in found.items()
        if ours is not None and value.shape != expected[ours].shape
    )
    problems = {"unknown": unknown, "missing": missing, "of another shape": misshapen}
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)
        raise UserError(f"this is no released checkpoint of {len(network.config.scales)} scales ({listed})")
    network.load_state_dict({ours: value for ours, value in found.items() if ours is not None})
