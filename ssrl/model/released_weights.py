"""Conversion of the authors' released state dicts, and RTFM's, to ours and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ssrl.checkpoints import Checkpoint
from ssrl.errors import UserError
from ssrl.model.config import PAPER_GRIDS, ModelConfig
from ssrl.model.network import SSRL
from ssrl.model.recipes import released_model
from ssrl.plain import list_differences, to_plain

# released prefix → ours; {branch} counts patch scales from 0, {scale} is branch + 2. If several map to one of ours, the
# first is written
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
    """Our name of a released parameter, or None."""
    return _rename(name.removeprefix("module."), _PREFIXES)


def to_released(name: str) -> str | None:
    """The released name of one of our parameters, or None."""
    return _rename(name, ((ours, released) for released, ours in _PREFIXES))


def _rename(name: str, prefixes: Iterable[tuple[str, str]]) -> str | None:
    """Replace the first matching one of the prefixes (old, new)."""
    for old, new in prefixes:
        pattern = re.escape(old).replace(r"\{branch\}", r"(?P<branch>\d+)").replace(r"\{scale\}", r"(?P<scale>\d+)")
        match = re.match(pattern, name)
        if match:
            numbers = {key: int(value) for key, value in match.groupdict().items()}
            branch = numbers.get("branch", numbers.get("scale", 2) - 2)
            return new.format(branch=branch, scale=branch + 2) + name[match.end() :]
    return None


def infer_model(state: object, source: Path) -> ModelConfig:
    """Infer the model of a released state dict: D from its classifier, scales from its patch branches."""
    names = state if isinstance(state, Mapping) else {}
    width = next((value.shape[1] for name, value in names.items() if to_ours(name) == "classifier.fc1.weight"), None)
    if width is None:
        raise UserError(f"{source} is not a state dict of the SSRL or RTFM release: no classifier (classfier.fc1)")
    branches = [int(match[1]) for name in names if (match := re.search(r"patch_to_clip\.(\d+)\.", name))]
    return released_model(width, tuple(range(1, max(branches, default=-1) + 3)))


def load_released(network: SSRL, state: Mapping[str, Tensor]) -> None:
    """Load a released state dict into a network of the same shape.

    Raises a UserError that lists all unknown, missing and mismatched names.
    """
    expected = network.state_dict()
    renamed = {released: to_ours(released) for released in state}
    unknown = sorted(released for released, ours in renamed.items() if ours not in expected)
    missing = sorted(set(expected) - set(filter(None, renamed.values())))
    loaded = {ours: state[released] for released, ours in renamed.items() if ours in expected}
    misshapen = sorted(
        f"{ours}: {tuple(value.shape)} instead of {tuple(expected[ours].shape)}"
        for ours, value in loaded.items()
        if ours is not None and value.shape != expected[ours].shape
    )
    problems = {"unknown": unknown, "missing": missing, "shape mismatch": misshapen}
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)
        raise UserError(f"not a released checkpoint of {len(network.config.scales)} scales ({listed})")
    network.load_state_dict({ours: value for ours, value in loaded.items() if ours is not None})


def to_released_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Convert a checkpoint to a released state dict.

    Raises a UserError that lists the settings that differ from the release, since its code assumes them.
    """
    model = checkpoint.model
    if not isinstance(model, ModelConfig):
        raise UserError("the release has no blend; export a checkpoint trained with --recipe released")
    count = min(len(model.scales), len(PAPER_GRIDS))
    required = released_model(model.feature_dim, tuple(range(1, count + 1)))
    different = list_differences(_inference_config(model), _inference_config(required))
    if different:
        raise UserError(
            f"this network differs from the release (its own, not the release's): {'; '.join(different)}. "
            f"Export one trained with --recipe released, no ablation and the scales 1, 1,2, 1,2,3 or 1,2,3,4"
        )
    renamed = {ours: to_released(ours) for ours in checkpoint.weights}
    assert all(renamed.values()), f"no released name for {[ours for ours, name in renamed.items() if not name]}"
    return {name: checkpoint.weights[ours] for ours, name in renamed.items() if name}


def _inference_config(model: ModelConfig) -> dict[str, Any]:
    """What determines a network's scores besides its weights: not dropout, and only what its scales use."""
    settings: dict[str, Any] = to_plain(model)
    settings["scales"] = sorted(settings["scales"])
    settings["branches"] = {f"scale {scale}": settings["branches"][scale] for scale in sorted(model.patch_scales)}
    for branch in (settings, *settings["branches"].values()):
        branch.pop("dropout")
    del settings["scale_dropout"]
    if not model.patch_scales:
        del settings["psr"], settings["share_psr"]
    return settings
