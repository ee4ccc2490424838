"""What is measured on held-out training videos: comparison, calibration, thresholds, choice of a recipe."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ssrl.checkpoints import Checkpoint, load_checkpoint
from ssrl.commands.train import describe_held_out
from ssrl.commands.train import main as ssrl_train
from ssrl.errors import UserError
from ssrl.model.blend import Blend
from ssrl.model.domain import Domain
from ssrl.model.recipes import blend_model, blend_training, linear_model, set_members
from ssrl.store.layout import VideoRecord, get_video_path
from ssrl.store.reader import Store
from ssrl.store.segments import open_segment_view
from ssrl.store.writer import StoreWriter
from ssrl.train.blend import PreparedFeatures, fit_linear, fit_preparation
from ssrl.train.data import Bags, Fold, make_bags
from ssrl.train.held_out import HeldOut, fit_reference
from ssrl.train.loop import StageTrainer
from ssrl.workflows.train import TrainRequest, choose_num_folds, cross_validate, train_model
from tests.stores import CONFIG, D, write_store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("features") / "planted", videos=24)


@pytest.fixture
def bags(store: Store) -> Bags:
    return make_bags(store, open_segment_view(store), 0.0, seed=0)


def request(store: Store, out: Path, **changes: Any) -> TrainRequest:
    return TrainRequest(store.root, out, **{"scales": (1, 2), "steps": 20, **changes})


def test_folds_hold_each_kind_evenly_and_every_video_once(bags: Bags) -> None:
    folds = bags.assign_folds(3, seed=0)
    for kind in (0, 1):
        assert np.bincount(folds[bags.training_labels == kind]).tolist() == [2, 2, 2]
    assert bags.assign_folds(50, seed=0).max() == 5  # as many as the smaller kind has
    assert set(replace(bags, normal=bags.normal[:1]).assign_folds(3, seed=0)) == {-1}


def test_a_network_does_not_see_its_fold(bags: Bags, store: Store) -> None:
    """Its gradient is the same whatever the videos that it should not see hold."""
    config = blend_training(scales=(1, 2), videos_per_half=6)
    gradients = []
    for change in (0.0, 100.0):
        torch.manual_seed(0)
        network = Blend(set_members(blend_model(D, (1, 2), store.config.grids), 3))
        trainer = StageTrainer(network, bags, config, 1, CPU)
        assert isinstance(trainer.features, PreparedFeatures)
        places = np.searchsorted(trainer.features.indices, bags.training[trainer.folds == 0])
        hidden = trainer.features.prepared.snippets[places]
        for pooled, _ in trainer.features.prepared.scales.values():
            pooled[hidden.unique()] += change
        next(trainer.stepper.run(range(1)))
        gradients.append([network.get_parameter(f"networks.{i}.fc1.weight").grad for i in (0, 2)])
    (first, other), (first_changed, other_changed) = gradients
    assert first is not None and first_changed is not None and torch.equal(first, first_changed)
    assert other is not None and other_changed is not None and not torch.equal(other, other_changed)


def test_the_linear_model_of_a_fold_is_that_of_a_set_without_it(bags: Bags, store: Store) -> None:
    linear = linear_model(D, (1, 2), store.config.grids)
    network = Blend(linear)
    fit_preparation(network, bags)
    features = PreparedFeatures(network, bags, CPU)
    fit_linear(network, features, bags)
    reference = fit_reference(network, features, linear, bags, 0, CPU)
    assert reference.held_out is not None and reference.held_out.linear_auc == 1.0
    folds = bags.assign_folds(5, seed=0)
    rest = bags.training[folds != 2]
    fit_linear(
        network,
        features,
        replace(bags, abnormal=np.intersect1d(rest, bags.abnormal), normal=np.intersect1d(rest, bags.normal)),
    )
    for scale in (1, 2):
        torch.testing.assert_close(
            reference.fold_models[2].weights[scale], network.linear[str(scale)].data, atol=2e-4, rtol=1e-2
        )


def test_repeated_snippets_are_prepared_once(bags: Bags, store: Store) -> None:
    network = Blend(blend_model(D, (1, 2), store.config.grids)).eval()
    fit_preparation(network, bags)
    features = PreparedFeatures(network, bags, CPU)
    assert len(features.prepared.scales[1][0]) == 9 * len(bags.training)  # videos of 9 snippets
    x = {r: torch.from_numpy(bags.view.scales[r][bags.training].astype(np.float32)) for r in (1, 2)}
    with torch.no_grad():
        expected, got = network(x), network.forward_prepared(features.select(bags.training))
    torch.testing.assert_close(got.logits, expected.logits)


def make_held_out(labels: np.ndarray, **logits: np.ndarray) -> HeldOut:
    """In five folds, each kind evenly."""
    places = np.where(labels == 1, np.cumsum(labels == 1), np.cumsum(labels == 0))
    return HeldOut(labels, logits, places % 5)


def test_scores_are_the_share_of_abnormal_videos_and_thresholds_keep_their_rate() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    logits = 20 * (generator.normal(size=(200, 32)) + labels[:, None])  # overconfident: the true slope is 1 / 20
    calibration = make_held_out(labels, linear=logits).calibrate({"linear": 1.0})
    assert calibration.slope == pytest.approx(1 / 20, abs=0.005)
    assert calibration.offset == pytest.approx(-0.5, abs=0.1)
    scores = 1 / (1 + np.exp(-(calibration.slope * logits + calibration.offset)))
    for rate, threshold in calibration.thresholds.items():
        assert 0.5 * rate <= np.mean(scores[labels == 0] >= threshold) <= rate
    few = make_held_out(labels[98:102], linear=logits[98:102]).calibrate({"linear": 1.0})
    assert few.thresholds[0.001] > few.thresholds[0.05]


def test_members_are_weighed_by_how_surely_they_are_the_best() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)

    def logits(gap: float) -> np.ndarray:
        return generator.normal(size=(120, 32)) + gap * labels[:, None]

    perfect, good, poor, chance = logits(50), logits(2), logits(0.5), logits(0)
    tied = make_held_out(labels, linear=perfect, all=2 * perfect, top=chance).choose_weights(seed=0)
    assert tied == {"linear": 1, "all": 0, "top": 0}  # what is no better than the linear model is not used
    clear = make_held_out(labels, linear=poor, all=good, top=chance).choose_weights(seed=0)
    assert clear == pytest.approx({"linear": 1 / 6, "all": 4 / 6, "top": 1 / 6})
    unsure = make_held_out(labels, linear=poor, all=logits(0.55), top=chance).choose_weights(seed=0)
    assert 1 / 6 < unsure["linear"] < 1 and sum(unsure.values()) == pytest.approx(1)
    upside_down = make_held_out(labels, linear=-good, all=logits(-0.1), top=-good).choose_weights(seed=0)
    assert upside_down == {"linear": 1, "all": 0, "top": 0}  # though one network is nearer to chance


def test_scores_keep_their_order_where_held_out_videos_show_none() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    logits = generator.normal(size=(40, 32)) - labels[:, None]
    assert make_held_out(labels, linear=logits).calibrate({"linear": 1.0}).slope > 0


def test_a_run_reports_and_keeps_what_it_measured(store: Store, tmp_path: Path) -> None:
    run = train_model(request(store, tmp_path))
    checkpoint = load_checkpoint(run.best)
    last = checkpoint.stages[-1]
    assert last.held_out_auc is not None and last.linear_held_out_auc == 1.0
    assert checkpoint.calibration is not None and checkpoint.calibration.num_normal == 6
    assert checkpoint.weights["calibration"][0].item() == pytest.approx(checkpoint.calibration.slope)


def test_a_set_with_one_normal_video_trains_without_held_out_videos(tmp_path: Path) -> None:
    """videos 0 and 1 are for training: one of each kind."""
    run = train_model(request(write_store(tmp_path / "few", videos=4), tmp_path / "run"))
    checkpoint = load_checkpoint(run.best)
    assert checkpoint.calibration is None and run.stages[-1].held_out_auc is None


def test_noise_is_not_called_better_than_the_linear_model() -> None:
    """Weights that are chosen on the videos that they are measured on find something in noise."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 10)
    chosen, measured, linear = [], [], []
    for seed in range(60):
        logits = {name: generator.normal(size=(20, 32)) for name in ("linear", "all", "top")}
        held_out = make_held_out(labels, **logits)
        chosen.append(held_out.compute_auc(held_out.choose_weights(seed)))
        measured.append(held_out.measure_auc(seed))
        linear.append(held_out.linear_auc)
    assert np.mean(chosen) > np.mean(linear) + 0.03
    assert np.mean(measured) < np.mean(linear) + 0.03


