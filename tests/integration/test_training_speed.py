"""What makes training fast changes how it is computed, not what: frozen branches, batches in parts, caches, reading
ahead, precision, and runs that are killed at any step.
"""

import errno
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import pytest
import torch

from ssrl.checkpoints import load_checkpoint
from ssrl.errors import UserError
from ssrl.model.blend import Blend
from ssrl.model.network import SSRL
from ssrl.model.recipes import paper_model, paper_training
from ssrl.store.reader import Store
from ssrl.store.segments import open_segment_view
from ssrl.train import features, precision, stages
from ssrl.train.blend import PreparedFeatures
from ssrl.train.data import Bags, make_bags
from ssrl.train.features import Cache, Features, choose_cache, read_ahead
from ssrl.train.log import Log, StepRecord
from ssrl.train.loop import StageTrainer
from ssrl.train.stages import Trainer, TrainingWatcher, load_run
from ssrl.train.steps import NetworkStepper, Task
from ssrl.workflows.train import TrainRequest, open_trainer
from tests.stores import D, write_store
from tests.training import StoppingWatcher, trainer

CPU = torch.device("cpu")
HALF_ATOL, HALF_RTOL = 2e-2, 2e-3  # sums of frozen scales are kept in float16


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("features") / "planted")


@pytest.fixture(scope="module")
def bags(store: Store) -> Bags:
    return make_bags(store, open_segment_view(store), 0.0, seed=0)


def frozen_trainer(store: Store, folder: Path, recipe: str, **changes: Any) -> Trainer:
    return trainer(store, folder, recipe, freeze_previous=True, scales=(1, 2, 3), steps=6, **changes)


@pytest.mark.parametrize(("recipe", "branch", "rest"), [("paper", "mpa.2", "vtr"), ("blend", "branches.2", "vtr")])
def test_branches_of_earlier_stages_stay_as_they_are(
    store: Store, tmp_path: Path, recipe: str, branch: str, rest: str
) -> None:
    run = frozen_trainer(store, tmp_path, recipe).run(TrainingWatcher())
    second, third = (load_checkpoint(run.folder / f"stage-{stage}.pt").weights for stage in (2, 3))
    kept = [name for name in second if branch in name]
    changed = [name for name in second if rest in name and second[name].is_floating_point()]
    assert kept and all(torch.equal(second[name], third[name]) for name in kept)
    assert any(not torch.equal(second[name], third[name]) for name in changed)


@pytest.mark.parametrize("recipe", ["paper", "small", "blend"])
def test_frozen_branches_are_read_and_run_once(store: Store, tmp_path: Path, bags: Bags, recipe: str) -> None:
    run = frozen_trainer(store, tmp_path, recipe).run(TrainingWatcher())
    checkpoint = load_checkpoint(run.best)
    network, config = checkpoint.build_network(), checkpoint.training
    assert config is not None
    stage = StageTrainer(network, bags, config.for_stage(3), 3, CPU)
    if isinstance(network, Blend):
        assert isinstance(stage.features, PreparedFeatures)
        prepared = stage.features.select_for(1, bags.training)
        assert set(prepared.scales) == {3}
        expected = network.networks[1](stage.features.select(bags.training))
        torch.testing.assert_close(network.networks[1](prepared), expected, atol=1e-5, rtol=1e-5)
        return
    assert isinstance(stage.features, Features)
    batch = stage.features.load(bags.training)
    assert set(batch.scales) == {3}
    whole = {scale: torch.from_numpy(bags.view.scales[scale][bags.training].astype(np.float32)) for scale in (1, 2, 3)}
    with torch.no_grad():
        torch.testing.assert_close(batch.run(network).features, network(whole).features, atol=HALF_ATOL, rtol=HALF_RTOL)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"recipe": "linear"}, "no branches"),
        ({"scales": (2,)}, "one stage"),
        ({"recipe": "paper", "share_psr": True}, "--share-psr"),
        ({"stages": "joint"}, "no previous stage"),
    ],
)
def test_nothing_is_frozen_where_that_has_no_meaning(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        TrainRequest(freeze_previous=True, **changes)


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"accumulate": 2}])
def test_what_serves_the_papers_network_alone_is_refused_elsewhere(changes: dict[str, Any]) -> None:
    TrainRequest(recipe="paper", **changes)
    with pytest.raises(UserError, match=next(iter(changes))):
        TrainRequest(**changes)


