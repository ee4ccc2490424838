"""The commands as a user types them."""

import json
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import pytest
from click.testing import CliRunner

import ssrl
from ssrl.checkpoints import Checkpoint
from ssrl.commands import evaluate, extract, score, store, synth, tables, train, watch
from ssrl.extract.encoders import ENCODERS
from ssrl.paper_tables.request import TablesRequest
from ssrl.store.reader import Store
from ssrl.workflows.choices import EncoderName
from ssrl.workflows.evaluate import EvaluateRequest, evaluate_model
from ssrl.workflows.extract import ExtractRequest
from ssrl.workflows.score import ScoreRequest
from ssrl.workflows.train import TrainRequest
from ssrl.workflows.watch import WatchRequest
from tests.stores import other, write_store

TYPES = {"Checkpoint": Checkpoint}  # which a request names for type checkers alone
COMMANDS = {
    "extract": extract.main,
    "train": train.main,
    "evaluate": evaluate.main,
    "score": score.main,
    "watch": watch.main,
    "store": store.main,
    "synth": synth.main,
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("features") / "planted")


@pytest.fixture(scope="module")
def run(planted: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    arguments = ["--features", planted.root, "--scales", "1,2", "--steps", "25", "--out", folder]
    outcome = CliRunner().invoke(train.main, [str(part) for part in arguments])
    assert outcome.exit_code == 0, outcome.output
    return folder


@pytest.mark.parametrize("name", [*COMMANDS, "tables"])
def test_help_comes_at_once_and_shows_an_example(name: str) -> None:
    code = (
        f"import sys; from ssrl.commands.{name} import main\n"
        "try: main(['-h'], prog_name='x')\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert "Example: " in " ".join(outcome.stdout.split())


REQUESTS = {
    extract.main: ExtractRequest,
    train.main: TrainRequest,
    evaluate.main: EvaluateRequest,
    score.main: ScoreRequest,
    watch.main: WatchRequest,
    tables.main: TablesRequest,
}
NOT_FIELDS = {"complexity"}  # of `ssrl-eval`: counts instead of measuring


@pytest.mark.parametrize("command", REQUESTS, ids=lambda command: REQUESTS[command].__name__)
def test_options_are_the_fields_of_a_request_with_their_defaults_and_choices(command: click.Command) -> None:
    request = REQUESTS[command]
    options = {option.name: option for option in command.params if option.name not in NOT_FIELDS}
    assert set(options) == {field.name for field in fields(request)}
    for field in fields(request):
        option = options[field.name]
        if field.default is MISSING:
            assert option.required, field.name
            continue
        context = click.Context(command)
        assert option.process_value(context, option.get_default(context)) == field.default, field.name
        allowed = re.findall(r"Literal\['(.*?)'\]", str(get_type_hints(request, localns=TYPES).get(field.name)))
        if allowed:
            assert isinstance(option.type, click.Choice), field.name
            assert list(option.type.choices) == allowed[0].split("', '"), field.name


def test_every_encoder_can_be_asked_for() -> None:
    assert get_args(EncoderName) == tuple(ENCODERS)


@pytest.mark.parametrize("name", ["ssrl", "ssrl.commands.train"])
def test_imports_leave_out_what_takes_long(name: str) -> None:
    """The help of a command waits for no library of arrays, networks or video."""
    code = f"import sys, {name}; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert name in loaded
    slow = {"torch", "numpy", "av", "h5py", "sklearn", "scipy", "openvino", "PIL", "matplotlib", "requests"}
    assert not loaded & (slow | {"tensorboard"})


def test_the_api_has_what_it_lists() -> None:
    assert all(getattr(ssrl, name) is not None for name in ssrl.__all__)
    assert {name for names in ssrl._MODULES.values() for name in names} == set(ssrl.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match="nothing"):
        ssrl.nothing  # noqa: B018


def test_the_three_commands_work_as_written(planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssrl-train takes the one store below features/ and leaves best.pt; ssrl-eval needs no more than that."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "mine").symlink_to(planted.root)
    outcome = CliRunner().invoke(train.main, ["--scales", "1,2,3,4", "--steps", "3"])
    assert outcome.exit_code == 0, outcome.output
    outcome = CliRunner().invoke(evaluate.main, ["--ckpt", "best.pt"])
    assert outcome.exit_code == 0, outcome.output
    assert "AUC, all frames" in outcome.stdout and "AUC of the last step" in outcome.stdout


def test_evaluation_writes_json_and_a_report(run: Path, tmp_path: Path) -> None:
    arguments = ["--ckpt", run / "best.pt", "--json", tmp_path / "m.json", "--report", tmp_path / "report"]
    outcome = CliRunner().invoke(evaluate.main, [str(part) for part in arguments])
    assert outcome.exit_code == 0, outcome.output
    metrics = json.loads((tmp_path / "m.json").read_text())
    wanted = "auc ap auc_abnormal video_auc far per_class num_frames num_videos protocol selection"
    assert set(wanted.split()) <= set(metrics)
    assert metrics["num_videos"] == 8 and metrics["selection"]["by"] == "last"
    assert metrics["selection"]["last_step_auc"] == pytest.approx(metrics["auc"])
    assert (tmp_path / "report" / "index.html").is_file()
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == metrics


def test_two_checkpoints_are_compared_on_the_same_videos(planted: Store, run: Path, tmp_path: Path) -> None:
    options = ["--features", planted.root, "--recipe", "linear", "--scales", "1", "--out", tmp_path / "linear"]
    assert CliRunner().invoke(train.main, [str(part) for part in options]).exit_code == 0
    other = tmp_path / "linear" / "best.pt"
    alone, both = (tmp_path / name for name in ("alone.json", "both.json"))
    for arguments in (
        ["--ckpt", other, "--json", alone],
        ["--ckpt", run / "best.pt", "--json", both, "--compare", other, "--report", tmp_path / "report"],
    ):
        outcome = CliRunner().invoke(evaluate.main, [str(part) for part in arguments])
        assert outcome.exit_code == 0, outcome.output
    metrics, expected = json.loads(both.read_text()), json.loads(alone.read_text())
    compare = metrics["compare"]
    assert compare["checkpoint"] == str(other) and set(compare["metrics"]) < set(expected)
    for name in ("auc", "video_auc", "per_class", "operating_points"):
        assert compare["metrics"][name] == expected[name]
    assert compare["differences"]["auc"] == pytest.approx(metrics["auc"] - expected["auc"])
    assert "AUC, all frames" in outcome.stdout and "compared with" in outcome.stdout
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == metrics


def test_a_checkpoint_of_other_features_is_not_compared(run: Path, tmp_path: Path) -> None:
    write_store(tmp_path / "other", 8, other(encoder="another"))
    options = ["--features", tmp_path / "other", "--recipe", "linear", "--scales", "1", "--out", tmp_path / "linear"]
    assert CliRunner().invoke(train.main, [str(part) for part in options]).exit_code == 0
    arguments = ["--ckpt", str(run / "best.pt"), "--compare", str(tmp_path / "linear" / "best.pt")]
    outcome = CliRunner().invoke(evaluate.main, arguments)
    assert outcome.exit_code == 1
    assert "cannot be compared on these videos" in outcome.stderr and "encoder: test, not another" in outcome.stderr


def test_features_of_another_encoder_are_refused(run: Path, tmp_path: Path) -> None:
    write_store(tmp_path / "other", 4, other(encoder="another"))
    outcome = CliRunner().invoke(evaluate.main, ["--ckpt", str(run / "best.pt"), "--features", str(tmp_path / "other")])
    assert outcome.exit_code == 1 and "encoder: another, not test" in outcome.stderr


def test_a_missing_scale_is_named(planted: Store, tmp_path: Path) -> None:
    arguments = ["--features", planted.root, "--scales", "1,5", "--out", tmp_path / "run"]
    outcome = CliRunner().invoke(train.main, [str(part) for part in arguments])
    assert outcome.exit_code == 1 and "scale 5" in outcome.stderr


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (extract.main, ["--dataset", "imagenet"]),
        (extract.main, ["--dataset", "manifest", "--size", "big"]),
        (extract.main, ["--dataset", "manifest", "--encoder", "c3d"]),
        (extract.main, ["--dataset", "manifest", "--memory", "much"]),
        (extract.main, ["--dataset", "manifest", "--shard", "3/2"]),
        (train.main, ["--recipe", "mine"]),
        (train.main, ["--select", "best"]),
        (train.main, ["--steps", "0"]),
        (train.main, ["--members", "1"]),
        (train.main, ["--learning-rate", "nan"]),
        (train.main, ["--learning-rate", "-1"]),
        (train.main, ["--recipe", "auto,linear", "--cv", "3"]),
        (train.main, ["--recipe", "linear", "--cv", "3", "--select", "val"]),
        (score.main, ["x.mp4", "--ckpt", "x.pt", "--out", "scores", "--false-alarms", "0.2"]),
        (evaluate.main, ["--ckpt", "x.pt", "--false-alarms", "0.3"]),
        (train.main, ["--recipe", "paper", "--members", "2"]),
        (train.main, ["--recipe", "linear", "--no-psr"]),
        (train.main, ["--recipe", "linear", "--cv", "2", "--tensorboard"]),
        (evaluate.main, ["--ckpt", "x.pt", "--protocol", "mine"]),
        (train.main, ["--scales", "1,1"]),
        (evaluate.main, []),
        (score.main, ["--ckpt", "x.pt"]),
    ],
)
def test_wrong_use_ends_with_2(command: click.Command, arguments: list[str]) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 2


def test_a_dataset_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["--dataset", "shanghaitech", "--root", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    outcome = CliRunner().invoke(extract.main, arguments)
    assert outcome.exit_code == 1 and "ssrl-synth" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_scoring_a_split_opens_each_file_once_to_list_and_once_to_read(
    planted: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = Store._open_file

    def counted(self: Store, video_id: str) -> Any:
        opened.append(video_id)
        return original(self, video_id)

    monkeypatch.setattr(Store, "_open_file", counted)
    result = evaluate_model(EvaluateRequest(run / "best.pt"))
    assert len(result.videos) == 8 and len(opened) == 16 + 8


# What cannot be written is told before the work


@pytest.mark.parametrize("arguments", [["--report", "file"], ["--report", "file/report"], ["--json", "folder"]])
def test_an_evaluation_that_could_not_be_written_does_not_begin(
    run: Path, tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("the user's")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("ssrl.evaluate.scoring.score_split", fail_if_called)
    outcome = CliRunner().invoke(evaluate.main, ["--ckpt", str(run / "best.pt"), *arguments])
    assert outcome.exit_code == 1 and arguments[1].partition("/")[0] in outcome.stderr
    assert "a part of the path is a file" in outcome.stderr or "it is a folder; name a file" in outcome.stderr
    assert (tmp_path / "file").read_text() == "the user's"


@pytest.mark.parametrize("place", ["runs/one", "runs"])
def test_a_training_whose_result_could_not_be_written_does_not_begin(
    planted: Store, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ssrl.train.stages.Trainer.run", fail_if_called)
    (tmp_path / "runs").write_text("the user's")
    out = [] if place == "runs" else ["--out", place]
    outcome = CliRunner().invoke(train.main, ["--features", str(planted.root), *out])
    assert outcome.exit_code == 1 and "a fault" not in outcome.stderr and place.partition("/")[0] in outcome.stderr


def test_scores_that_could_not_be_written_are_not_computed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("the user's")
    arguments = ["video.mp4", "--ckpt", str(run / "best.pt"), "--out", str(tmp_path / "file")]
    outcome = CliRunner().invoke(score.main, arguments)
    assert outcome.exit_code == 1 and f"{tmp_path / 'file'}: Not a directory" in outcome.stderr


def fail_if_called(*arguments: object, **options: object) -> None:
    raise AssertionError("the work has begun")
