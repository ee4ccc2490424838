"""micro3d and its pretraining: known pictures in, what must follow out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssrl.errors import UserError
from ssrl.extract.encoders.micro3d import (
    FEATURE_DIM,
    KINDS,
    NEIGHBORHOODS,
    NUM_CODES,
    PACE_EDGES,
    SPEED_EDGES,
    Micro3D,
    compute_area_weights,
    compute_codes,
    load_micro3d,
    pool_peaks,
    shrink,
    to_gray,
)
from ssrl.extract.micro3d_pretraining.clips import STILL, draw_clip
from ssrl.extract.micro3d_pretraining.objective import Batch, compute_accuracies
from ssrl.extract.micro3d_pretraining.training import PretrainConfig, draw_clips, pretrain


@pytest.fixture(scope="module")
def model() -> Micro3D:
    return load_micro3d()


def still(height: int, width: int, frames: int = 16) -> torch.Tensor:
    """(1, 1, F, h, w): a ramp that does not move."""
    picture = torch.linspace(0.2, 0.8, width).expand(height, width)
    return picture.expand(1, 1, frames, height, width).clone()


def with_square(speed: int, side: int = 16, size: int = 120) -> torch.Tensor:
    """(1, 1, 16, size, size): a dark square that crosses a still ramp by `speed` pixels a frame."""
    cube = still(size, size)
    for frame in range(16):
        left = 4 + speed * frame
        cube[0, 0, frame, 50 : 50 + side, left : left + side] = 0.05
    return cube


def encode(model: Micro3D, cubes: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        features: torch.Tensor = model(cubes)
    return features


def test_gray_is_the_luma_of_bt601() -> None:
    colors = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=torch.uint8)
    levels = to_gray(colors.view(1, 2, 2, 3))
    assert levels.shape == (1, 2, 2, 1)
    torch.testing.assert_close(levels.flatten(), torch.tensor([0.299, 0.587, 0.114, 1.0]))


def test_area_weights_by_hand() -> None:
    torch.testing.assert_close(compute_area_weights(3, 2), torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]))


@pytest.mark.parametrize(
    ("window", "small"),
    [
        ((480, 840), (60, 105)),
        ((240, 280), (60, 70)),
        ((160, 168), (60, 63)),
        ((120, 120), (60, 60)),
        ((16, 20), (16, 20)),
    ],
)
def test_shrinking_agrees_with_pytorch_where_the_factor_is_whole(
    window: tuple[int, int], small: tuple[int, int]
) -> None:
    cube = torch.rand(1, 2, *window, generator=torch.Generator().manual_seed(0))
    shrunk = shrink(cube)
    assert shrunk.shape[-2:] == small
    if window[0] % small[0] == 0 and window[1] % small[1] == 0:
        torch.testing.assert_close(shrunk, torch.nn.functional.interpolate(cube, size=small, mode="area"))
    torch.testing.assert_close(shrunk.mean(), cube.mean())


@pytest.mark.parametrize(
    "shape",
    [(16, 480, 840), (16, 240, 280), (16, 160, 168), (16, 120, 120), (4, 16, 16), (9, 17, 40)],
)
def test_any_size_gives_one_finite_vector(model: Micro3D, shape: tuple[int, int, int]) -> None:
    cubes = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1))
    features = encode(model, cubes)
    assert features.shape == (2, FEATURE_DIM)
    assert torch.isfinite(features).all()


def test_codes_are_joint_probabilities() -> None:
    logits = tuple(torch.randn(2, n, 3, 4, 5, generator=torch.Generator().manual_seed(n)) for n in (6, 7, 4, 6))
    found = compute_codes(logits)
    assert found.shape == (2, NUM_CODES, 3, 4, 5)
    moves = 1 - logits[0].softmax(dim=1)[:, 0]
    torch.testing.assert_close(found[:, : len(KINDS)].sum(dim=1), moves)
    # seven groups, each of which shares out the probability that something moves
    torch.testing.assert_close(found.sum(dim=1), 7 * moves)


def test_peaks_find_one_cell_among_many() -> None:
    cells = torch.zeros(1, NUM_CODES, 4, 15, 15)
    cells[0, 3, 2, 7, 7] = 1.0
    expected = torch.zeros(1, FEATURE_DIM)
    for index, size in enumerate(NEIGHBORHOODS):
        expected[0, index * NUM_CODES + 3] = 1 / np.prod(size)
    torch.testing.assert_close(pool_peaks(cells), expected)


def test_a_still_cube_gives_the_same_features_whatever_it_shows(model: Micro3D) -> None:
    bright = encode(model, still(120, 120) + 0.15)
    flat = encode(model, torch.full((1, 1, 16, 120, 120), 0.3))
    torch.testing.assert_close(bright, flat, rtol=0, atol=1e-4)


def test_a_cube_does_not_depend_on_its_neighbors_in_the_batch(model: Micro3D) -> None:
    cubes = torch.cat([with_square(1), with_square(4), still(120, 120)])
    together = encode(model, cubes)
    alone = torch.cat([encode(model, cube[None]) for cube in cubes])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_small_mover_raises_its_codes(model: Micro3D) -> None:
    moving = encode(model, with_square(4))[:, : len(KINDS)].sum()
    nothing = encode(model, still(120, 120))[:, : len(KINDS)].sum()
    assert moving > 0.5 > nothing


def test_the_embedded_weights_read_speed(model: Micro3D) -> None:
    """Squares of 1 to 6 pixels a frame are shrunk by 2: the expected speed class must rise with the speed."""
    means = []
    for speed in (1, 2, 4, 6):
        with torch.inference_mode():
            kind, rate, *_ = model.predict_cells(shrink(with_square(speed)[:, 0]))
        moves = 1 - kind.softmax(dim=1)[:, 0]
        classes = (rate.softmax(dim=1) * torch.arange(rate.shape[1]).view(1, -1, 1, 1, 1)).sum(dim=1)
        means.append(((classes * moves).sum() / moves.sum()).item())
    assert means == sorted(means)
    assert means[-1] - means[0] > 1


def test_the_embedded_weights_know_clips_they_were_not_trained_on(model: Micro3D) -> None:
    """Clips of another series. Chance is about one in five for the kind, one in seven for the speed."""
    clips = Batch.from_clips([draw_clip(seed=1234, index=index) for index in range(48)])
    with torch.inference_mode():
        found = compute_accuracies(model.predict_cells(clips.frames / 255), clips.targets)
    assert found["moves"] > 0.93
    assert found["kind"] > 0.45
    assert found["speed"] > 0.55


def test_bfloat16_convolutions_stay_near_float32(model: Micro3D) -> None:
    exact = encode(model, with_square(3))
    rough = load_micro3d()
    rough.trunk.bfloat16()
    rough.readout.bfloat16()
    difference = (encode(rough, with_square(3)) - exact).abs()
    assert difference.max() < 0.1  # probabilities; bfloat16 keeps eight bits through four layers
    assert difference.mean() < 0.01


def test_a_clip_is_the_same_each_time_and_another_elsewhere() -> None:
    first, again, other = draw_clip(5, 3), draw_clip(5, 3), draw_clip(5, 4)
    assert first.frames.dtype == np.uint8
    assert first.frames.shape == (16, 60, 60)
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.kind, again.kind)
    assert not np.array_equal(first.frames, other.frames)


def test_targets_lie_where_pixels_change() -> None:
    """Over many clips, pixels of moving cells change more than those of still cells."""
    changes: dict[bool, list[float]] = {True: [], False: []}
    for index in range(30):
        clip = draw_clip(11, index)
        spread = clip.frames.astype(float).reshape(4, 4, 15, 4, 15, 4).std(axis=1).mean(axis=(2, 4))
        for moving in (True, False):
            chosen = (clip.kind != STILL) == moving
            changes[moving] += spread[chosen].tolist()
    assert np.median(changes[True]) > 2 * np.median(changes[False])


def test_classes_follow_the_edges() -> None:
    clip = next(clip for clip in (draw_clip(2, i) for i in range(20)) if (clip.kind != STILL).any())
    batch = Batch.from_clips([clip])
    moving = clip.kind != STILL
    speed = clip.speed[moving][0]
    pace = speed / clip.height[moving][0]
    targets = batch.targets[0][:, torch.from_numpy(moving)][:, 0]
    assert targets[1] == sum(speed >= edge for edge in SPEED_EDGES)
    assert targets[3] == sum(pace >= edge for edge in PACE_EDGES)


@pytest.mark.slow
def test_pretraining_is_repeatable_and_learns(tmp_path: Path) -> None:
    config = PretrainConfig(num_clips=48, num_held_out=8, batch_size=8, steps=40, workers=1)
    found = pretrain(config, tmp_path / "a.pt")
    pretrain(config, tmp_path / "b.pt")
    first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("a.pt", "b.pt"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    load_micro3d(tmp_path / "a.pt")
    assert found["moves"] > 0.6


def test_workers_do_not_change_the_clips() -> None:
    one, two = draw_clips(7, 6, workers=1), draw_clips(7, 6, workers=2)
    assert torch.equal(one.frames, two.frames)
    assert torch.equal(one.targets, two.targets)


def test_refuses_pretraining_without_clips() -> None:
    with pytest.raises(UserError, match="needs clips"):
        PretrainConfig(num_clips=0)


def test_the_command_shows_its_help() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "ssrl.extract.micro3d_pretraining", "--help"], capture_output=True, text=True
    )
    assert told.returncode == 0
    assert "--out" in told.stdout
