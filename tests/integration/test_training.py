"""Training: the stages hand over, runs resume to the bit, and what is planted is found."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ssrl.checkpoints import load_checkpoint
from ssrl.config import LossConfig, TrainConfig
from ssrl.errors import UserError
from ssrl.evaluate import scoring
from ssrl.evaluate.localization import Moment, compute_attention_masks, compute_contribution_masks
from ssrl.evaluate.scoring import (
    score_snippets,
    score_split,
)
from ssrl.geometry import Rows
from ssrl.model.blend import Blend, Preparation
from ssrl.model.network import SSRL, Output, draw_kept_scales
from ssrl.model.recipes import RECIPES, blend_model, find_recipe, paper_model, small_model
from ssrl.store.layout import VideoRecord
from ssrl.store.reader import Store
from ssrl.store.segments import compute_segment_bounds, open_segment_view, pool_segments
from ssrl.store.writer import StoreWriter
from ssrl.train import stages
from ssrl.train.data import compute_statistics, draw, make_bags
from ssrl.train.losses import compute_losses, select_top_k
from ssrl.train.stages import TrainingWatcher
from ssrl.workflows.train import TrainRequest, train_model
from tests.stores import CONFIG, D, write_store
from tests.training import StoppingWatcher, trainer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("features") / "planted")


@pytest.mark.parametrize("recipe", ["blend", "linear"])
def test_recipes_for_any_number_of_videos_find_a_planted_anomaly(store: Store, tmp_path: Path, recipe: str) -> None:
    run = trainer(store, tmp_path, recipe, steps=40).run(TrainingWatcher())
    last = run.stages[-1]
    assert last.last_test_auc is not None and last.last_test_auc > 0.95
    assert recipe == "blend" or last.last_test_auc == last.linear_test_auc
    network = load_checkpoint(run.best).build_network()
    grids = {grid.scale: grid for grid in store.config.geometry.grids}
    for record in store.records("test"):
        if record.video.label:
            masks = compute_contribution_masks(network, Moment.of(store.all_features(record.id, (1, 2)), 4), grids)
            assert masks[2].argmax() == 0  # the planted patch


def test_the_map_of_the_linear_model_is_its_exact_decomposition(store: Store, tmp_path: Path) -> None:
    run = trainer(store, tmp_path, "linear", scales=(2,)).run(TrainingWatcher())
    network = load_checkpoint(run.best).build_network()
    assert isinstance(network, Blend)
    fixed = network.preparation["2"]
    assert isinstance(fixed, Preparation)
    weights = (network.linear["2"] / fixed.std).detach()
    grids = {grid.scale: grid for grid in store.config.geometry.grids}
    record = next(record for record in store.records("test") if record.video.label)
    features = {2: store.features(record.id, 2)}
    x = torch.from_numpy(features[2][4].astype(np.float32)) - fixed.patch_mean  # (6, D)
    highest = torch.nn.functional.one_hot(x.argmax(dim=0), len(x)).T  # (6, D)
    parts = x @ weights[:D] / len(x) + (highest * x) @ weights[D:]
    expected = (parts.clamp(min=0) / parts.max()).view(2, 3).numpy()
    np.testing.assert_allclose(
        compute_contribution_masks(network, Moment.of(features, 4), grids)[2], expected, atol=1e-4
    )
    both = torch.stack([x + fixed.patch_mean, fixed.patch_mean.expand_as(x)])[None]
    logits = network.linear_logits(network.prepare({2: both}))[0]
    assert torch.allclose(parts.sum(), logits[0] - logits[1], atol=1e-4)


def test_the_linear_model_is_that_of_scikit_learn(store: Store, tmp_path: Path) -> None:
    """On its own pooled features: the mean over crops, the mean and the maximum over patches."""
    run = trainer(store, tmp_path, "linear", scales=(1, 2)).run(TrainingWatcher())
    network = load_checkpoint(run.best).build_network()
    view = open_segment_view(store)
    bags = make_bags(store, view, 0.0, seed=0)
    indices = bags.training
    pooled = []
    for scale in (1, 2):
        x = view.scales[scale][indices].astype(np.float64)
        features = x.mean(axis=2) if scale == 1 else np.concatenate([x.mean(axis=2), x.max(axis=2)], axis=-1)
        flat = features.reshape(-1, features.shape[-1])
        pooled.append((flat - flat.mean(0)) / np.sqrt(flat.var(0) + flat.var(0).mean()))
    X, y = np.concatenate(pooled, axis=1), np.repeat([1] * len(bags.abnormal) + [0] * len(bags.normal), 32)
    expected = LogisticRegression(C=1 / len(y), class_weight="balanced", max_iter=1000, tol=1e-8).fit(X, y)
    weights = torch.cat([network.get_parameter("linear.1"), network.get_parameter("linear.2")])
    np.testing.assert_allclose(weights.numpy(), expected.coef_[0], atol=2e-3)


def test_a_planted_anomaly_is_found(store: Store, tmp_path: Path) -> None:
    run = trainer(store, tmp_path, steps=60).run(TrainingWatcher())
    assert [result.scales for result in run.stages] == [(1,), (1, 2)]
    assert (run.stages[-1].last_test_auc or 0) > 0.9
    network = load_checkpoint(run.best).build_network()
    for video in score_split(network, store):
        if video.label:
            inside = video.scores[3:6].mean()
            assert inside > video.scores[:3].mean() and inside > video.scores[6:].mean()


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "linear"])
def test_a_run_that_was_stopped_ends_where_an_undisturbed_one_does(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(stages, "SAVE_SECONDS", 0.0)
    undisturbed = trainer(store, tmp_path / "a", recipe).run(TrainingWatcher())
    for stop_at in ((1, 6), (2, 2), (2, 3)):
        with pytest.raises(KeyboardInterrupt):
            trainer(store, tmp_path / "b", recipe).run(StoppingWatcher(stop_at), resume=True)
    resumed = trainer(store, tmp_path / "b", recipe).run(TrainingWatcher(), resume=True)
    expected, got = load_checkpoint(undisturbed.best).weights, load_checkpoint(resumed.best).weights
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_the_result_of_a_stage_is_the_mean_of_its_later_weights(store: Store, tmp_path: Path) -> None:
    """Against the weights of runs that end at each of those steps."""
    settings: dict[str, Any] = {"scales": (1,), "learning_rate": 1e-3}
    run = trainer(store, tmp_path / "mean", steps=6, average_from=0.5, **settings).run(TrainingWatcher())
    mean = load_checkpoint(run.best).weights
    ends = [
        load_checkpoint(
            trainer(store, tmp_path / str(steps), steps=steps, **settings).run(TrainingWatcher()).best
        ).weights
        for steps in (4, 5, 6)
    ]
    for name, value in mean.items():
        if value.is_floating_point():
            expected = torch.stack([end[name] for end in ends]).mean(dim=0)
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_a_stage_starts_from_the_best_of_the_one_before(store: Store, tmp_path: Path) -> None:
    """With no learning, stage 2 still holds the weights of stage 1; only the new branch is new."""
    run = trainer(store, tmp_path, learning_rate=0.0, weight_decay=0.0).run(TrainingWatcher())
    first, second = (load_checkpoint(run.folder / f"stage-{stage}.pt").weights for stage in (1, 2))
    learned = [name for name in first if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(first[name], second[name]) for name in learned)
    assert {name.split(".")[1] for name in set(second) - set(first)} == {"2"}


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(store: Store, tmp_path: Path) -> None:
    trainer(store, tmp_path, steps=2).run(TrainingWatcher())
    with pytest.raises(UserError, match="--resume"):
        trainer(store, tmp_path, steps=2).run(TrainingWatcher())
    with pytest.raises(UserError, match=r"config\.seed: 1, not 0"):
        trainer(store, tmp_path, steps=2, seed=1).run(TrainingWatcher(), resume=True)


@pytest.mark.parametrize("select", ["last", "val", "test"])
def test_what_is_selected_is_told_and_the_last_step_beside_it(store: Store, tmp_path: Path, select: str) -> None:
    run = trainer(store, tmp_path, select=select, scales=(1,)).run(TrainingWatcher())
    result = run.stages[-1]
    assert result.selection == select and result.last_step == 10
    assert result.selected_test_auc is not None and result.last_test_auc is not None
    if select == "last":
        assert result.selected_step == 10 and result.selection_value is None
    else:
        assert result.selected_step in (4, 8, 10) and result.selection_value is not None
    if select == "test":
        assert result.selection_value == result.selected_test_auc >= result.last_test_auc


def test_validation_videos_are_training_videos_that_are_not_trained_on(store: Store) -> None:
    bags = make_bags(store, open_segment_view(store), 0.25, seed=0)
    everything = np.concatenate([bags.training, bags.held_out])
    train_ids = {record.id for record in store.records("train")}
    assert sorted(bags.view.ids[index] for index in everything) == sorted(train_ids)
    assert bags.held_out_labels.tolist() == [0, 1]


def test_a_store_with_one_kind_of_video_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path, 1)
    with pytest.raises(UserError, match="no abnormal training video"):
        trainer(store, tmp_path / "run").run(TrainingWatcher())


def test_draws_repeat_no_video_before_all_were_drawn() -> None:
    drawn = draw(np.arange(5), 12, np.random.default_rng(0))
    assert sorted(drawn[:5]) == sorted(drawn[5:10]) == [0, 1, 2, 3, 4] and len(drawn) == 12


def test_statistics_are_those_of_the_training_videos(store: Store) -> None:
    view = open_segment_view(store)
    indices = np.array([0, 3])
    mean, std = compute_statistics(view, 2, indices)
    values = view.scales[2][indices].astype(np.float64).reshape(-1, D)
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-5)


def output(scores: list[list[float]], magnitudes: list[list[float]]) -> Output:
    """An output whose snippet features are (magnitude, 0)."""
    features = torch.tensor(magnitudes)[:, None, :, None] * torch.tensor([1.0, 0.0])
    return Output(torch.tensor(scores), features, torch.tensor(scores)[:, None])


def test_scale_dropout_keeps_one_scale_and_rests_in_evaluation() -> None:
    torch.manual_seed(0)
    kept = draw_kept_scales(4000, 3, 0.5)
    assert kept.any(dim=1).all()
    assert kept.float().mean().item() == pytest.approx(0.5 + 0.125 / 3, abs=0.02)  # none of three: one chance in eight
    network = SSRL(small_model(D, (1, 2)))
    scales = {1: torch.randn(4, 8, 1, D), 2: torch.randn(4, 8, 6, D)}
    network.mpa.eval(), network.psr.eval()
    whole = network.eval().aggregate(scales)
    network.training = True  # this module alone: batch norms and dropout rest
    dropped = network.aggregate(scales)
    assert not torch.equal(whole, dropped)
    assert torch.equal(network.eval().aggregate(scales), whole)


def test_equations_7_to_10_by_hand() -> None:
    config = LossConfig(num_selected=2)
    abnormal = output([[0.9, 0.2, 0.6]], [[30.0, 1.0, 50.0]])
    normal = output([[0.1, 0.3, 0.5]], [[4.0, 2.0, 8.0]])
    assert select_top_k(abnormal.magnitudes, config).tolist() == [[2, 0]]
    losses = compute_losses(abnormal, normal, config)
    cross_entropy = -(np.log(0.9) + np.log(0.6)) - (np.log(1 - 0.1) + np.log(1 - 0.5))
    assert losses.floats["classification"] == pytest.approx(cross_entropy / 2, rel=1e-5)  # the mean of two videos
    assert losses.floats["magnitude"] == pytest.approx(1e-4 * (100 - 40 + 6), rel=1e-5)
    assert losses.floats["sparsity"] == pytest.approx(8e-3 * (0.9 + 0.2 + 0.6), rel=1e-5)
    assert losses.floats["smoothness"] == pytest.approx(8e-4 * (0.7**2 + 0.4**2), rel=1e-5)
    assert losses.floats["total"] == pytest.approx(sum(list(losses.floats.values())[:4]), rel=1e-4)


def test_the_margin_is_a_hinge() -> None:
    losses = compute_losses(output([[0.5]], [[150.0]]), output([[0.5]], [[10.0]]), LossConfig(num_selected=1))
    assert losses.floats["magnitude"] == 0.0


@pytest.mark.parametrize("changes", [{"select": "best"}, {"stages": "all"}, {"steps": 0}])
def test_settings_that_are_not_allowed_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(changes))):
        TrainConfig(**changes)


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UserError, match="paper, released, small"):
        find_recipe("mine").training()


def test_a_short_video_is_scored_as_it_was_trained_on(store: Store) -> None:
    """Nine snippets spread over 32 segments: each snippet's score is the mean of its segments' scores."""
    network = SSRL(paper_model(D, (1, 2))).eval()
    record = store.records("test")[0]
    features = {scale: store.features(record.id, scale) for scale in (1, 2)}
    pooled = {scale: torch.from_numpy(pool_segments(array, 32))[None] for scale, array in features.items()}
    with torch.inference_mode():
        segments = network(pooled).scores[0].numpy()
        raw = network({s: torch.from_numpy(array.astype(np.float32))[None] for s, array in features.items()}).scores[0]
    bounds = compute_segment_bounds(len(features[1]), 32)[:-1]
    expected = [segments[bounds == snippet].mean() for snippet in range(len(features[1]))]
    np.testing.assert_allclose(score_snippets(network, features)[0], expected, atol=1e-6)
    as_it_is = SSRL(replace(network.config, spread_to=0)).eval()
    as_it_is.load_state_dict(network.state_dict())
    np.testing.assert_allclose(score_snippets(as_it_is, features)[0], raw, atol=1e-6)


def test_a_long_video_is_scored_in_segments_as_in_training(store: Store) -> None:
    """At most as many as in training, unless they would be longer than those of a typical training video."""
    network = Blend(replace(blend_model(D, (1, 2), store.config.grids), segment_length=2.5)).eval()
    generator = np.random.default_rng(0)
    for num_snippets, num_segments in ((20, 32), (32, 32), (75, 32), (81, 33), (200, 80)):
        features = {
            scale: generator.normal(size=(num_snippets, store.config.shape(scale, 1)[1], D)).astype(np.float32)
            for scale in (1, 2)
        }
        bounds = compute_segment_bounds(num_snippets, num_segments)
        pooled = {scale: torch.from_numpy(pool_segments(x, num_segments))[None] for scale, x in features.items()}
        with torch.inference_mode():
            segments = network(pooled).scores[0].numpy()
        inside = [slice(start, max(start + 1, stop)) for start, stop in pairwise(bounds)]
        expected = [
            np.mean([s for s, part in zip(segments, inside, strict=True) if part.start <= i < part.stop])
            for i in range(num_snippets)
        ]
        np.testing.assert_allclose(score_snippets(network, features)[0], expected, atol=1e-5)


@pytest.mark.parametrize("rows", ["snippets", "segments"])
def test_the_segments_of_a_run_are_those_of_a_typical_training_video(tmp_path: Path, rows: Rows) -> None:
    writer, generator = StoreWriter(tmp_path / "store", CONFIG), np.random.default_rng(0)
    for index, num_snippets in enumerate((40, 96, 96, 400)):
        count = num_snippets if rows == "snippets" else 32  # as others pooled them
        with writer.video(f"v{index}") as file:
            file.append({r: generator.normal(size=CONFIG.shape(r, count)) for r in CONFIG.scales})
            file.finish(VideoRecord(f"v{index}", 16 * num_snippets, index % 2, "train", rows=rows))
    run = train_model(TrainRequest(tmp_path / "store", tmp_path / "run", scales=(1,), steps=2, members=2))
    assert load_checkpoint(run.best).model.segment_length == 3.0


@pytest.mark.parametrize("recipe", ["paper", "linear", "blend"])
def test_a_video_is_scored_block_by_block_as_in_one(
    store: Store, tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TrainRequest(store.root, tmp_path / "run", recipe, scales=(1, 2), steps=2, stages="joint")
    checkpoint = load_checkpoint(train_model(request).best)
    network, record = checkpoint.build_network(), store.records("test")[0]
    generator = np.random.default_rng(0)
    num_patches = store.features(record.id, 2).shape[1]
    features = {scale: generator.normal(size=(50, patches, D)) for scale, patches in ((1, 1), (2, num_patches))}
    expected, distance = score_snippets(network, features, checkpoint.domain)
    batch = {scale: torch.from_numpy(x.astype(np.float32))[None] for scale, x in features.items()}
    with torch.inference_mode():
        np.testing.assert_allclose(expected, network(batch).scores[0].numpy(), atol=1e-6)
    monkeypatch.setattr(scoring, "BLOCK", 7)
    scores, again = score_snippets(network, features, checkpoint.domain)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert again == (None if distance is None else pytest.approx(distance, rel=1e-5))


def test_the_map_points_at_the_planted_patch(tmp_path: Path) -> None:
    store = write_store(tmp_path / "features", videos=64)
    run = trainer(store, tmp_path / "run", scales=(2,), steps=80, videos_per_half=16).run(TrainingWatcher())
    assert (run.stages[-1].last_test_auc or 0) > 0.85
    network = load_checkpoint(run.best).build_network()
    grids = {grid.scale: grid for grid in store.config.geometry.grids}
    hits = []
    for record in store.records("test"):
        if record.video.label:
            masks = compute_contribution_masks(network, Moment.of({2: store.features(record.id, 2)}, 4), grids)
            assert masks[2].shape == (2, 3) and masks[2].max() == 1
            hits.append(masks[2].argmax() == 0)
    assert len(hits) == 16 and np.mean(hits) > 0.75


def test_attention_masks_have_the_shape_of_the_grids(store: Store) -> None:
    network = SSRL(paper_model(D, (1, 2, 4))).eval()
    grids = {grid.scale: grid for grid in store.config.geometry.grids}
    features = {scale: store.features(store.ids()[0], scale) for scale in (1, 2, 4)}
    masks = compute_attention_masks(network, Moment.of(features, 0), grids)
    assert {scale: mask.shape for scale, mask in masks.items()} == {2: (2, 3), 4: (4, 7)}
    without = SSRL(replace(network.config, psr=None)).eval()
    assert compute_attention_masks(without, Moment.of(features, 0), grids) == {}
