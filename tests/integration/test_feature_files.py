"""Features as people have them: axes in any order, files per crop, and files that are not as the others."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ssrl.commands import import_
from ssrl.store.reader import Store

D, C = 16, 5
LENGTHS = (7, 3, 12, 9)  # rows of the videos
ORDERS_2 = ("time,features", "features,time")
ORDERS_3 = tuple(map(",".join, permutations(("time", "crops", "features"))))


def make_array(num_rows: int, seed: int, crops: int | None = C, width: int = D) -> np.ndarray:
    shape = (num_rows, width) if crops is None else (num_rows, crops, width)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def turn(array: np.ndarray, order: str) -> np.ndarray:
    """Turn (T, C, D) or (T, D) into the order of axes."""
    names = ("time", "features") if array.ndim == 2 else ("time", "crops", "features")
    return array.transpose([names.index(name) for name in order.split(",")])


def import_arrays(
    folder: Path, arrays: Mapping[str, np.ndarray], *options: str, num_frames: Mapping[str, int] | None = None
) -> Result:
    """Save and import arrays; "v__0" is the first crop of v."""
    root = folder / "arrays"
    root.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(root / f"{name}.npy", array)
    videos = list(dict.fromkeys(name.partition("__")[0] for name in arrays))
    rows = [f"{video},{i % 2},train,{(num_frames or {}).get(video, '')}" for i, video in enumerate(videos)]
    (folder / "videos.csv").write_text("\n".join(["video,label,split,num_frames", *rows, ""]))
    arguments = ("features", "--layout", "npy", "--dataset", "manifest", "--manifest", folder / "videos.csv")
    folders = ("--root", root, "--out", folder / "store")
    return CliRunner().invoke(import_.main, [str(argument) for argument in (*arguments, *folders, *options)])


def check(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that the store holds these arrays (T, C, D)."""
    store = Store(folder / "store")
    assert store.ids() == sorted(arrays)
    for name, array in arrays.items():
        expected = array if array.ndim == 3 else array[:, None]
        np.testing.assert_array_equal(store.features(name, 1), expected, strict=False)


# The axes tell: the lengths of the videos differ


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("order", [*ORDERS_2, *ORDERS_3])
def test_axes_are_inferred_from_all_files(tmp_path: Path, order: str, dtype: str) -> None:
    crops = C if "crops" in order else None
    arrays = {f"v{i}": make_array(length, i, crops).astype(dtype) for i, length in enumerate(LENGTHS)}
    outcome = import_arrays(tmp_path, {name: turn(array, order) for name, array in arrays.items()})
    assert outcome.exit_code == 0, outcome.output
    sizes = {"time": "T", "crops": str(C), "features": str(D)}
    assert f"{order} ({' x '.join(sizes[name] for name in order.split(','))})" in outcome.stderr
    check(tmp_path, {name: array.astype(np.float32) for name, array in arrays.items()})


@pytest.mark.parametrize("order", [*ORDERS_2, *ORDERS_3])
def test_axes_can_be_given(tmp_path: Path, order: str) -> None:
    array = make_array(20, 0, C if "crops" in order else None)
    outcome = import_arrays(tmp_path, {"v": turn(array, order)}, "--axes", order)
    assert outcome.exit_code == 0, outcome.output
    check(tmp_path, {"v": array})


@pytest.mark.parametrize("order", ["time,crops,features", "crops,time,features"])
def test_numbers_of_frames_tell_the_axes_of_equal_shapes(tmp_path: Path, order: str) -> None:
    arrays = {f"v{i}": make_array(7, i) for i in range(3)}
    turned = {name: turn(array, order) for name, array in arrays.items()}
    outcome = import_arrays(tmp_path, turned, num_frames=dict.fromkeys(arrays, 7 * 16 - 3))
    assert outcome.exit_code == 0, outcome.output
    check(tmp_path, arrays)


