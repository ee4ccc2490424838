"""Checkpoints: whole ones load, all else is refused without running it."""

import pickle
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssrl.checkpoints import (
    FORMAT,
    Checkpoint,
    FeatureSource,
    StageResult,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
)
from ssrl.config import TrainConfig
from ssrl.errors import UserError
from ssrl.model.blend import Blend
from ssrl.model.domain import Domain
from ssrl.model.network import SSRL
from ssrl.model.recipes import blend_model, blend_training, paper_model
from ssrl.plain import to_plain
from tests.stores import CONFIG

RESULT = StageResult(2, (1, 2), "last", 9, None, 9, 0.5, 0.5, None, None, None, 1.0)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = paper_model(16, (1, 2))
    path = tmp_path / "best.pt"
    features = FeatureSource("x", CONFIG)
    save_checkpoint(path, Checkpoint(model, SSRL(model).state_dict(), features, TrainConfig(seed=1), (RESULT,)))
    return path


def test_a_checkpoint_survives_the_disk(saved: Path) -> None:
    checkpoint = load_checkpoint(saved)
    assert checkpoint.model == paper_model(16, (1, 2))
    assert checkpoint.features == FeatureSource("x", CONFIG) and checkpoint.training == TrainConfig(seed=1)
    assert checkpoint.stages == (RESULT,)
    assert checkpoint.build_network().training is False


def test_a_checkpoint_of_the_first_format_is_read(saved: Path, tmp_path: Path) -> None:
    """As earlier versions wrote it: untyped dictionaries of the store, the training and the metrics."""
    now = load_checkpoint(saved)
    model, loss = to_plain(now.model), to_plain(TrainConfig().loss)
    model["standardise"], loss["regularisers"] = model.pop("standardize"), loss.pop("regularizers")
    training, result = to_plain(TrainConfig(seed=1)), to_plain(RESULT)
    del (
        loss["top_segments"],
        training["optimizer"],
        training["schedule"],
        training["later_share"],
        result["linear_test_auc"],
        result["held_out_auc"],
        result["linear_held_out_auc"],
    )
    old = {
        "format": "ssrl-checkpoint-1",
        "model": model,
        "weights": {name.replace("standardize", "standardise"): value for name, value in now.weights.items()},
        "store": {"path": "x", "fingerprint": CONFIG.fingerprint, "config": to_plain(CONFIG)},
        "training": {**training, "loss": loss, "stage": 2, "step": 9},
        "metrics": {"stages": [result]},
    }
    torch.save(old, tmp_path / "old.pt")
    read = load_checkpoint(tmp_path / "old.pt")
    assert (read.model, read.features, read.training, read.stages) == (
        now.model,
        now.features,
        now.training,
        now.stages,
    )
    imported = {**old, "store": {}, "training": {"recipe": "released"}}
    torch.save({**imported, "metrics": {"stages": [{"selection": "imported from x.pkl"}]}}, tmp_path / "old.pt")
    read = load_checkpoint(tmp_path / "old.pt")
    assert (read.features, read.training, read.stages, read.imported_from) == (None, None, (), "x.pkl")


def test_a_blend_of_the_second_format_is_read(tmp_path: Path) -> None:
    """Its networks saw all videos, and its scores were not calibrated."""
    model = replace(blend_model(16, (1, 2)), cross_fit=False)
    checkpoint = Checkpoint(model, Blend(model).state_dict(), training=blend_training(), stages=(RESULT,))
    old = to_plain(checkpoint)
    del old["model"]["cross_fit"], old["weights"]["calibration"], old["calibration"]
    del old["stages"][0]["held_out_auc"], old["stages"][0]["linear_held_out_auc"]
    torch.save({"format": "ssrl-checkpoint-2", **old}, tmp_path / "old.pt")
    read = load_checkpoint(tmp_path / "old.pt")
    assert (read.model, read.training, read.stages) == (model, checkpoint.training, checkpoint.stages)
    assert read.weights["calibration"].tolist() == [1, 0]