class Resting(SSRL):
    """Its batch norms do not see the batch."""

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_the_gradients_of_a_batch_in_parts_are_those_of_the_whole(bags: Bags, count: int) -> None:
    """With batch norms at rest, which otherwise see a part at a time, and without dropout."""
    gradients, losses = [], []
    for accumulate in (1, count):
        torch.manual_seed(0)
        network = Resting(replace(paper_model(D, (1, 2)), dropout=0.0)).eval()
        config = paper_training(scales=(1, 2), videos_per_half=4, accumulate=accumulate)
        stepper = NetworkStepper(network, Features(bags.view, (1, 2), CPU), Task(bags, config, 1))
        losses.append(next(stepper.run(range(1))).total)
        gradients.append([weight.grad for weight in network.parameters()])
    torch.testing.assert_close(losses[1], losses[0])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


def test_every_cache_holds_the_same_features(bags: Bags) -> None:
    indices = np.array([5, 2, 5])
    expected = {scale: bags.view.scales[scale][indices].astype(np.float32) for scale in (1, 2)}
    for cache in get_args(Cache)[1:]:
        batch = Features(bags.view, (1, 2), CPU, cache).load(indices)
        for scale, x in batch.scales.items():
            assert x.dtype == torch.float32
            np.testing.assert_array_equal(x.numpy(), expected[scale])


def test_rows_of_a_part_of_a_mapped_file_are_its_own(bags: Bags) -> None:
    array, indices = bags.view.scales[2], np.array([3, 0])
    for part in (array, array[2:], array[:, 1:3]):
        for row, index in zip(features.read_rows(part, indices), indices, strict=True):
            np.testing.assert_array_equal(row, part[index])


def test_a_file_that_became_shorter_is_told(tmp_path: Path) -> None:
    path = tmp_path / "array.bin"
    np.arange(12, dtype=np.float32).tofile(path)
    array = np.memmap(path, np.float32, "r", 0, (3, 4))
    os.truncate(path, 40)
    with pytest.raises(OSError, match="shorter"):
        list(features.read_rows(array, np.array([2])))


def test_features_are_kept_where_they_have_twice_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "measure_free_memory", lambda: 1000)
    assert choose_cache("auto", 500, CPU) == "memory" and choose_cache("auto", 501, CPU) == "disk"
    assert choose_cache("memory", 10**15, CPU) == "memory"


def test_free_memory_is_measured() -> None:
    held = features.measure_free_memory()
    assert 1 << 20 < held < 1 << 50


def test_batches_are_read_one_ahead_in_order() -> None:
    read: list[int] = []

    def read_one(key: int) -> int:
        read.append(key)
        return key * key

    ahead = []
    for key, value in read_ahead(read_one, range(5)):
        assert value == key * key
        ahead.append(len(read) - key)
    assert read == [0, 1, 2, 3, 4] and max(ahead) == 2
    assert list(read_ahead(read_one, [])) == []


def test_an_error_of_the_reading_thread_reaches_the_caller() -> None:
    def fail(key: int) -> int:
        raise OSError(errno.EIO, "gone")

    with pytest.raises(OSError, match="gone"):
        list(read_ahead(fail, [1]))


def test_bfloat16_trains_float32_weights_to_nearly_the_same_losses(store: Store, tmp_path: Path) -> None:
    totals = {}
    for name in ("float32", "bfloat16"):
        run = trainer(store, tmp_path / name, precision=name).run(TrainingWatcher())
        totals[name] = read_totals(run.folder)
        weights = load_checkpoint(run.best).weights.values()
        assert all(weight.dtype == torch.float32 for weight in weights if weight.is_floating_point())
    assert totals["bfloat16"] != totals["float32"]
    np.testing.assert_allclose(totals["bfloat16"][10], totals["float32"][10], rtol=0.02)  # stage 2 begins