def test_a_blend_is_measured_with_weights_of_other_folds() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    good = generator.normal(size=(100, 32)) + 9 * labels[:, None]
    held_out = make_held_out(labels, linear=generator.normal(size=(100, 32)), all=good)
    assert held_out.measure_auc(seed=0) == 1.0


def test_what_follows_from_the_held_out_videos_is_said(store: Store, tmp_path: Path) -> None:
    run = train_model(request(store, tmp_path))
    last, checkpoint = run.stages[-1], load_checkpoint(run.best)
    assert checkpoint.calibration is not None

    def describe(network_auc: float | None, linear_auc: float | None, **weights: float) -> str:
        stage = replace(last, held_out_auc=network_auc, linear_held_out_auc=linear_auc)
        calibration = checkpoint.calibration and replace(checkpoint.calibration, weights=weights)
        return describe_held_out(stage, replace(checkpoint, calibration=calibration))

    blended = {"linear": 0.5, "all": 0.3, "top": 0.2}
    better = describe(0.7, 0.8, **blended)
    assert "is better (video-level AUC 80.00%, here 70.00%): train it with --recipe linear" in better
    assert "--recipe linear,blend --cv 5" in better
    assert "is as good" in describe(0.8, 0.8, **blended)
    assert "--recipe linear" not in describe(0.8, 0.7, **blended)
    assert "compare the two with --cv 5" in describe(None, 0.7, **blended)
    assert "the blend is its linear model alone, which --recipe linear trains" in describe(0.8, 0.8, linear=1, all=0)
    assert describe(0.8, 0.8, linear=1) == "held-out training videos: video-level AUC 80.00%"
    assert "no better than chance" in describe(0.39, 0.33, **blended)
    assert "takes two of each kind" in describe(None, None)