def test_a_blend_of_the_fourth_format_is_read(tmp_path: Path) -> None:
    """It scores snippets one by one, and its domain has components alone."""
    model = blend_model(16, (1,))
    eye, zero = torch.eye(16), torch.zeros(16)
    domain = Domain({1: zero}, {1: zero + 1}, {1: eye}, zero + 1, 1.0, limit=2.0)
    old = to_plain(Checkpoint(model, Blend(model).state_dict(), domain=domain))
    del old["model"]["segment_length"], old["domain"]["std"], old["domain"]["variances"], old["domain"]["rest"]
    torch.save({"format": "ssrl-checkpoint-4", **old}, tmp_path / "old.pt")
    read = load_checkpoint(tmp_path / "old.pt")
    assert read.model == model and read.domain is not None
    coordinates = read.domain.project({1: torch.full((3, 1, 16), 4.0)})
    assert read.domain.measure(coordinates) == pytest.approx(2 * (16 / 17) ** 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": 3}, "ModelConfig must be a mapping, not int"),
        ({"model": {}}, "ModelConfig is missing feature_dim"),
        ({"surprise": 1}, "Checkpoint has unknown keys surprise"),
        ({"weights": {"vtr": "none"}}, "expected a Tensor"),
        ({"training": {"recipe": "x"}}, "TrainConfig is missing scales"),
    ],
)
def test_a_foreign_dictionary_is_refused_by_name(saved: Path, changes: dict[str, object], message: str) -> None:
    value = torch.load(saved, weights_only=True)
    torch.save({**value, **changes}, saved)
    with pytest.raises(UserError, match=message):
        load_checkpoint(saved)
    torch.save({"format": FORMAT}, saved)
    with pytest.raises(UserError, match="Checkpoint is missing model, weights"):
        load_checkpoint(saved)


def test_a_truncated_checkpoint_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"best\.pt.*(damaged|not a checkpoint)"):
        load_checkpoint(saved)


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04garbage"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"best\.pt"):
        load_checkpoint(path)


def test_a_state_dict_is_pointed_to_the_import(tmp_path: Path) -> None:
    path = tmp_path / "released.pkl"
    torch.save({"classfier.fc1.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="ssrl-import checkpoint"):
        load_checkpoint(path)


class Runs:
    """Pickles as a call that writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.path, "code ran")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    witness, path = tmp_path / "witness", tmp_path / "best.pt"
    if zipped:
        torch.save({"format": Runs(witness)}, path)
    else:
        path.write_bytes(pickle.dumps(Runs(witness)))
    with pytest.raises(UserError, match=r"code|not a checkpoint"):
        load_checkpoint(path)
    assert not witness.exists()


def test_weights_of_another_model_are_refused(saved: Path) -> None:
    other = paper_model(16, (1, 2, 3))
    save_checkpoint(saved, Checkpoint(other, SSRL(paper_model(16, (1, 2))).state_dict()))
    with pytest.raises(UserError, match="do not match"):
        load_checkpoint(saved)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
def test_arrays_of_numpy_1_and_2_are_read(tmp_path: Path, module: str) -> None:
    """Both name the makers of arrays and scalars otherwise in their pickles."""
    value = {"array": np.arange(3.0), "scalar": np.float64(0.5), "tensor": torch.ones(2)}
    torch.save(value, tmp_path / "ours.pt")
    with zipfile.ZipFile(tmp_path / "ours.pt") as ours, zipfile.ZipFile(tmp_path / "theirs.pt", "w") as theirs:
        for name in ours.namelist():
            content = re.sub(rb"numpy\.(_core|core)", module.encode(), ours.read(name))
            theirs.writestr(name, content)
    loaded = load_tensors(tmp_path / "theirs.pt")
    assert loaded["array"].tolist() == [0, 1, 2] and loaded["scalar"] == 0.5 and loaded["tensor"].tolist() == [1, 1]
