"""Following a training run: its progress, its log, its curves, TensorBoard, and what stops it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from torch import Tensor

from ssrl.checkpoints import StageResult, load_checkpoint, load_tensors
from ssrl.commands import progress
from ssrl.commands.progress import TrainingProgress
from ssrl.commands.train import main
from ssrl.errors import UserError
from ssrl.store.reader import Store
from ssrl.train import stages
from ssrl.train.log import CheckRecord, Log, Record, StepRecord
from ssrl.train.losses import Losses, compute_balanced_loss, compute_losses
from ssrl.train.stages import TrainingWatcher
from ssrl.workflows import tensorboard
from ssrl.workflows.curves import plot_run
from ssrl.workflows.train import TrainRequest, train_model
from ssrl.workflows.watchers import Watchers
from tests.stores import write_store
from tests.training import StoppingWatcher, trainer

TERMS = {"classification": 2.0, "magnitude": 0.01, "sparsity": 0.2, "smoothness": 0.0, "total": 2.21}
RESULT = StageResult(1, (1,), "last", 4, None, 4, 0.9, 0.8, 0.7, 0.6, 0.5, 12.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("features") / "planted")


@pytest.fixture
def save_at_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SAVE_SECONDS", 0.0)


def make_step(stage: int, step: int) -> StepRecord:
    return StepRecord(stage, step, 0.5, 1e-3, TERMS)


def write_log(path: Path, *records: Record) -> Log:
    log = Log(path)
    for record in records:
        log.append(record)
    return log


# Progress


def test_lines_tell_losses_metric_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """25 steps in 40 seconds: the other 75 take 120."""
    times = iter([0.0, 20.0, 40.0])
    monkeypatch.setattr("ssrl.commands.progress.time.monotonic", lambda: next(times))
    with TrainingProgress() as watcher:
        watcher.stage_begins(2, (1, 2), 50, 150)
        watcher.step_done(make_step(2, 62))  # too early for a line
        watcher.check_done(CheckRecord(2, 62, "val", 0.931))
        watcher.step_done(make_step(2, 75))
    lines = capsys.readouterr().err.splitlines()
    losses = "loss 2.21 (classification 2, magnitude 0.01, sparsity 0.2, smoothness 0)"
    assert lines[1:] == [f"stage 2, step 75 of 150: val AUC 93.10%, {losses}, 120 s left"]


def test_a_terminal_shows_a_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=StringIO(), force_terminal=True, width=80)
    for module in ("ssrl.console", "ssrl.commands.progress"):
        monkeypatch.setattr(f"{module}.notes", terminal)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with TrainingProgress() as watcher:
        watcher.stage_begins(1, (1,), 0, 150)
        watcher.check_done(CheckRecord(1, 1, "val", None))
        watcher.step_done(make_step(1, 1))
    assert isinstance(terminal.file, StringIO)
    shown = terminal.file.getvalue()
    assert "1/150" in shown and "ETA" in shown and "step 1 of" not in shown
    assert "val AUC not defined, loss 2.21 (classification 2, magnitude 0.01" in shown


def test_several_watchers_are_told_all() -> None:
    callbacks = {name for name in vars(TrainingWatcher) if not name.startswith("_")}
    assert callbacks <= vars(Watchers).keys()


# The log


def test_the_log_has_a_line_a_step_a_check_and_a_stage(store: Store, tmp_path: Path) -> None:
    run = trainer(store, tmp_path, steps=5, scales=(1,), select="val").run(TrainingWatcher())
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["step"] * 4 + ["check", "step", "check", "stage"]
    assert [line["step"] for line in lines[:-1]] == [1, 2, 3, 4, 4, 5, 5]
    first = lines[0]
    assert first.keys() == {"kind", "stage", "step", "seconds", "learning_rate", "losses"}
    assert first["learning_rate"] == 1e-3 and first["losses"].keys() == TERMS.keys()
    total = first["losses"].pop("total")
    assert total == pytest.approx(sum(first["losses"].values()), rel=1e-5)
    assert lines[4]["metric"] == "val" and lines[-2]["value"] == run.stages[-1].selection_value
    assert list(Log(tmp_path / "log.jsonl").read())[-1] == run.stages[-1]


def test_a_check_logs_what_it_measured_rather_than_the_best(store: Store, tmp_path: Path) -> None:
    values = iter([0.5, 0.9, 0.4, 0.7])  # of the linear model, then of the checks

    def measure(network: Any) -> float:
        return next(values, 0.6)  # in the end

    replace(trainer(store, tmp_path, scales=(1,), select="test"), test_auc=measure).run(TrainingWatcher())
    checks = [record.value for record in Log(tmp_path / "log.jsonl").read() if isinstance(record, CheckRecord)]
    assert checks == [0.9, 0.4, 0.7]


def test_the_learning_rate_is_that_of_the_step(store: Store, tmp_path: Path) -> None:
    """A cosine from the first step on: (1 + cos(π step / 4)) / 2."""
    trainer(store, tmp_path, "blend", steps=4, scales=(1,), learning_rate=0.1).run(TrainingWatcher())
    rates = [record.learning_rate for record in Log(tmp_path / "log.jsonl").read() if isinstance(record, StepRecord)]
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-5)


def test_a_resumed_run_logs_what_an_undisturbed_one_does(
    store: Store, tmp_path: Path, save_at_every_check: None
) -> None:
    """Stopped in both stages, after half a line was written."""
    trainer(store, tmp_path / "a", select="val").run(TrainingWatcher())
    log = tmp_path / "b" / "log.jsonl"
    for stop_at in ((1, 2), (1, 6), (2, 3)):
        with pytest.raises(KeyboardInterrupt):
            trainer(store, tmp_path / "b", select="val").run(StoppingWatcher(stop_at), resume=True)
        log.write_text(log.read_text() + '{"kind": "step", "sta')
    trainer(store, tmp_path / "b", select="val").run(TrainingWatcher(), resume=True)
    assert len(log.read_text().splitlines()) == 2 * (10 + 3 + 1)
    expected, got = ([forget_times(record) for record in Log(tmp_path / run / "log.jsonl").read()] for run in "ab")
    assert got == expected


def forget_times(record: Record) -> Record:
    return record if isinstance(record, CheckRecord) else replace(record, seconds=0.0)


def test_a_log_is_cut_back_to_a_state(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    kept: list[Record] = [make_step(1, 1), RESULT, make_step(2, 1), CheckRecord(2, 1, "val", None)]
    log = write_log(path, *kept, make_step(2, 2), CheckRecord(2, 2, "val", 0.5), replace(RESULT, stage=2))
    path.write_text(path.read_text().removesuffix("\n"))  # a whole line, whose end is missing
    log.cut_back(3, 0)
    log.append(make_step(3, 1))
    assert len(list(log.read())) == 8
    log.cut_back(2, 1)
    assert list(log.read()) == kept
    log.cut_back(1, 0)
    assert path.read_text() == "" and [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


# Curves


@pytest.mark.parametrize("recipe", ["paper", "blend", "linear"])
def test_a_run_draws_its_curves(store: Store, tmp_path: Path, recipe: str) -> None:
    request = TrainRequest(store.root, tmp_path / "run", recipe, scales=(1, 2))
    run = train_model(request if recipe == "linear" else replace(request, steps=3))
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    panels = plot_run(tmp_path / "run" / "log.jsonl").axes
    assert [axes.get_ylabel() for axes in panels] == ["AUC"] if recipe == "linear" else ["loss", "AUC"]
    assert panels[-1].get_xlabel() == "step"
    assert [text.get_text() for text in panels[0].texts] == ["stage 1\nscale 1", "stage 2\nscales 1, 2"]
    test = next(line for line in panels[-1].lines if line.get_label() == "test frames")
    first, second = run.stages
    assert np.asarray(test.get_xdata()).tolist() == [first.last_step, first.last_step + second.last_step]
    assert np.asarray(test.get_ydata()).tolist() == [first.last_test_auc, second.last_test_auc]


def test_curves_hold_the_finished_stages(store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_model(TrainRequest(store.root, tmp_path, "paper", scales=(1, 2), steps=3), StoppingWatcher((2, 2)))
    assert (tmp_path / "curves.png").exists()
    assert len(plot_run(tmp_path / "log.jsonl").axes[0].texts) == 1


def test_curves_show_the_terms_by_step_of_the_run(tmp_path: Path) -> None:
    """A term of 0 is a gap of a logarithmic axis."""
    steps = [make_step(stage, step) for stage in (1, 2) for step in (1, 2, 3, 4)]
    results = [RESULT, replace(RESULT, stage=2)]
    write_log(tmp_path / "log.jsonl", *steps[:4], results[0], *steps[4:], results[1])
    lines = [line for line in plot_run(tmp_path / "log.jsonl").axes[0].lines if line.get_alpha() is None]
    assert [line.get_label() for line in lines[::2]] == list(TERMS)
    assert [np.asarray(line.get_xdata()).tolist() for line in lines[:2]] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert np.asarray(lines[0].get_ydata()) == pytest.approx([2.0] * 4)
    assert np.isnan(lines[6].get_ydata()).all()


def test_curves_without_any_auc_say_so(tmp_path: Path) -> None:
    unknown = replace(RESULT, last_test_auc=None, linear_test_auc=None, held_out_auc=None, linear_held_out_auc=None)
    write_log(tmp_path / "log.jsonl", make_step(1, 1), make_step(1, 2), unknown)
    figure = plot_run(tmp_path / "log.jsonl")
    figure.savefig(tmp_path / "curves.png")
    assert [text.get_text() for text in figure.axes[1].texts] == ["no AUC is defined"]


# TensorBoard


def test_tensorboard_is_asked_for_before_any_work(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    arguments = ["--features", str(store.root), "--out", str(tmp_path / "run"), "--tensorboard"]
    outcome = CliRunner().invoke(main, arguments)
    assert outcome.exit_code == 1 and "pip install 'ssrl[tensorboard]'" in outcome.stderr
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_what_the_log_says_across_a_resume(
    store: Store, tmp_path: Path, save_at_every_check: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    request = TrainRequest(store.root, tmp_path, "paper", scales=(1, 2), steps=30, select="val", tensorboard=True)
    for stop_at in ((1, 28), (2, 27)):  # the state is that of step 25
        with pytest.raises(KeyboardInterrupt):
            train_model(replace(request, resume=True), StoppingWatcher(stop_at))
    train_model(replace(request, resume=True))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    records = list(Log(tmp_path / "log.jsonl").read())
    steps = [record for record in records if isinstance(record, StepRecord)]
    for term in TERMS:
        expected = [30 * (step.stage - 1) + step.step for step in steps]
        assert [place for place, _ in shown[f"loss/{term}"]] == expected == list(range(1, 61))
        assert [value for _, value in shown[f"loss/{term}"]] == pytest.approx([step.losses[term] for step in steps])
    assert [place for place, _ in shown["auc/val"]] == [25, 30, 55, 60]
    results = [record for record in records if isinstance(record, StageResult)]
    assert shown["auc of the stage/test"] == [
        (30 * result.stage, pytest.approx(result.last_test_auc)) for result in results
    ]
    assert shown["learning_rate"][0] == (1, pytest.approx(1e-3)) and len(shown["stage"]) == 60


# Losses and gradients that are not finite


class SpoiledGradient(torch.autograd.Function):
    """The identity, with a gradient that is infinite."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient * torch.inf


