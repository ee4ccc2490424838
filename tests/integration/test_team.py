"""Training in several processes: the same losses as in one, and what a killed process costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssrl.checkpoints import load_checkpoint
from ssrl.errors import UserError
from ssrl.model.norm import Division, Norm, VideoDropout
from ssrl.model.recipes import paper_training
from ssrl.store.reader import Store
from ssrl.store.segments import open_segment_view
from ssrl.train.data import make_bags
from ssrl.train.log import Log, StepRecord
from ssrl.train.loop import StageTrainer
from ssrl.train.team import Team
from tests.stores import write_store
from tests.training import trainer

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("features") / "planted")


def train(store: Store, out: Path, *arguments: str, launcher: list[str] | None = None, **environment: str) -> Any:
    command = ["-m", "ssrl.train", "--features", store.root, "--out", out, "--scales", "1,2,3", *arguments]
    launch = [sys.executable] if launcher is None else launcher
    return subprocess.run(
        list(map(str, [*launch, *command])), env={**ENVIRONMENT, **environment}, capture_output=True, text=True
    )


def torchrun(port: int, *options: str) -> list[str]:
    return [*TORCHRUN, str(port), *options]


def read_totals(folder: Path) -> list[float]:
    return [record.losses["total"] for record in Log(folder / "log.jsonl").read() if isinstance(record, StepRecord)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("port", "arguments", "tolerance"),
    [
        (29611, ("--recipe", "paper"), 1e-3),
        (29612, ("--recipe", "small", "--accumulate", "2", "--freeze-previous"), 1e-3),
        (29613, ("--recipe", "released", "--precision", "bfloat16"), 1e-2),
        (29614, ("--recipe", "blend", "--members", "3"), 0.0),
    ],
    ids=["paper", "accumulated", "bfloat16", "blend"],
)
def test_two_processes_train_as_one(
    store: Store, tmp_path: Path, port: int, arguments: tuple[str, ...], tolerance: float
) -> None:
    """Dropout, batch norms and losses are those of the whole batch."""
    for name, launcher in (("one", None), ("two", torchrun(port))):
        outcome = train(store, tmp_path / name, "--steps", "4", *arguments, launcher=launcher)
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout.count("best:") == 1  # the first process speaks for all
    one, two = read_totals(tmp_path / "one"), read_totals(tmp_path / "two")
    assert len(one) == len(two) > 0
    np.testing.assert_allclose(two, one, rtol=tolerance)
    expected, got = (load_checkpoint(tmp_path / name / "best.pt").weights for name in ("one", "two"))
    for name, weight in expected.items():
        torch.testing.assert_close(got[name], weight, rtol=tolerance, atol=3 * tolerance)


DYING = """
import os, signal, sys
from pathlib import Path
from ssrl.train import stages
from ssrl.train.steps import NetworkStepper

stages.SAVE_SECONDS = 0.0
died = Path(os.environ["DIED"])
read = NetworkStepper._read

def read_or_die(self, part):
    if os.environ["RANK"] == "1" and (self.task.stage, part.step) == (2, 30) and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, part)

NetworkStepper._read = read_or_die
sys.argv[0] = "ssrl-train"
from ssrl.commands.train import main
main()
"""


@pytest.mark.slow
def test_a_killed_process_costs_what_was_not_saved(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    options = ["--features", store.root, "--scales", "1,2,3", "--recipe", "paper", "--steps", "40", "--out"]

    def run(port: int, name: str, *more: str, restarts: int = 0) -> Any:
        launcher = torchrun(port, "--max-restarts", str(restarts), str(script))
        environment = {**ENVIRONMENT, "DIED": str(tmp_path / f"died-{name}")}
        command = list(map(str, [*launcher, *options, tmp_path / name, *more]))
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    (tmp_path / "died-undisturbed").touch()
    undisturbed = run(29621, "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed = run(29622, "killed")
    assert killed.returncode != 0 and "--resume" in killed.stderr
    resumed = run(29623, "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    restarted = run(29624, "restarted", restarts=1)
    assert restarted.returncode == 0, restarted.stderr
    expected = read_totals(tmp_path / "undisturbed")
    assert len(expected) == 3 * 40
    assert read_totals(tmp_path / "killed") == expected and read_totals(tmp_path / "restarted") == expected


def test_a_divided_batch_draws_the_dropout_of_the_whole() -> None:
    dropout = VideoDropout(0.5)
    x = torch.randn(6, 5)  # 3 videos of 2 rows
    torch.manual_seed(0)
    whole = dropout(x)
    for videos in ([0, 2], [1]):
        dropout.division = Division(torch.tensor(videos), 3)
        rows = torch.tensor([row for video in videos for row in (2 * video, 2 * video + 1)])
        torch.manual_seed(0)
        torch.testing.assert_close(dropout(x[rows]), whole[rows])


def test_a_batch_norm_over_one_process_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    ours, theirs = Norm(4), torch.nn.BatchNorm1d(4)
    ours.add_up = lambda x: x
    for _ in range(3):
        x = torch.randn(5, 6, 4) * 3 + 1
        torch.testing.assert_close(ours(x).flatten(0, 1), theirs(x.flatten(0, 1)), atol=1e-5, rtol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-5, rtol=1e-5)


def test_numbers_are_dealt_once() -> None:
    dealt = [Team(rank, 3).deal(7) for rank in range(3)]
    assert sorted(number for part in dealt for number in part) == list(range(7))


def test_a_batch_of_fewer_videos_than_processes_is_refused(store: Store, tmp_path: Path) -> None:
    bags = make_bags(store, open_segment_view(store), 0.0, seed=0)
    network = trainer(store, tmp_path)._build_network(1, (1,), bags)
    config = paper_training(scales=(1,), videos_per_half=2)
    with pytest.raises(UserError, match="3 processes cannot divide a batch of 2 videos"):
        StageTrainer(network, bags, config, 1, torch.device("cpu"), team=Team(0, 3))
