"""Only what is needed: scales added later, segments of long training videos, a bound on memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ssrl.commands.extract import main
from ssrl.errors import UserError
from ssrl.extract.memory import MAX_SLOTS, MIN_SLOTS, fit_slots, parse_bytes
from ssrl.extract.snippets import fill_segments, resize
from ssrl.geometry import Geometry
from ssrl.store.reader import Store
from ssrl.store.segments import open_segment_view
from tests.media import number_of, numbered_frames, write_h264

pytestmark = pytest.mark.slow

GEOMETRY = Geometry.with_paper_grids(96, 210)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training video of 600 frames, and a short one of each split."""
    root = tmp_path_factory.mktemp("videos")
    for name, count in (("long", 600), ("short", 40), ("test", 40)):
        write_h264(root / f"{name}.mp4", count)
    rows = "long.mp4,0,train\nshort.mp4,1,train\ntest.mp4,1,test\n"
    (root / "videos.csv").write_text(f"video,label,split\n{rows}")
    return root


def extract(root: Path, out: Path, *more: str) -> Result:
    arguments = ["--dataset", "manifest", "--root", root, "--manifest", root / "videos.csv", "--out", out]
    settings = ["--size", "96x210", "--runtime", "torch", "--dtype", "float32"]
    return CliRunner().invoke(main, [*map(str, arguments), *settings, *more])


def test_scales_are_added_without_redoing_the_others(root: Path, tmp_path: Path) -> None:
    (tmp_path / "videos.csv").write_text("video,label,split\nshort.mp4,1,train\ntest.mp4,1,test\n")
    for name in ("short.mp4", "test.mp4"):
        (tmp_path / name).symlink_to(root / name)
    assert extract(tmp_path, tmp_path / "grown", "--scales", "1,2").exit_code == 0
    with pytest.raises(UserError, match="add it with ssrl-extract"):
        Store(tmp_path / "grown").check_scales((1, 4))
    before = Store(tmp_path / "grown").features("test", 2).tobytes()
    outcome = extract(tmp_path, tmp_path / "grown", "--scales", "3,4")
    assert outcome.exit_code == 0 and "2 videos extracted" in outcome.stdout, outcome.output
    assert extract(tmp_path, tmp_path / "whole").exit_code == 0
    grown, whole = Store(tmp_path / "grown"), Store(tmp_path / "whole")
    assert grown.config == whole.config and grown.config.scales == (1, 2, 3, 4)
    assert grown.features("test", 2).tobytes() == before
    for name in ("short", "test"):
        assert grown.record(name) == whole.record(name)
        for scale in (1, 2, 3, 4):
            np.testing.assert_allclose(grown.features(name, scale), whole.features(name, scale), rtol=1e-5, atol=1e-6)
    assert "2 skipped" in extract(tmp_path, tmp_path / "grown", "--scales", "1").stdout


def test_a_store_is_continued_in_its_precision(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would be faster today."""
    out = tmp_path / "store"
    assert extract(root, out, "--scales", "1", "--shard", "1/3", "--precision", "bfloat16").exit_code == 0
    outcome = extract(root, out, "--scales", "1", "--shard", "2/3")
    assert outcome.exit_code == 0 and "in bfloat16" in outcome.stderr, outcome.output
    refused = extract(root, out, "--scales", "1", "--precision", "float32")
    assert refused.exit_code == 1 and "precision: float32, not bfloat16" in refused.stderr


def test_a_scale_that_a_run_has_not_come_to_is_named(root: Path, tmp_path: Path) -> None:
    assert extract(root, tmp_path / "store", "--scales", "1", "--shard", "2/3").exit_code == 0
    assert extract(root, tmp_path / "store", "--scales", "2", "--shard", "3/3").exit_code == 0
    store = Store(tmp_path / "store")
    assert store.config.scales == (1, 2)
    (lacking,) = (name for name in store.ids() if _lacks(store, name))
    with pytest.raises(UserError, match=f"{lacking} has no features of scale 2 yet"):
        open_segment_view(store)


def _lacks(store: Store, name: str) -> bool:
    try:
        store.features(name, 2)
    except UserError:
        return True
    return False


def test_segments_of_long_training_videos(root: Path, tmp_path: Path) -> None:
    outcome = extract(root, tmp_path / "store", "--train-sampling", "segments")
    assert outcome.exit_code == 0, outcome.output
    store = Store(tmp_path / "store")
    rows = {record.id: (record.rows, record.num_frames, store.num_rows(record.id)) for record in store.records()}
    assert rows == {"long": ("segments", 600, 32), "short": ("snippets", 40, 3), "test": ("snippets", 40, 3)}
    view = open_segment_view(store)
    np.testing.assert_array_equal(view.scales[1][view.ids.index("long")], store.features("long", 1))


def test_the_frames_of_a_segment_are_spread_over_it() -> None:
    slots = iter([np.zeros((16, 96, 210, 3), np.uint8) for _ in range(33)])
    kept: list[np.ndarray] = []

    def noted() -> Iterator[np.ndarray]:
        for slot in slots:
            kept.append(slot)
            yield slot

    filled = list(fill_segments(iter(numbered_frames(700)), 700, GEOMETRY, noted()))
    assert filled == [16] * 32
    numbers = [[number_of(frame) for frame in slot] for slot in kept]
    assert numbers[0][0] == 0 and numbers[1][0] == 700 // 32 and numbers[31][0] == 31 * 700 // 32
    assert numbers[0] == [k * 21 // 16 for k in range(16)]  # the first segment covers the frames 0 to 20
    assert all(
        np.array_equal(slot[0], resize(numbered_frames(700)[first[0]], 96, 210))
        for slot, first in zip(kept[:2], numbers[:2], strict=True)
    )


@pytest.mark.parametrize(("text", "value"), [("4G", 4 << 30), ("3.5 GiB", int(3.5 * 2**30)), ("900m", 900 << 20)])
def test_amounts_of_memory(text: str, value: int) -> None:
    assert parse_bytes(text) == value


def test_no_amount_of_memory() -> None:
    with pytest.raises(UserError, match="4G"):
        parse_bytes("much")


def test_slots_fit_the_memory_and_too_little_is_refused_with_the_least() -> None:
    paper = Geometry()
    assert fit_slots(64 << 30, 1 << 30, paper, 1) == MAX_SLOTS
    tight = fit_slots(2 << 30, 1 << 30, paper, 1)
    assert MIN_SLOTS <= tight < MAX_SLOTS and tight * 16 * 480 * 840 * 3 < 1 << 30
    with pytest.raises(UserError, match=r"needs 1\.43G"):
        fit_slots(1 << 30, 1 << 30, paper, 1)


def test_memory_is_an_option(root: Path, tmp_path: Path) -> None:
    too_little = extract(root, tmp_path / "store", "--memory", "100M")
    assert too_little.exit_code == 1 and "is too little" in too_little.stderr
    assert extract(root, tmp_path / "store", "--memory", "8G").exit_code == 0