@pytest.mark.parametrize(("gain", "expected"), [(0.4, "float32"), (1.1, "float32"), (2.5, "bfloat16")])
def test_the_precision_that_is_faster_is_taken_and_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, expected: str
) -> None:
    monkeypatch.setattr(precision, "measure_gain", lambda *_: gain)
    request = TrainRequest(store.root, tmp_path, "paper", scales=(1, 2), steps=1)
    opened = open_trainer(request, store)
    assert opened.config.precision == expected
    opened.run(TrainingWatcher())
    monkeypatch.setattr(precision, "measure_gain", lambda *_: 1 / gain)
    assert open_trainer(replace(request, resume=True), store).config.precision == expected
    assert open_trainer(replace(request, recipe="blend", out=tmp_path / "b"), store).config.precision == "float32"


def test_the_gain_is_measured() -> None:
    assert precision.measure_gain.__wrapped__(16, CPU) > 0


def test_a_full_disk_leaves_the_last_state(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SAVE_SECONDS", 0.0)
    undisturbed = trainer(store, tmp_path / "a").run(TrainingWatcher())
    save = torch.save

    def fill(value: Any, path: Path) -> None:
        saved = load_run(tmp_path / "b")
        if saved is not None and saved.stage == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(value, path)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(torch, "save", fill)
        trainer(store, tmp_path / "b").run(TrainingWatcher())
    assert not list((tmp_path / "b").glob("*.partial-*"))
    resumed = trainer(store, tmp_path / "b").run(TrainingWatcher(), resume=True)
    assert_same_weights(undisturbed.best, resumed.best)


@pytest.mark.parametrize("recipe", ["paper", "small", "blend"])
def test_a_frozen_run_that_was_stopped_ends_where_an_undisturbed_one_does(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(stages, "SAVE_SECONDS", 0.0)
    undisturbed = frozen_trainer(store, tmp_path / "a", recipe).run(TrainingWatcher())
    for stop_at in ((2, 3), (3, 2)):
        with pytest.raises(KeyboardInterrupt):
            frozen_trainer(store, tmp_path / "b", recipe).run(StoppingWatcher(stop_at), resume=True)
    resumed = frozen_trainer(store, tmp_path / "b", recipe).run(TrainingWatcher(), resume=True)
    assert_same_weights(undisturbed.best, resumed.best)


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from ssrl.train import stages
from ssrl.train.log import StepRecord
from ssrl.train.stages import TrainingWatcher
from ssrl.workflows.train import TrainRequest, open_trainer
from ssrl.store.reader import Store

stages.SAVE_SECONDS = 0.0
features, out, options, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), eval(sys.argv[3]), int(sys.argv[4])

class Killer(TrainingWatcher):
    def step_done(self, record: StepRecord) -> None:
        if record.step + trainer.config.count_steps_before(record.stage) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

request = TrainRequest(features, out, scales=(1, 2, 3), resume=True, **options)
trainer = open_trainer(request, Store(features))
trainer = replace(trainer, config=replace(trainer.config, check_every=2))
trainer.run(Killer(), request.resume)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"recipe": "paper", "steps": 8, "precision": "bfloat16", "freeze_previous": True, "accumulate": 2},
        {"recipe": "blend", "steps": 8, "members": 2},
    ],
    ids=["paper", "blend"],
)
def test_a_run_that_is_killed_at_random_steps_is_exact_to_the_bit(
    store: Store, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Losses and weights, over five kills in a run of some twenty steps."""

    def train(name: str, kill_at: int) -> int:
        command = [sys.executable, "-c", KILLED, store.root, tmp_path / name, repr(options), kill_at]
        return subprocess.run(list(map(str, command)), env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode

    assert train("undisturbed", -1) == 0
    num_steps = len(read_totals(tmp_path / "undisturbed"))
    for kill_at in sorted(random.Random(0).sample(range(1, num_steps + 1), 5)):
        assert train("killed", kill_at) == -signal.SIGKILL
    assert train("killed", -1) == 0
    assert read_totals(tmp_path / "killed") == read_totals(tmp_path / "undisturbed")
    assert_same_weights(tmp_path / "undisturbed" / "best.pt", tmp_path / "killed" / "best.pt")


def read_totals(folder: Path) -> list[float]:
    return [record.losses["total"] for record in Log(folder / "log.jsonl").read() if isinstance(record, StepRecord)]


def assert_same_weights(expected: Path, got: Path) -> None:
    first, second = load_checkpoint(expected).weights, load_checkpoint(got).weights
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
