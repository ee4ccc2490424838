"""The arrangement for CPUs is the same function of the same weights."""

from __future__ import annotations

import pytest
import torch

from ssrl.extract.encoders import load_encoder


@pytest.mark.parametrize("size", [(8, 32, 48), (4, 30, 35), (16, 33, 31)], ids=str)
def test_features_are_those_of_the_network(size: tuple[int, int, int]) -> None:
    encoder = load_encoder("i3d_r50", "random:0")
    assert encoder.on_cpu is not None
    cubes = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in encoder.network.state_dict().items()}
    with torch.inference_mode():
        expected = encoder.network(cubes)
        found = encoder.on_cpu().eval()(cubes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    assert all(torch.equal(before[name], value) for name, value in encoder.network.state_dict().items())
