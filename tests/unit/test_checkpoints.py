"""Checkpoints: whole ones load, all else is refused without running it."""

import pickle
from pathlib import Path

import pytest
import torch

from ssrl.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ssrl.errors import UserError
from ssrl.model.network import SSRL
from ssrl.model.recipes import paper_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = paper_model(16, (1, 2))
    path = tmp_path / "best.pt"
    metrics = {"stages": [{"stage": 1, "selection": "last"}]}
    save_checkpoint(path, Checkpoint(model, SSRL(model).state_dict(), {"path": "x"}, {"seed": 1}, metrics))
    return path


def test_a_checkpoint_survives_the_disk(saved: Path) -> None:
    checkpoint = load_checkpoint(saved)
    assert checkpoint.model == paper_model(16, (1, 2))
    assert checkpoint.store == {"path": "x"} and checkpoint.training == {"seed": 1}
    assert checkpoint.network().training is False


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

    def __reduce__(self) -> tuple:
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
    with pytest.raises(UserError, match="do not fit"):
        load_checkpoint(saved)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        load_checkpoint(tmp_path / "none.pt")
