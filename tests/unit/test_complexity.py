"""Parameters and multiply-adds against published figures and another counter (fvcore's)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from fvcore.nn import FlopCountAnalysis
from torchvision.models.video import Swin3D_T_Weights

from ssrl.checkpoints import Checkpoint, FeatureSource, save_checkpoint
from ssrl.commands import evaluate
from ssrl.config import StoreConfig
from ssrl.errors import UserError
from ssrl.extract.encoders import load_encoder
from ssrl.extract.flops import count_encoder_complexity
from ssrl.geometry import Geometry
from ssrl.model.flops import measure_network
from ssrl.model.network import SSRL
from ssrl.model.recipes import ablate, paper_model, released_model
from ssrl.paper_tables.cost import format_count
from tests.stores import other, write_store

RELATION_NETWORK = 23_603_968  # parameters at D = 2048, of the released one
GIGA = 10**9


@pytest.mark.parametrize(
    ("scales", "parameters", "giga_macs"), [((1,), 24_718_849, 7.9), ((1, 2, 3, 4), 192_015_105, 57.7)]
)
def test_the_released_network_counts_as_the_authors_code(
    scales: tuple[int, ...], parameters: int, giga_macs: float
) -> None:
    found = measure_network(released_model(2048, scales), num_segments=32, num_crops=10)
    assert found.parameters == parameters
    assert round(found.macs / GIGA, 1) == giga_macs
    assert found.flops == 2 * found.macs


def test_a_shared_psr_saves_two_of_three_and_no_work() -> None:
    """As in Table 6, whose FLOPs are the same with and without sharing."""
    model = paper_model(2048, (1, 2, 3, 4))
    full, shared = measure_network(model), measure_network(ablate(model, share_psr=True))
    assert full.parameters - shared.parameters == 2 * RELATION_NETWORK
    assert full.macs == shared.macs


def test_the_network_counts_as_fvcore_does() -> None:
    """fvcore counts from a trace of a network that really runs."""
    network = SSRL(paper_model(16, (1, 2))).eval()

    class Traced(torch.nn.Module):
        def forward(self, whole: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = network({1: whole, 2: patches}).scores
            return scores

    traced = Traced()
    traced.add_module("network", network)
    analysis = FlopCountAnalysis(traced, (torch.zeros(1, 32, 1, 16), torch.zeros(1, 32, 6, 16)))
    by_operator = analysis.unsupported_ops_warnings(False).by_operator()
    assert measure_network(network.config).macs == sum(by_operator[name] for name in ("conv", "linear", "matmul"))


def test_i3d_counts_as_fvcore_does() -> None:
    geometry = Geometry(96, 96, 16, ((96, 96), (48, 48)))
    network = load_encoder("i3d_r50", "random:0").network
    macs = 0
    for patches, size in ((1, 96), (4, 48)):
        analysis = FlopCountAnalysis(network, torch.zeros(patches, 3, 16, size, size))
        macs += analysis.unsupported_ops_warnings(False).by_operator()["conv"]
    found = count_encoder_complexity("i3d_r50", geometry, (1, 2))
    assert found.macs == macs
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("scale", "giga_macs"), [(1, 461), (2, 467), (3, 471), (4, 481)])
def test_i3d_at_the_papers_size(scale: int, giga_macs: float) -> None:
    """The figures are fvcore's with batch norms, which make half a per cent and are not in ours."""
    found = count_encoder_complexity("i3d_r50", Geometry(), (scale,))
    assert found.macs / GIGA == pytest.approx(giga_macs, rel=0.006)


def test_swin_counts_as_torchvision_publishes() -> None:
    """Its figures are for 16 frames of 224x224 and with the head, 768 x 400 weights and 400 biases."""
    published = Swin3D_T_Weights.KINETICS400_V1.meta
    found = count_encoder_complexity("swin3d_t", Geometry(224, 224, 16, ((224, 224),)), (1,))
    assert found.parameters == published["num_params"] - 400 * 769
    assert found.macs + 768 * 400 == pytest.approx(published["_ops"] * GIGA, rel=2e-5)


def test_all_scales_cost_the_sum_of_each() -> None:
    each = [count_encoder_complexity("micro3d", Geometry(), (scale,)) for scale in (1, 2, 3, 4)]
    whole = count_encoder_complexity("micro3d", Geometry(), (1, 2, 3, 4))
    assert whole.macs == sum(found.macs for found in each) and whole.parameters == each[0].parameters


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(UserError, match="micro3d"):
        count_encoder_complexity("c3d", Geometry(), (1,))


@pytest.mark.parametrize(
    ("count", "text"),
    [(7, "7"), (1500, "1.5K"), (2 * 10**6, "2.0M"), (57_673_113_600, "57.7G"), (2 * 10**12, "2,000.0G")],
)
def test_quantities_in_words(count: int, text: str) -> None:
    assert format_count(count) == text


def evaluate_complexity(folder: Path, config: StoreConfig | None, *more: str) -> Result:
    model = paper_model(16, (1, 2))
    features = None if config is None else FeatureSource(str(folder / "gone"), config)
    save_checkpoint(folder / "best.pt", Checkpoint(model, SSRL(model).state_dict(), features))
    return CliRunner().invoke(evaluate.main, ["--complexity", "--ckpt", str(folder / "best.pt"), *more])


def test_the_command_needs_the_checkpoint_alone(tmp_path: Path) -> None:
    config = StoreConfig("gone", "micro3d", "embedded", "0" * 64, 16)
    outcome = evaluate_complexity(tmp_path, config)
    assert outcome.exit_code == 0, outcome.output
    network, encoder = measure_network(paper_model(16, (1, 2))), count_encoder_complexity("micro3d", Geometry(), (1, 2))
    for expected in (
        f"{network.parameters:,}",
        format_count(network.flops),
        f"{encoder.parameters:,}",
        format_count(encoder.macs),
        format_count(32 * encoder.flops),
        "186.9G",
        "386.2G",
        "214.6G",
    ):
        assert expected in outcome.stdout


def test_crops_of_the_store_are_counted(tmp_path: Path) -> None:
    config = StoreConfig("gone", "released", "none", "0" * 64, 16, num_crops=10)
    outcome = evaluate_complexity(tmp_path, config)
    assert format_count(measure_network(paper_model(16, (1, 2)), 32, 10).macs) in outcome.stdout
    assert "10 crops" in outcome.stdout


def test_an_encoder_that_we_do_not_have_is_not_known(tmp_path: Path) -> None:
    assert "unknown" in evaluate_complexity(tmp_path, None).stdout
    store = write_store(tmp_path / "store", 4, other(encoder="somebody's"))
    outcome = evaluate_complexity(tmp_path, None, "--features", str(store.root))
    assert "somebody's" in outcome.stdout and "unknown" in outcome.stdout


def test_nothing_is_measured_so_nothing_can_be_written(tmp_path: Path) -> None:
    outcome = evaluate_complexity(tmp_path, None, "--json", str(tmp_path / "m.json"))
    assert outcome.exit_code == 2 and "--json" in outcome.stderr
