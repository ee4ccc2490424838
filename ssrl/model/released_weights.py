"""Conversion of the authors' released state dicts, and RTFM's, to ours and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
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


WRAPPERS = ("module", "_orig_mod")  # parts of names that DataParallel and torch.compile add
HOLDERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
COUNTER = "num_batches_tracked"  # of a batch norm; older versions of PyTorch did not save it


def find_state(value: object, source: Path) -> dict[str, Tensor]:
    """Find the released state dict in what a file holds: itself, or below a usual key beside optimizer and epoch.

    Raises a UserError that says what the file holds instead, or names weights that are not finite.
    """
    found = next((state for state in _list_states(value) if _find_width(state) is not None), None)
    if found is None:
        kind = f"keys {', '.join(map(str, list(value)[:8]))}" if isinstance(value, Mapping) else type(value).__name__
        raise UserError(
            f"{source} is not a state dict of the SSRL or RTFM release: no classifier (classfier.fc1), neither at its "
            f"top nor below {', '.join(HOLDERS)}. It holds: {kind}"
        )
    broken = [name for name, weights in found.items() if not torch.isfinite(weights).all()]
    if broken:
        raise UserError(
            f"{source} holds NaN or infinite weights in {', '.join(broken[:3])} ({len(broken)} tensors): its training "
            f"diverged, or it is damaged; use an earlier checkpoint"
        )
    return found


def _list_states(value: object) -> Iterator[dict[str, Tensor]]:
    if not isinstance(value, Mapping):
        return
    arrays = {name: torch.from_numpy(item) for name, item in value.items() if isinstance(item, np.ndarray)}
    tensors = {name: item for name, item in value.items() if isinstance(item, Tensor)}
    yield {_unwrap(name): weights for name, weights in {**tensors, **arrays}.items()}
    for key in HOLDERS:
        yield from _list_states(value.get(key))


def _unwrap(name: str) -> str:
    return ".".join(part for part in str(name).split(".") if part not in WRAPPERS)


def _find_width(state: Mapping[str, Tensor]) -> int | None:
    """D, from the classifier."""
    return next((value.shape[1] for name, value in state.items() if to_ours(name) == "classifier.fc1.weight"), None)


def to_ours(name: str) -> str | None:
    """Our name of a released parameter, or None."""
    return _rename(name, _PREFIXES)


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


def infer_model(state: Mapping[str, Tensor]) -> ModelConfig:
    """Infer the model of a released state dict: D from its classifier, scales from its patch branches."""
    width = _find_width(state)
    assert width is not None
    branches = [int(match[1]) for name in state if (match := re.search(r"patch_to_clip\.(\d+)\.", name))]
    return released_model(width, tuple(range(1, max(branches, default=-1) + 3)))


def load_released(network: SSRL, state: Mapping[str, Tensor]) -> None:
    """Load a released state dict into a network of the same shape.

    Raises a UserError that lists all unknown, missing and mismatched names.
    """
    expected = network.state_dict()
    renamed = {released: to_ours(released) for released in state}
    unknown = sorted(released for released, ours in renamed.items() if ours not in expected)
    missing = sorted(name for name in set(expected) - set(renamed.values()) if not name.endswith(COUNTER))
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
    network.load_state_dict({**expected, **{ours: value for ours, value in loaded.items() if ours is not None}})


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
