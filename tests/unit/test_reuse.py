"""Static-camera saving: what does not change is not encoded again, and what does change is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ssrl.commands.extract import main
from ssrl.extract.encoders import load_encoder
from ssrl.extract.reuse import StaticReuse, average_blocks, estimate_noise, split_windows
from ssrl.extract.runtimes import Runtime, RuntimeSettings
from ssrl.geometry import Geometry
from ssrl.store.reader import Store
from tests.media import write_frames

GEOMETRY = Geometry.with_paper_grids(96, 210)
NOISE = 2.0  # standard deviation in gray levels


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    settings = RuntimeSettings(load_encoder("micro3d"), "torch", torch.device("cpu"), "float32")
    return settings.make_runtimes(GEOMETRY)((1, 2, 3, 4))


def film(num_frames: int, mover: bool, seed: int = 0) -> np.ndarray:
    """(num_frames, 96, 210, 3): a textured wall under sensor noise; a mover crosses the upper left from frame 16 on."""
    generator = np.random.default_rng(seed)
    wall = generator.uniform(60, 180, (1, 96, 210, 3))
    frames = wall + generator.normal(0, NOISE, (num_frames, 96, 210, 3))
    for number in range(16, num_frames if mover else 0):
        frames[number, 4:14, 2 + (number - 16) : 10 + (number - 16)] = 250
    return frames.clip(0, 255).astype(np.uint8)


def test_blocks_are_means_and_lie_in_one_window_of_each_grid() -> None:
    snippet = film(16, mover=False)
    blocks = average_blocks(snippet, GEOMETRY.grids)
    assert blocks.shape == (4, 12, 105, 3)  # 4 frames and 8 x 2 pixels: 8 divides 96, 48, 32, 24, and 2 210, 70, 42, 30
    np.testing.assert_allclose(blocks[1, 2, 3], snippet[4:8, 16:24, 6:8].mean(axis=(0, 1, 2)), rtol=1e-5)


def test_noise_is_that_of_the_sensor_whatever_moves() -> None:
    still, moving = (estimate_noise(average_blocks(film(32, mover)[16:], GEOMETRY.grids)) for mover in (False, True))
    expected = NOISE * np.sqrt(2 / (4 * 8 * 2))  # the difference of two means of 64 values
    assert still == pytest.approx(expected, rel=0.1) and moving == pytest.approx(expected, rel=0.15)


def test_a_still_scene_is_encoded_once(runtime: Runtime) -> None:
    reuse = StaticReuse(runtime)
    frames = film(48, mover=False)
    features = [reuse.encode(frames[16 * t : 16 * t + 16]) for t in range(3)]
    assert reuse.num_reused == 2 * (1 + 6 + 15 + 28)
    for scale in (1, 2, 3, 4):
        assert np.array_equal(features[0][scale], features[2][scale])


def test_what_moves_is_encoded_anew_and_the_rest_is_not(runtime: Runtime) -> None:
    reuse = StaticReuse(runtime)
    frames = film(32, mover=True)
    reuse.encode(frames[:16])
    features = reuse.encode(frames[16:])
    assert reuse.num_reused == (0 + 5 + 14 + 27)  # it stays in the first patch of each grid
    truth = runtime.encode_snippets(frames[None, 16:])
    for scale in (1, 2, 3, 4):
        np.testing.assert_allclose(features[scale][0, 0], truth[scale][0, 0], rtol=1e-4, atol=1e-5)


def test_windows_are_row_major_tiles() -> None:
    numbered = np.arange(2 * 96 * 210).reshape(2, 96, 210, 1)
    tiles = split_windows(numbered, GEOMETRY.grid(2))
    assert tiles.shape == (6, 2, 48, 70, 1)
    assert np.array_equal(tiles[4], numbered[:, 48:, 70:140])


def test_the_store_remembers_that_features_were_reused(tmp_path: Path) -> None:
    write_frames(tmp_path / "still", list(film(40, mover=False)), suffix=".png")
    (tmp_path / "videos.csv").write_text("video,label,split\nstill,0,test\n")
    arguments = ["--dataset", "manifest", "--root", tmp_path, "--manifest", tmp_path / "videos.csv", "--size", "96x210"]
    more = ["--runtime", "torch", "--out", tmp_path / "store"]
    outcome = CliRunner().invoke(main, [*map(str, [*arguments, *more]), "--reuse-static"])
    assert outcome.exit_code == 0 and "patch cubes reused: 100" in outcome.stdout, outcome.output
    store = Store(tmp_path / "store")
    assert (
        store.config.reuse_static and store.record("still").reused_cubes == 100  # of 150
    )  # of 3 snippets x 50; the tail differs
    outcome = CliRunner().invoke(main, [*map(str, [*arguments, *more])])
    assert outcome.exit_code == 1 and "reuse_static: False, not True" in outcome.stderr