def test_what_a_store_holds_tells_the_axes_of_what_is_added(tmp_path: Path) -> None:
    arrays = {f"v{i}": make_array(length, i) for i, length in enumerate(LENGTHS)}
    assert import_arrays(tmp_path, arrays).exit_code == 0
    arrays["late"] = make_array(10, 9)
    for name in LENGTHS[1:]:
        (tmp_path / "arrays" / f"v{name}.npy").unlink(missing_ok=True)
    outcome = import_arrays(tmp_path, {**arrays, "late": turn(arrays["late"], "time,crops,features")})
    assert outcome.exit_code == 0, outcome.output
    check(tmp_path, arrays)


@pytest.mark.parametrize("folder", ["f", "f_32"])
def test_the_name_of_a_folder_does_not_tell_the_axes(tmp_path: Path, folder: str) -> None:
    outcome = import_arrays(tmp_path / folder, {f"v{i}": np.ones((10, 32, 64), np.float32) for i in range(3)})
    assert outcome.exit_code == 1 and not (tmp_path / folder / "store").exists()
    assert "--axes time,crops,features (T = 10, 32 crops, D = 64)" in outcome.stderr
    assert "--axes crops,time,features (T = 32, 10 crops, D = 64)" in outcome.stderr


@pytest.mark.parametrize(
    ("shape", "readings"),
    [
        ((64, 9), ("time,features (T = 64, 1 crops, D = 9)", "features,time (T = 9, 1 crops, D = 64)")),
        ((16, 16), ("time,features", "features,time")),
        ((5, 5, 16), ("time,crops,features", "crops,time,features")),
        ((1, 12, 16), ("time,crops,features (T = 1, 12 crops", "crops,time,features (T = 12, 1 crops")),
        ((12, 1, 16), ("time,crops,features (T = 12, 1 crops", "crops,time,features (T = 1, 12 crops")),
    ],
)
def test_axes_that_do_not_tell_are_asked_for(tmp_path: Path, shape: tuple[int, ...], readings: tuple[str, ...]) -> None:
    outcome = import_arrays(tmp_path, {f"v{i}": np.ones(shape, np.float32) for i in range(3)})
    assert outcome.exit_code == 1 and not (tmp_path / "store").exists()
    assert all(f"--axes {reading}" in outcome.stderr for reading in readings), outcome.stderr


def test_more_features_than_segments_are_read_as_is_usual(tmp_path: Path) -> None:
    arrays = {f"v{i}": make_array(8, i, crops=None, width=64) for i in range(3)}
    outcome = import_arrays(tmp_path, arrays, "--rows", "segments")
    assert outcome.exit_code == 0 and "arrays read as time,features (T x 64)" in outcome.stderr
    check(tmp_path, arrays)


@pytest.mark.parametrize("axes", ["features", "time,time", "time,crops", "T,D", "time,crops,features,time", ","])
def test_names_of_axes_are_checked(tmp_path: Path, axes: str) -> None:
    outcome = import_arrays(tmp_path, {"v": make_array(7, 0)}, "--axes", axes)
    assert outcome.exit_code == 2 and "crops,time,features" in outcome.stderr


# Files that are not as the others


@pytest.mark.parametrize("place", [0, 3, 7])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (make_array(6, 0, C, D + 1), f"has D = {D + 1}, but the store has D = {D}"),
        (make_array(6, 0, C + 1), f"has {C + 1} crops, but the store has {C}"),
        (turn(make_array(6, 0), "features,time,crops"), "all videos must match"),
        (np.ones(6, np.float32), "has shape (6,)"),
        (np.ones((2, 3, 4, 5), np.float32), "has shape (2, 3, 4, 5)"),
        (np.ones((0, C, D), np.float32), f"has shape (0, {C}, {D})"),
        (np.ones((6, C, D), np.int64), "holds int64"),
        (np.full((6, C, D), np.nan, np.float32), "not finite"),
        (np.full((6, C, D), 1e39), "not finite"),
    ],
)
def test_a_file_unlike_the_others_is_named_and_the_others_are_imported(
    tmp_path: Path, wrong: np.ndarray, reason: str, place: int
) -> None:
    arrays = {f"v{i}": make_array(4 + i, i) for i in range(8)}
    outcome = import_arrays(tmp_path, {**arrays, f"v{place}": wrong})
    assert outcome.exit_code == 1 and f"failed: v{place}: " in outcome.stdout and reason in outcome.stdout
    assert "7 videos imported" in outcome.stdout and "Traceback" not in outcome.output
    del arrays[f"v{place}"]
    check(tmp_path, arrays)


