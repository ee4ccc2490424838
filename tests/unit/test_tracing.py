"""Contributions traced into the patch."""

import numpy as np
import pytest
import torch

from ssrl.evaluate.heatmaps import combine_traces
from ssrl.extract.encoders import Encoder, load_encoder
from ssrl.extract.snippets import tile
from ssrl.extract.tracing import trace_contributions
from ssrl.geometry import Geometry, Grid
from tests.media import numbered_frames

GEOMETRY = Geometry.with_paper_grids(96, 210)


def make_snippet(top: int, left: int) -> np.ndarray:
    """(16, 96, 210, 3): a bright square that moves to the right over a gray background."""
    frames = np.full((16, 96, 210, 3), 110, np.uint8)
    for index in range(16):
        frames[index, top : top + 10, left + index : left + index + 10] = 230
    return frames


@pytest.mark.parametrize("top, left", [(5, 5), (60, 150), (40, 90)])
def test_the_heat_lies_where_something_moves(top: int, left: int) -> None:
    encoder, snippet = load_encoder("micro3d"), make_snippet(top, left)
    contributions = {grid.scale: encode(encoder, snippet, grid) for grid in GEOMETRY.grids}
    traces = trace_contributions(encoder, snippet, contributions, GEOMETRY.grids)
    assert traces is not None
    for moment, heat in enumerate(combine_traces(traces, 96, 210)):
        row, col = np.unravel_index(heat.argmax(), heat.shape)
        moved = 16 * moment / len(traces[1])
        assert abs(row - (top + 5)) < 12 and left - 8 < col - moved < left + 22


def encode(encoder: Encoder, snippet: np.ndarray, grid: Grid) -> torch.Tensor:
    with torch.no_grad():
        cubes = tile(encoder.prepare(torch.from_numpy(snippet)[None]), grid)
        features: torch.Tensor = encoder.network(cubes.permute(0, 4, 1, 2, 3))
    return features


@pytest.mark.parametrize("name, weights", [("micro3d", None), ("i3d_r50", "random:0")])
def test_cells_share_out_exactly_what_their_feature_contributes(name: str, weights: str | None) -> None:
    encoder = load_encoder(name, weights)
    snippet = np.stack(numbered_frames(16, 96, 210))
    grid = GEOMETRY.grid(2)
    generator = torch.Generator().manual_seed(0)
    contributions = torch.randn(grid.num_patches, encoder.feature_dim, generator=generator)
    traces = trace_contributions(encoder, snippet, {2: contributions}, [grid])
    assert traces is not None
    by_patch = traces[2].reshape(len(traces[2]), grid.rows, -1, grid.cols, traces[2].shape[2] // grid.cols)
    features = encode(encoder, snippet, grid)
    expected = (contributions.clamp(min=0) * (features > 1e-6)).sum(dim=1)
    np.testing.assert_allclose(by_patch.sum(axis=(0, 2, 4)).ravel(), expected.numpy(), rtol=1e-3)


def test_what_contributes_little_is_spread_evenly_over_its_patch() -> None:
    encoder, snippet, grid = load_encoder("micro3d"), make_snippet(5, 5), GEOMETRY.grid(2)
    features = encode(encoder, snippet, grid)
    amounts = torch.tensor([1.0, 0.09, 0.0, -0.09, 0.0, 0.05])  # by patch, in parts of the first one's
    contributions = features[0].repeat(6, 1) * amounts[:, None]
    traces = trace_contributions(encoder, snippet, {2: contributions}, [grid], signed=True)
    assert traces is not None
    f, height, width = traces[2].shape
    by_patch = traces[2].reshape(f, 2, height // 2, 3, width // 3).transpose(1, 3, 0, 2, 4).reshape(6, -1)
    spread = np.ptp(by_patch, axis=1)
    assert spread[0] > 0 and not spread[1:].any()
    np.testing.assert_allclose(by_patch.sum(axis=1), contributions.sum(dim=1), rtol=1e-3)


def test_what_contributes_nothing_has_no_heat_and_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, snippet, grid = load_encoder("micro3d"), make_snippet(5, 5), GEOMETRY.grid(2)
    contributions, encode_cells, counts = -encode(encoder, snippet, grid), encoder.network.encode_cells, []

    def count(cubes: torch.Tensor) -> torch.Tensor:
        counts.append(len(cubes))
        cells: torch.Tensor = encode_cells(cubes)  # type: ignore[operator]
        return cells

    monkeypatch.setattr(encoder.network, "encode_cells", count)
    traces = trace_contributions(encoder, snippet, {2: contributions}, [grid])
    assert traces is not None and not traces[2].any()
    assert counts == [1]  # to know the number of cells


def test_features_that_are_no_pooled_cells_cannot_be_traced() -> None:
    encoder = load_encoder("swin3d_t", "random:0")
    assert trace_contributions(encoder, make_snippet(5, 5), {}, []) is None


def test_scales_add_up_and_each_moment_has_its_own_maximum() -> None:
    one, four = np.zeros((1, 2, 2), np.float32), np.zeros((2, 4, 4), np.float32)
    one[0, 0, 0] = 1.0  # spread over a quarter of the frame
    four[1, 3, 3] = 1.0
    heat = combine_traces({1: one, 2: four}, 40, 40)
    assert heat.shape == (2, 40, 40) and heat.max(axis=(1, 2)).tolist() == [1, 1]
    assert heat[0, :20, :20].max() == 1 and heat[1, 30:, 30:].max() == 1
    assert not combine_traces({1: np.zeros((1, 2, 2), np.float32)}, 8, 8).any()
