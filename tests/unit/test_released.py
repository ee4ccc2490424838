"""Checkpoints as state dicts of the authors' release: names as theirs, scores as before, nothing lost in silence."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ssrl.checkpoints import Checkpoint, load_checkpoint, load_tensors, save_checkpoint
from ssrl.commands import import_, train
from ssrl.errors import UserError
from ssrl.evaluate.scoring import score_split
from ssrl.model.config import ModelConfig, RelationConfig
from ssrl.model.network import SSRL
from ssrl.model.recipes import ablate, paper_model, released_model
from ssrl.model.released_weights import load_released, to_released_state
from tests.stores import D, write_store

PARITY = Path(__file__).parents[1] / "data" / "parity"  # weights of the authors' network, made by their code


def run(*arguments: object) -> str:
    outcome = CliRunner().invoke(import_.main, [str(argument) for argument in arguments])
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def checkpoint_of(model: ModelConfig) -> Checkpoint:
    return Checkpoint(model, SSRL(model).state_dict())


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_what_is_exported_is_what_the_authors_code_made(stage: int) -> None:
    """Their weights, loaded and exported, have their names and values again: each, and no other."""
    with np.load(PARITY / f"network_stage{stage}.npz") as file:
        theirs = {
            name.removeprefix("weight/"): torch.from_numpy(file[name]) for name in file.files if "weight/" in name
        }
    network = SSRL(released_model(64, tuple(range(1, stage + 1))))
    load_released(network, theirs)
    exported = to_released_state(Checkpoint(network.config, network.state_dict()))
    assert exported.keys() == theirs.keys()
    assert all(torch.equal(exported[name], value) for name, value in theirs.items())


def test_a_trained_checkpoint_scores_the_same_after_there_and_back(tmp_path: Path) -> None:
    store = write_store(tmp_path / "planted")
    arguments = ["--features", store.root, "--recipe", "released", "--steps", "5", "--out", tmp_path / "run"]
    outcome = CliRunner().invoke(train.main, [str(argument) for argument in arguments])
    assert outcome.exit_code == 0, outcome.output
    best, released, again = tmp_path / "run" / "best.pt", tmp_path / "released.pth", tmp_path / "again.pt"
    assert "scales 1,2,3,4" in run("export", best, "--out", released)
    run("checkpoint", released, "--out", again)
    before, after = (list(score_split(load_checkpoint(path).build_network(), store)) for path in (best, again))
    assert len(before) == 8
    assert all(np.array_equal(one.scores, other.scores) for one, other in zip(before, after, strict=True))
    state = torch.load(released, weights_only=True)
    assert {name.split(".")[0] for name in state} == {
        "Aggregate_clip",
        "Aggregate_patch",
        "patch_to_clip",
        "linear_out",
        "classfier",
    }


RELEASED = released_model(D, (1, 2))
GRIDS = {1: (1, 1), 2: (3, 3)}


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (replace(RELEASED, standardize=True), "standardize: True"),
        (replace(RELEASED, spread_to=32), "spread_to: 32"),
        (ablate(RELEASED, share_psr=True), "share_psr: True"),
        (ablate(RELEASED, no_psr=True), "psr: None, not"),
        (ablate(RELEASED, no_dilated=True), r"psr\.dilated: False"),
        (ablate(RELEASED, no_non_local=True), r"psr\.non_local: False"),
        (replace(RELEASED, psr=RelationConfig()), r"psr\.attention: softmax, not mean"),
        (replace(RELEASED, vtr=RelationConfig()), r"vtr\.attention: softmax, not mean"),
        (released_model(D, (1, 3)), r"scales: \[1, 3\], not \[1, 2\]"),
        (released_model(D, (2,)), r"scales: \[2\], not \[1\]"),
        (released_model(D, (1, 2), GRIDS), "branches.scale 2.rows: 3, not 2"),
        (paper_model(D, (1, 2, 3)), "branches.scale 3.stride: 2, not 1; branches.scale 3.padding: 1, not 0"),
    ],
)
def test_what_the_released_form_cannot_express_is_named(model: ModelConfig, named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=named):
        to_released_state(checkpoint_of(model))


def test_dropout_is_no_reason_to_refuse() -> None:
    assert to_released_state(checkpoint_of(replace(RELEASED, dropout=0.5, scale_dropout=0.5)))


def test_a_refusal_writes_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(paper_model(D, (1, 2))))
    arguments = ["export", str(tmp_path / "best.pt"), "--out", str(tmp_path / "released.pth")]
    outcome = CliRunner().invoke(import_.main, arguments)
    assert outcome.exit_code == 1 and "--recipe released" in outcome.stderr
    assert not (tmp_path / "released.pth").exists()


PREFIXES = ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.")
NAMES = ("", "state_dict", "model_state_dict", "model", "net", "weights")


def as_arrays(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in state.items()}


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("holder", NAMES)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_state_dicts_are_found_as_others_save_them(tmp_path: Path, prefix: str, holder: str, arrays: bool) -> None:
    """Without the counters of batch norms, too, which older versions of PyTorch did not save."""
    expected = checkpoint_of(RELEASED)
    state = {
        f"{prefix}{name}": value for name, value in to_released_state(expected).items() if "num_batches" not in name
    }
    content = as_arrays(state) if arrays else state
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}
    beside = {"optimizer": optimizer, "epoch": 7, "best": np.float64(0.9), "history": np.arange(3.0)}
    torch.save({holder: content, **beside} if holder else content, tmp_path / "theirs.pth")
    run("checkpoint", tmp_path / "theirs.pth", "--out", tmp_path / "ours.pt")
    ours = load_checkpoint(tmp_path / "ours.pt").weights
    assert all(torch.equal(ours[name], value) for name, value in expected.weights.items())


class Settings:
    """An object beside the weights, as scripts save their arguments."""


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (
            lambda state: {**state, "classfier.fc1.bias": state["classfier.fc1.bias"] * float("nan")},
            "classfier.fc1.bias",
        ),
        (lambda state: {**state, "classfier.fc1.bias": state["classfier.fc1.bias"] + float("inf")}, "NaN or infinite"),
        (lambda state: {"state_dict": state, "args": Settings()}, r"Settings\) that could run code.*save its tensors"),
        (lambda state: {"fc.weight": torch.ones(3)}, "It holds: keys fc.weight"),
        (lambda state: [1, 2], "It holds: list"),
        (lambda state: {name: value for name, value in state.items() if "conv_5" not in name}, "missing: .*conv_5"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_is_wrong(tmp_path: Path, spoil: Any, named: str) -> None:
    torch.save(spoil(to_released_state(checkpoint_of(RELEASED))), tmp_path / "theirs.pth")
    arguments = ["checkpoint", str(tmp_path / "theirs.pth"), "--out", str(tmp_path / "ours.pt")]
    outcome = CliRunner().invoke(import_.main, arguments)
    assert outcome.exit_code == 1 and re.search(named, outcome.stderr), outcome.stderr
    assert not (tmp_path / "ours.pt").exists()


def test_an_empty_checkpoint_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.pkl").touch()
    with pytest.raises(UserError, match=r"empty\.pkl is empty; copy or download it again"):
        load_tensors(tmp_path / "empty.pkl")
