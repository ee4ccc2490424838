"""How a video is cut: every pixel and every frame exactly once."""

import json

import numpy as np
import pytest
import torch

from ssrl.errors import UserError
from ssrl.extract.snippets import fill_snippets, resize, tile
from ssrl.geometry import PAPER_WINDOWS, Geometry
from ssrl.plain import from_plain, to_plain

SIZES = [(480, 840), (240, 420), (96, 210)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_tiles_cover_each_pixel_once_and_row_by_row(height: int, width: int) -> None:
    geometry = Geometry.with_paper_grids(height, width)
    numbered = torch.arange(2 * 2 * height * width).view(2, 2, height, width, 1)  # two snippets of two frames
    for grid in geometry.grids:
        cubes = tile(numbered, grid)
        assert cubes.shape == (2 * grid.num_patches, 2, grid.window_height, grid.window_width, 1)
        assert torch.equal(cubes.flatten().sort().values, numbered.flatten())
        for index, cube in enumerate(cubes):
            snippet, patch = divmod(index, grid.num_patches)
            row, col = divmod(patch, grid.cols)
            rows = slice(row * grid.window_height, (row + 1) * grid.window_height)
            columns = slice(col * grid.window_width, (col + 1) * grid.window_width)
            assert torch.equal(cube, numbered[snippet, :, rows, columns])


def test_the_paper_has_1_6_15_and_28_patches() -> None:
    assert Geometry().windows == PAPER_WINDOWS
    assert [grid.num_patches for grid in Geometry().grids] == [1, 6, 15, 28]
    assert [(grid.rows, grid.cols) for grid in Geometry().grids] == [(1, 1), (2, 3), (3, 5), (4, 7)]


@pytest.mark.parametrize("num_frames", [1, 15, 16, 17, 31, 32, 33, 180])
@pytest.mark.parametrize("length", [8, 16])
def test_snippets_hold_each_frame_once(num_frames: int, length: int) -> None:
    geometry = Geometry.with_paper_grids(96, 210, length)
    spans = [geometry.frame_span(t, num_frames) for t in range(geometry.num_snippets(num_frames))]
    frames = [frame for start, stop in spans for frame in range(start, stop)]
    assert frames == list(range(num_frames))
    assert all(geometry.to_snippet(frame) == t for t, (start, stop) in enumerate(spans) for frame in range(start, stop))


@pytest.mark.parametrize("num_frames", [1, 15, 16, 17, 40])
def test_the_tail_repeats_the_last_frame(num_frames: int) -> None:
    geometry = Geometry.with_paper_grids(96, 210)
    frames = [np.full((96, 210, 3), number, np.uint8) for number in range(num_frames)]
    slots = np.full((3, 16, 96, 210, 3), 255, np.uint8)
    filled = list(fill_snippets(iter(frames), geometry, iter(slots)))
    assert filled == [stop - start for start, stop in (geometry.frame_span(t, num_frames) for t in range(len(filled)))]
    seen = slots[: len(filled), :, 0, 0, 0].flatten().tolist()
    assert seen == [min(frame, num_frames - 1) for frame in range(16 * len(filled))]


def test_resizing_is_bilinear() -> None:
    ramp = np.tile(np.arange(0, 200, 20, dtype=np.uint8)[None, :, None], (4, 1, 3))  # (4, 10, 3)
    wider = resize(ramp, 4, 20)
    assert wider.shape == (4, 20, 3)
    assert wider.flags.c_contiguous  # else filling a slot takes longer than resizing
    expected = np.clip((np.arange(20) + 0.5) / 2 - 0.5, 0, 9) * 20  # half-pixel centers
    assert np.abs(wider[0, :, 0] - expected).max() <= 1  # rounding to whole levels


@pytest.mark.parametrize(("height", "width", "message"), [(100, 840, r"2x3|3x5|4x7"), (480, 850, r"480x850")])
def test_a_grid_that_does_not_fit_is_refused_with_the_numbers(height: int, width: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Geometry.with_paper_grids(height, width)


def test_windows_that_do_not_tile_are_refused_with_the_numbers() -> None:
    with pytest.raises(UserError, match=r"100x100.*480 / 100"):
        Geometry(windows=((480, 840), (100, 100)))


def test_a_geometry_survives_its_json() -> None:
    geometry = Geometry.with_paper_grids(96, 210, 8)
    assert from_plain(Geometry, json.loads(json.dumps(to_plain(geometry))), "a test") == geometry