def spoil_magnitude(losses: Losses) -> Losses:
    return replace(losses, magnitude=torch.tensor(torch.nan))


def spoil_gradient(losses: Losses) -> Losses:
    return replace(losses, sparsity=SpoiledGradient.apply(losses.sparsity))


@contextmanager
def spoiled(spoil: Callable[[Losses], Losses], at_step: int) -> Iterator[None]:
    """Change the losses of one step of the run."""
    steps = count(1)

    def compute(*arguments: Any) -> Losses:
        losses = compute_losses(*arguments)
        return spoil(losses) if next(steps) == at_step else losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssrl.train.steps.compute_losses", compute)
        yield


def assert_resumes_well(store: Store, folder: Path, stage: int, step: int) -> None:
    """The saved state is finite and that of a step; from it, the run ends where an undisturbed one does."""
    saved = load_tensors(folder / "run" / "state.pt")
    assert (saved["stage"], saved["state"]["step"]) == (stage, step)
    (optimizer,) = saved["state"]["optimizers"]
    for values in (saved["state"]["weights"], *optimizer["state"].values()):
        assert all(value.isfinite().all() for value in values.values())
    resumed = trainer(store, folder / "run").run(TrainingWatcher(), resume=True)
    undisturbed = trainer(store, folder / "undisturbed").run(TrainingWatcher())
    expected, got = load_checkpoint(undisturbed.best).weights, load_checkpoint(resumed.best).weights
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_loss_that_is_not_finite_stops_training_with_its_origin(
    store: Store, tmp_path: Path, save_at_every_check: None
) -> None:
    message = r"stage 2, step 7: the loss \(magnitude\) is nan"
    with spoiled(spoil_magnitude, at_step=17), pytest.raises(UserError, match=message) as caught:
        trainer(store, tmp_path / "run").run(TrainingWatcher())
    told = str(caught.value)
    assert all(record.id in told for record in store.records("train"))  # a batch has four of each kind: all there are
    assert "below 0.001 and another --out" in told and "ssrl-store verify" in told and "--resume" in told
    assert "NaN" not in (tmp_path / "run" / "log.jsonl").read_text()
    assert_resumes_well(store, tmp_path, stage=2, step=4)