def test_recipes_are_compared_on_the_same_folds(store: Store, tmp_path: Path) -> None:
    options = ["--features", str(store.root), "--out", str(tmp_path / "run"), "--scales", "1,2", "--steps", "10"]
    result = CliRunner().invoke(ssrl_train, [*options, "--recipe", "linear,small", "--cv", "3"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "linear" in result.stdout and "small" in result.stdout and "100.00%" in result.stdout
    assert not (tmp_path / "run" / "best.pt").exists()
    folders = sorted(path.name for path in (tmp_path / "run" / "cv-3").iterdir())
    assert folders == [f"{recipe}-{fold}" for recipe in ("linear", "small") for fold in range(3)]


def test_options_of_networks_are_left_out_for_the_linear_model(store: Store, tmp_path: Path) -> None:
    linear, blend = request(store, tmp_path, recipe="linear,blend", cv=2, members=3, no_psr=True).split()
    assert linear.members is None and not linear.no_psr
    assert blend.members == 3 and blend.no_psr


def test_auto_takes_the_best_and_continues_where_it_stopped(store: Store, tmp_path: Path) -> None:
    auto = request(store, tmp_path, recipe="auto", cv=2)
    compared = cross_validate(auto)
    assert set(compared.aucs) == {"blend", "linear"}
    checkpoint = load_checkpoint(train_model(replace(auto, resume=True)).best)
    assert checkpoint.training is not None and checkpoint.training.recipe == compared.best


def test_a_cross_validation_that_cannot_be_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 7 training videos of each kind, but there are only 6"):
        cross_validate(request(store, tmp_path, recipe="linear", cv=7))
    with pytest.raises(UserError, match="at least 2 folds"):
        request(store, tmp_path, cv=1)
    with pytest.raises(UserError, match="add --cv"):
        request(store, tmp_path, recipe="linear,blend")
    with pytest.raises(UserError, match="unknown recipe 'best'"):
        request(store, tmp_path, recipe="linear,best", cv=3)
    with pytest.raises(UserError, match="name one with --recipe"):
        choose_num_folds(write_store(tmp_path / "few", videos=4))


def test_folds_leave_out_what_they_should(bags: Bags) -> None:
    folds = [bags.hold_out(Fold(index, 3), seed=0) for index in range(3)]
    assert sorted(np.concatenate([fold.held_out for fold in folds])) == sorted(bags.training)
    for fold in folds:
        assert not set(fold.held_out) & set(fold.training)
        assert sorted([*fold.held_out, *fold.training]) == sorted(bags.training)
        assert np.isin(fold.held_out, bags.abnormal).tolist() == (fold.held_out_labels == 1).tolist()


def measure_video(domain: Domain, features: dict[int, np.ndarray], shift: float = 0.0) -> float:
    tensors = {scale: torch.from_numpy(x.astype(np.float32)) + shift for scale, x in features.items()}
    return domain.measure(domain.project(tensors))


def test_footage_unlike_the_training_videos_is_noticed(store: Store, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(train_model(request(store, tmp_path, recipe="linear")).best)
    assert checkpoint.domain is not None

    def measure(shift: float) -> list[float]:
        features = [store.all_features(record.id, (1, 2)) for record in store.records("test")]
        return [measure_video(checkpoint.domain, each, shift) for each in features if checkpoint.domain]

    assert np.median(measure(0.0)) < 1 and min(measure(5.0)) > 1.5
    train = [store.all_features(record.id, (1, 2)) for record in store.records("train")]
    for features in train:  # as the formula says
        parts = []
        for scale, x in features.items():
            pooled = x.mean(axis=1) if scale == 1 else np.concatenate([x.mean(axis=1), x.max(axis=1)], axis=1)
            parts.append((pooled - checkpoint.domain.mean[scale].numpy()) @ checkpoint.domain.projection[scale].numpy())
        expected = np.sqrt((np.median(sum(parts), axis=0) ** 2).mean()) / checkpoint.domain.limit
        got = measure_video(checkpoint.domain, features)
        assert got == pytest.approx(expected, rel=0.25)  # torch's median of an even number is the lower one


def write_features(root: Path, make: Callable[[np.random.Generator, int], np.ndarray], dim: int) -> Store:
    """Six videos of each kind, half for training, at scale 1: `make` gives the features (T, 1, D) of a label."""
    writer, generator = StoreWriter(root, replace(CONFIG, feature_dim=dim, scales=(1,))), np.random.default_rng(0)
    for index in range(12):
        label, split = index % 2, "train" if index < 6 else "test"
        features = make(generator, label)
        with writer.video(f"v{index}") as file:
            file.append({1: features})
            file.finish(VideoRecord(f"v{index}", 16 * len(features), label, split))  # type: ignore[arg-type]
    return Store(root)


def train_linear(store: Store, folder: Path) -> Checkpoint:
    return load_checkpoint(train_model(TrainRequest(store.root, folder, "linear", scales=(1,))).best)


def test_what_never_varied_in_training_is_noticed(tmp_path: Path) -> None:
    def make(generator: np.random.Generator, label: int) -> np.ndarray:
        features = generator.normal(size=(32, 1, 32))
        features[..., 16:] = 1.0
        features[..., 0] += label
        return features

    store = write_features(tmp_path / "store", make, 32)
    domain = train_linear(store, tmp_path / "run").domain
    assert domain is not None
    usual = store.all_features("v6", (1,))
    other = {1: usual[1] + 20 * np.eye(32)[20]}
    assert measure_video(domain, usual) < 1.1 and measure_video(domain, other) > 2


def test_training_videos_lie_within_where_features_outnumber_segments(tmp_path: Path) -> None:
    store = write_features(tmp_path / "store", lambda g, label: g.normal(size=(20, 1, 512)) + label, 512)
    domain = train_linear(store, tmp_path / "run").domain
    assert domain is not None
    distances = [measure_video(domain, store.all_features(record.id, (1,))) for record in store.records()]
    assert min(distances) > 0.5 and max(distances) < 2.5


def test_features_that_do_not_vary_have_no_domain(tmp_path: Path) -> None:
    store = write_features(tmp_path / "store", lambda *_: np.ones((8, 1, 16)), 16)
    checkpoint = train_linear(store, tmp_path / "run")
    assert checkpoint.domain is None
    assert all(torch.isfinite(value).all() for value in checkpoint.weights.values())


def test_one_feature_of_large_values_does_not_hide_the_others(tmp_path: Path) -> None:
    def make(generator: np.random.Generator, label: int) -> np.ndarray:
        features = generator.normal(size=(9, 1, 64))
        features[..., 0] *= 1e4
        features[3:6, 0, 1:4] += 6 * label
        return features

    checkpoint = train_linear(write_features(tmp_path / "store", make, 64), tmp_path / "run")
    assert checkpoint.stages[-1].linear_held_out_auc == 1.0


@pytest.mark.parametrize(
    ("dim", "abnormal", "normal"), [(64, 5, 5), (256, 1, 9), (256, 9, 1), (256, 1, 1), (2048, 3, 2), (4096, 2, 3)]
)
def test_any_number_of_short_videos_of_any_dimension_trains(
    tmp_path: Path, dim: int, abnormal: int, normal: int
) -> None:
    """Videos of one to four snippets, without special options."""
    config = replace(CONFIG, feature_dim=dim)
    writer, generator = StoreWriter(tmp_path / "store", config), np.random.default_rng(0)
    for index in range(abnormal + normal):
        label, num_snippets = int(index < abnormal), 1 + index % 4
        with writer.video(f"v{index}") as file:
            file.append({r: generator.normal(size=config.shape(r, num_snippets)) + label for r in config.scales})
            file.finish(VideoRecord(f"v{index}", 16 * num_snippets, label, "train", "", 25.0))
    run = train_model(TrainRequest(tmp_path / "store", tmp_path / "run", scales=(1, 2), steps=4))
    checkpoint = load_checkpoint(run.best)
    assert all(torch.isfinite(value).all() for value in checkpoint.weights.values())
    assert (checkpoint.calibration is None) == (min(abnormal, normal) < 2)


def test_features_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    with h5py.File(get_video_path(store.root, store.ids()[3]), "r+") as file:
        file["scale2"][0, 0, 0] = np.nan
    with pytest.raises(UserError, match=r"features of folder/video 03 at scale 2 hold NaN"):
        train_model(TrainRequest(store.root, tmp_path / "run"))
