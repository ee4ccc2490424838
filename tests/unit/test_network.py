"""The network against the authors' released one, and its properties."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from ssrl.checkpoints import load_checkpoint
from ssrl.commands import import_
from ssrl.errors import UserError
from ssrl.model import relation
from ssrl.model.config import Attention, ModelConfig, RelationConfig
from ssrl.model.network import SSRL, Output
from ssrl.model.recipes import paper_model, released_model, released_training
from ssrl.model.relation import Convolution, NonLocalBlock, RelationNetwork
from ssrl.model.released_weights import load_released
from ssrl.plain import from_plain, to_plain
from ssrl.train.losses import compute_losses
from ssrl.train.stages import warm_start
from tests.parity import parity, released_network

SCORE_TOLERANCE = 1e-5  # float32 sums in another order
LOSS_TOLERANCE = 1e-4  # relative, likewise


@pytest.mark.parametrize("name", ["n6", "n28", "t32"])
def test_the_relation_network_equals_the_released_one(name: str) -> None:
    weights, arrays = parity(f"relation_network_{name}")
    network = RelationNetwork(64, RelationConfig("mean")).eval()
    network.load_state_dict(weights)
    assert (network(arrays["input"]) - arrays["output"]).abs().max() < SCORE_TOLERANCE


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_scores_and_losses_equal_the_released_ones(stage: int) -> None:
    network, arrays, scales = released_network(stage)
    with torch.inference_mode():
        output = network(scales)
    assert (output.scores - arrays["scores"]).abs().max() < SCORE_TOLERANCE
    assert torch.allclose(output.magnitudes, arrays["feature_magnitudes"], rtol=LOSS_TOLERANCE)
    normal, abnormal = (
        Output(output.scores[part], output.features[part], output.crop_scores[part])
        for part in (slice(0, 2), slice(2, 4))
    )
    losses = compute_losses(abnormal, normal, released_training().loss, training=False).floats
    for ours, theirs in (
        (losses["classification"] + losses["magnitude"], "loss_rtfm"),
        (losses["sparsity"], "loss_sparsity"),
        (losses["smoothness"], "loss_smooth"),
        (losses["total"], "loss_total"),
    ):
        assert ours == pytest.approx(arrays[theirs].item(), rel=LOSS_TOLERANCE)


def test_a_released_state_dict_with_odd_names_is_refused_by_name() -> None:
    weights, _ = parity("network_stage2")
    del weights["classfier.fc1.bias"]
    weights["surprise.weight"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"unknown: surprise.weight; missing: classifier.fc1.bias"):
        load_released(SSRL(released_model(64, (1, 2))), weights)


@pytest.mark.parametrize(("scales", "parameters"), [((1,), 24_718_849), ((1, 2, 3, 4), 192_015_105)])
def test_the_released_network_has_as_many_parameters_as_published(scales: tuple[int, ...], parameters: int) -> None:
    with torch.device("meta"):
        network = SSRL(released_model(2048, scales))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("elements", [1, 2, 3, 9])
@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (3, 2), (3, 4), (5, 2)])
def test_a_convolution_as_matrix_products_is_that_of_pytorch(size: int, dilation: int, elements: int) -> None:
    conv = Convolution(6, 4, size, dilation)
    x = torch.randn(2, elements, 6)
    expected = torch.nn.Conv1d.forward(conv, x.transpose(1, 2)).transpose(1, 2)
    assert torch.allclose(conv(x), expected, atol=1e-6)


def test_softmax_attention_is_equation_1_computed_by_hand() -> None:
    block = RelationNetwork(8, RelationConfig()).eval()
    x = torch.randn(1, 3, 8)
    reduced = block.conv_4(x)[0]  # (3, 2)
    theta, phi = (
        reduced @ layer.weight[:, :, 0].T + layer.bias for layer in (block.non_local.theta, block.non_local.phi)
    )
    expected = torch.stack([torch.stack([(a * b).sum() for b in phi]).exp() for a in theta])
    expected = expected / expected.sum(dim=1, keepdim=True)
    assert torch.allclose(block.attention(x)[0], expected, atol=1e-6)


def random_scales(config: ModelConfig, videos: int = 2, snippets: int = 5) -> dict[int, torch.Tensor]:
    patches = {1: 1, 2: 6, 3: 15, 4: 28}
    return {scale: torch.randn(videos, snippets, patches[scale], config.feature_dim) for scale in config.scales}


@pytest.mark.parametrize("stage", [2, 3, 4])
def test_a_stage_whose_new_branch_gives_zero_equals_the_stage_before(stage: int) -> None:
    full = paper_model(16, tuple(range(1, stage + 1)))
    before, after = SSRL(full.with_scales(full.scales[:-1])).eval(), SSRL(full).eval()
    new = warm_start(after, before.state_dict())
    assert new and all(f".{stage}." in name for name in new)
    after.get_parameter(f"mpa.{stage}.linear.weight").data.zero_()
    after.get_parameter(f"mpa.{stage}.linear.bias").data.zero_()
    scales = random_scales(full)
    with torch.inference_mode():
        assert torch.equal(after(scales).scores, before(scales).scores)


def test_warm_start_brings_the_weights_and_changes_the_result() -> None:
    full = paper_model(16, (1, 2))
    before = SSRL(full.with_scales((1,))).eval()
    fresh = SSRL(full).eval()
    scales = random_scales(full)
    with torch.inference_mode():
        cold = fresh(scales).scores
        warm_start(fresh, before.state_dict())
        warm = fresh(scales).scores
    name = "vtr.conv_1.0.weight"
    assert torch.equal(fresh.get_parameter(name), before.get_parameter(name))
    assert not torch.allclose(cold, warm)


def test_warm_start_refuses_weights_without_a_place() -> None:
    with pytest.raises(UserError, match="no place"):
        warm_start(SSRL(paper_model(16, (1,))), SSRL(paper_model(16, (1, 2))).state_dict())


@pytest.mark.parametrize("crops", [1, 10])
def test_scores_are_the_mean_over_crops(crops: int) -> None:
    config = paper_model(16, (1, 2))
    network = SSRL(config).eval()
    scales = {1: torch.randn(1, 4, crops, 16), 2: torch.randn(1, 4, 6, 16)}
    with torch.inference_mode():
        whole = network(scales).scores
        alone = [network({1: scales[1][:, :, i : i + 1], 2: scales[2]}).scores for i in range(crops)]
    assert torch.allclose(whole, torch.stack(alone).mean(dim=0), atol=1e-6)


def test_features_of_another_width_are_refused_with_both_numbers() -> None:
    network = SSRL(paper_model(16, (1,)))
    with pytest.raises(UserError, match=r"D = 24.*D = 16"):
        network({1: torch.randn(1, 4, 1, 24)})


def test_a_model_survives_its_json() -> None:
    for model in (paper_model(64, (1, 3)), released_model(64, (1, 2, 3, 4))):
        assert from_plain(ModelConfig, to_plain(model), "a test") == model


@pytest.mark.parametrize("stage", [1, 4])
def test_a_released_checkpoint_is_imported_whole(stage: int, tmp_path: Path) -> None:
    weights, arrays = parity(f"network_stage{stage}")
    torch.save({f"module.{name}": value for name, value in weights.items()}, tmp_path / "released.pkl")
    arguments = ["checkpoint", str(tmp_path / "released.pkl"), "--out", str(tmp_path / "best.pt")]
    outcome = CliRunner().invoke(import_.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    _, _, scales = released_network(stage)
    with torch.inference_mode():
        scores = load_checkpoint(tmp_path / "best.pt").build_network()(scales).scores
    assert (scores - arrays["scores"]).abs().max() < SCORE_TOLERANCE


def test_what_is_no_released_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pkl")
    arguments = ["checkpoint", str(tmp_path / "other.pkl"), "--out", str(tmp_path / "best.pt")]
    outcome = CliRunner().invoke(import_.main, arguments)
    assert outcome.exit_code == 1 and "no classifier" in outcome.stderr


# Long videos


@pytest.mark.parametrize("attention", ["softmax", "mean"])
@pytest.mark.parametrize(("dilated", "non_local"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("elements", [11, 16, 23, 48])
def test_a_long_sequence_is_related_block_by_block(
    attention: Attention, dilated: bool, non_local: bool, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = RelationNetwork(16, RelationConfig(attention, dilated, non_local))
    for module in network.modules():  # none may be without effect
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
    x = torch.randn(2, elements, 16)
    expected = network.eval()(x)
    monkeypatch.setattr(relation, "BLOCK", 8)
    monkeypatch.setattr(relation, "LONG", 10)
    maps = []
    weigh = NonLocalBlock._weigh

    def keep(*given: Any) -> torch.Tensor:
        maps.append(weigh(*given))
        return maps[-1]

    monkeypatch.setattr(NonLocalBlock, "_weigh", keep)
    torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-5)
    assert all(each.shape[1] <= 8 + 2 * relation.REACH for each in maps)
    assert len(maps) == non_local * -(-elements // 8)