def test_a_gradient_that_is_not_finite_shows_in_the_next_scores(store: Store, tmp_path: Path) -> None:
    message = "stage 1, step 3: the scores, and so the loss"
    with spoiled(spoil_gradient, at_step=2), pytest.raises(UserError, match=message):
        trainer(store, tmp_path).run(TrainingWatcher())
    assert not (tmp_path / "state.pt").exists()


def test_weights_that_are_not_finite_are_not_saved(store: Store, tmp_path: Path, save_at_every_check: None) -> None:
    """The gradient is that of a step that is checked, whose loss is finite."""
    message = "stage 1, step 8: a gradient is not finite; the batch was folder/video"
    with spoiled(spoil_gradient, at_step=8), pytest.raises(UserError, match=message):
        trainer(store, tmp_path / "run").run(TrainingWatcher())
    assert_resumes_well(store, tmp_path, stage=1, step=4)


def test_the_network_of_a_blend_is_named_with_its_own_batch(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(logits: Tensor, labels: Tensor, top: int | None = None) -> Tensor:
        return compute_balanced_loss(logits, labels, top) * (1.0 if top is None else torch.inf)

    monkeypatch.setattr("ssrl.train.steps.compute_balanced_loss", compute)
    message = r"stage 1, step 1, network 2 of 10 \(top\): the loss \(classification\) is inf"
    with pytest.raises(UserError, match=message) as caught:
        trainer(store, tmp_path, "blend").run(TrainingWatcher())
    unseen = [record.id for record in store.records("train") if record.id not in str(caught.value)]
    assert len(unseen) == 2  # one of each kind, which this network is trained without