def test_as_many_files_of_one_kind_as_of_the_other_are_refused(tmp_path: Path) -> None:
    arrays = {name: make_array(4 + i, i, C, 24 if name in "ab" else D) for i, name in enumerate("abcd")}
    outcome = import_arrays(tmp_path, arrays)
    assert outcome.exit_code == 1 and not (tmp_path / "store").exists()
    assert "b has 5 crops and D = 24 and d has 5 crops and D = 16" in outcome.stderr


@pytest.mark.parametrize(("zeros", "count"), [(slice(None), 7), (slice(5, 7), 2), (slice(0, 1), 1)])
def test_rows_of_zeros_are_named(tmp_path: Path, zeros: slice, count: int) -> None:
    arrays = {f"v{i}": make_array(4 + i, i) for i in range(4)}
    arrays["v3"][zeros] = 0
    outcome = import_arrays(tmp_path, arrays)
    assert outcome.exit_code == 0 and f"videos with rows of zeros: 1, e.g. v3 ({count} rows)" in outcome.stderr
    check(tmp_path, arrays)


# One file per crop


@pytest.mark.parametrize("crops", [1, 5, 10, 12])
def test_files_per_crop_are_put_side_by_side(tmp_path: Path, crops: int) -> None:
    arrays = {f"v{i}": make_array(length, i, crops) for i, length in enumerate(LENGTHS)}
    files = {f"{name}__{crop}": array[:, crop] for name, array in arrays.items() for crop in range(crops)}
    outcome = import_arrays(tmp_path, files)
    assert outcome.exit_code == 0, outcome.output
    check(tmp_path, arrays)
    assert "4 skipped" in import_arrays(tmp_path, files).stdout


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (make_array(6, 0, None), "v1__3.npy has shape (6, 16), but"),
        (make_array(7, 0, 2), "v1__3.npy has shape (7, 2, 16), but"),
        (None, "v1__3.npy not found, but v1__4.npy is there; add the missing crop"),
    ],
)
def test_crops_that_do_not_go_together_are_named(tmp_path: Path, wrong: np.ndarray | None, reason: str) -> None:
    files = {f"v{i}__{crop}": make_array(6 + i, crop, None) for i in range(3) for crop in range(C)}
    if wrong is None:
        del files["v1__3"]
    else:
        files["v1__3"] = wrong
    outcome = import_arrays(tmp_path, files)
    assert outcome.exit_code == 1 and "2 videos imported" in outcome.stdout
    assert "failed: v1: " in outcome.stdout and reason in outcome.stdout


def test_the_last_crop_may_be_missing_too(tmp_path: Path) -> None:
    files = {f"v{i}__{crop}": make_array(6 + i, crop, None) for i in range(3) for crop in range(C)}
    del files[f"v1__{C - 1}"]
    outcome = import_arrays(tmp_path, files)
    assert outcome.exit_code == 1 and "2 videos imported" in outcome.stdout
    assert f"v1__{C - 1}.npy not found, and the store has {C} crops; add the files" in outcome.stdout


def test_a_stray_crop_of_any_number_is_a_gap(tmp_path: Path) -> None:
    files = {f"v{i}__{crop}": make_array(6 + i, crop, None) for i in range(3) for crop in range(C)}
    files["v1__4000000000"] = files["v1__0"]
    outcome = import_arrays(tmp_path, files)
    assert f"v1__{C}.npy not found, but v1__4000000000.npy is there" in outcome.stdout
