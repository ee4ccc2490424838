"""The arrangement for CPUs is the same function of the same weights."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssrl.extract.encoders import Encoder, load_encoder
from ssrl.extract.encoders.i3d_cpu import STEM_FIELD, CpuI3D
from ssrl.extract.encoders.shared_stem import run_on_patches
from ssrl.extract.patch_encoder import SnippetEncoder
from ssrl.extract.snippets import tile
from ssrl.geometry import Geometry

HALF_SIZE = Geometry.with_paper_grids(240, 420, 4)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("i3d_r50", "random:0")


@pytest.fixture(scope="module")
def on_cpu(encoder: Encoder) -> CpuI3D:
    assert encoder.on_cpu is not None
    network = encoder.on_cpu().eval()
    assert isinstance(network, CpuI3D)
    return network


@pytest.mark.parametrize("size", [(8, 32, 48), (4, 30, 35), (16, 33, 31)], ids=str)
def test_features_are_those_of_the_network(encoder: Encoder, on_cpu: CpuI3D, size: tuple[int, int, int]) -> None:
    cubes = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert_near(on_cpu(cubes), encoder.network(cubes))


def test_the_network_itself_stays_as_it_was(encoder: Encoder) -> None:
    before = {name: value.clone() for name, value in encoder.network.state_dict().items()}
    assert encoder.on_cpu is not None
    encoder.on_cpu().to(torch.bfloat16)
    assert all(torch.equal(before[name], value) for name, value in encoder.network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("geometry", [HALF_SIZE, Geometry(60, 90, 4, ((60, 90), (30, 45), (20, 18)))], ids=str)
@pytest.mark.parametrize("scales", [(1, 2, 3), (2, 3), (3,)], ids=str)
def test_grids_together_give_what_each_patch_gives(
    encoder: Encoder, on_cpu: CpuI3D, geometry: Geometry, scales: tuple[int, ...]
) -> None:
    """The second geometry has patches that do not fall on whole strides, and such as are all edge."""
    grids = [geometry.grid(scale) for scale in scales]
    with torch.inference_mode():
        expected = SnippetEncoder(encoder.prepare, encoder.network, grids)(pixels_of(geometry))
        found = SnippetEncoder(encoder.prepare, on_cpu, grids)(pixels_of(geometry))
    for ours, theirs in zip(found, expected, strict=True):
        assert_near(ours, theirs)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_shared_stem_is_that_of_each_patch_to_its_very_edge(encoder: Encoder, on_cpu: CpuI3D, scale: int) -> None:
    grid = HALF_SIZE.grid(scale)
    with torch.inference_mode():
        pixels = encoder.prepare(pixels_of(HALF_SIZE))
        frame = on_cpu._run_stem(pixels.transpose(1, 2))
        shared = run_on_patches(on_cpu._run_stem, STEM_FIELD, pixels, frame, grid)
        assert_near(shared, on_cpu._run_stem(tile(pixels, grid).transpose(1, 2)))


@pytest.mark.slow
def test_a_shared_stem_spares_work(encoder: Encoder, on_cpu: CpuI3D) -> None:
    def flops(*scales: int) -> int:
        grids = [HALF_SIZE.grid(scale) for scale in scales]
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            SnippetEncoder(encoder.prepare, on_cpu, grids)(pixels_of(HALF_SIZE)[:1])
        return int(counter.get_total_flops())

    assert flops(1, 2, 3) < 0.95 * (flops(1) + flops(2) + flops(3))


def pixels_of(geometry: Geometry) -> torch.Tensor:
    size = (2, geometry.frames_per_snippet, geometry.height, geometry.width, 3)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
