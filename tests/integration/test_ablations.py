"""The paper's ablations, as options of ssrl-train: what they take away, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from ssrl.checkpoints import load_checkpoint
from ssrl.commands import evaluate, train
from ssrl.errors import UserError
from ssrl.model.build import build_network
from ssrl.model.network import SSRL
from ssrl.model.recipes import RECIPES, ablate, paper_model
from ssrl.store.reader import Store
from tests.stores import D, write_store

SCALES = (1, 2, 3)
PATCHES = {1: 1, 2: 6, 3: 15}
ABLATIONS = ("share_psr", "no_psr", "no_dilated", "no_non_local")
TOLERANCE = 1e-4  # float32 sums in another order


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("features") / "planted")


def full_network() -> SSRL:
    """The whole network with every parameter and statistic at random, so that no part of it is without effect."""
    torch.manual_seed(0)
    network = SSRL(paper_model(D, SCALES)).eval()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if name.endswith(("running_var", "std")) else value.normal_(std=0.3)
    return network


def features() -> dict[int, torch.Tensor]:
    return {scale: torch.randn(2, 5, PATCHES[scale], D) for scale in SCALES}


def logits(network: SSRL, scales: dict[int, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return network.logits(scales)


def ablated_network(full: SSRL, weights: dict[str, torch.Tensor], **options: bool) -> SSRL:
    network = SSRL(ablate(full.config, **options)).eval()
    network.load_state_dict(weights)
    return network


def test_without_psr_is_the_network_whose_psr_adds_nothing() -> None:
    full, scales = full_network(), features()
    weights = {name: value for name, value in full.state_dict().items() if not name.startswith("psr.")}
    without = ablated_network(full, weights, no_psr=True)
    assert not torch.allclose(logits(without, scales), logits(full, scales), atol=1e-3)
    for scale in full.psr:
        for part in ("weight", "bias"):  # of the last step before the residual connection
            full.get_parameter(f"psr.{scale}.conv_5.2.{part}").data.zero_()
    torch.testing.assert_close(logits(without, scales), logits(full, scales), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("option", "gone", "left"),
    [
        ("no_dilated", ("conv_1.", "conv_2.", "conv_3."), slice(3 * D // 4, D)),
        ("no_non_local", ("conv_4.", "non_local."), slice(0, 3 * D // 4)),
    ],
)
def test_without_a_sub_network_is_the_network_that_does_not_listen_to_it(
    option: str, gone: tuple[str, ...], left: slice
) -> None:
    full, scales = full_network(), features()
    heard = torch.zeros(D)
    heard[left] = 1  # channels of the concatenation
    for scale in full.psr:
        full.get_parameter(f"psr.{scale}.conv_5.0.weight").data.mul_(heard[:, None])
    weights = {}
    for name, value in full.state_dict().items():
        if name.startswith("psr.") and any(part in name for part in gone):
            continue
        fuses = name.startswith("psr.") and name.endswith("conv_5.0.weight")
        weights[name] = value[:, left] if fuses else value
    without = ablated_network(full, weights, **{option: True})
    torch.testing.assert_close(logits(without, scales), logits(full, scales), rtol=TOLERANCE, atol=TOLERANCE)


def test_a_shared_psr_is_the_network_whose_psrs_are_equal() -> None:
    full, scales = full_network(), features()
    full.psr["3"].load_state_dict(full.psr["2"].state_dict())
    renamed = {name.replace("psr.2.", "psr.shared."): value for name, value in full.state_dict().items()}
    weights = {name: value for name, value in renamed.items() if not name.startswith("psr.3.")}
    assert torch.equal(logits(ablated_network(full, weights, share_psr=True), scales), logits(full, scales))


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "linear"])
@pytest.mark.parametrize("option", ABLATIONS)
def test_only_psr_changes(recipe: str, option: str) -> None:
    model = RECIPES[recipe].model(D, SCALES)
    before, after = (
        {
            name: value.shape
            for name, value in build_network(config).state_dict().items()
            if not {"psr", "related"} & set(name.split("."))
        }
        for config in (model, ablate(model, **{option: True}))
    )
    assert before == after and ablate(model, **{option: True}).vtr == model.vtr
    assert ablate(model) == model


def test_a_linear_model_has_no_psr_to_change() -> None:
    with pytest.raises(UserError, match=r"linear model has no PSR for --no-psr"):
        ablate(RECIPES["linear"].model(D, SCALES), no_psr=True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"no_psr": True, "share_psr": True}, r"--no-psr .*--share-psr"),
        ({"no_psr": True, "no_dilated": True}, r"--no-psr .*--no-dilated"),
        ({"no_psr": True, "no_non_local": True}, r"--no-psr .*--no-non-local"),
        ({"no_dilated": True, "no_non_local": True}, r"--no-dilated and --no-non-local"),
    ],
)
def test_ablations_that_contradict_each_other_are_both_named(options: dict[str, bool], named: str) -> None:
    with pytest.raises(UserError, match=named):
        ablate(paper_model(D, SCALES), **options)


def train_and_evaluate(store: Store, folder: Path, *options: str) -> Result:
    arguments = ["--features", str(store.root), "--steps", "2", "--out", str(folder), *options]
    outcome = CliRunner().invoke(train.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    return CliRunner().invoke(evaluate.main, ["--ckpt", str(folder / "best.pt"), "--report", str(folder / "report")])


@pytest.mark.parametrize("option", ABLATIONS)
def test_the_option_reaches_the_checkpoint(store: Store, tmp_path: Path, option: str) -> None:
    flag = "--" + option.replace("_", "-")
    outcome = train_and_evaluate(store, tmp_path / "run", "--scales", "1,2,3", "--recipe", "paper", flag)
    assert outcome.exit_code == 0, outcome.output
    model = load_checkpoint(tmp_path / "run" / "best.pt").model
    grids = {grid.scale: (grid.rows, grid.cols) for grid in store.config.geometry.grids}
    assert model == ablate(paper_model(D, SCALES, grids), **{option: True})


@pytest.mark.parametrize("scales", ["2", "3", "1,4", "4,1"])
def test_any_choice_of_scales_trains_and_evaluates(store: Store, tmp_path: Path, scales: str) -> None:
    outcome = train_and_evaluate(store, tmp_path / "run", "--scales", scales)
    assert outcome.exit_code == 0, outcome.output
    assert ",".join(map(str, load_checkpoint(tmp_path / "run" / "best.pt").model.scales)) == scales


def test_there_is_no_psr_to_change_without_patches() -> None:
    with pytest.raises(UserError, match="scale 1 has one patch"):
        ablate(paper_model(16, (1,)), share_psr=True)
