"""The store: what goes in comes out, and what is not whole is named."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from ssrl.commands.store import main
from ssrl.config import STORE_FORMAT
from ssrl.errors import UserError
from ssrl.extract import pipeline
from ssrl.files import TEMPORARY_MARK
from ssrl.store.layout import CONFIG_FILE, get_video_path
from ssrl.store.reader import Store, find_store
from ssrl.store.segments import open_segment_view, pool_segments
from ssrl.store.sources import Source
from ssrl.store.verify import verify
from ssrl.store.writer import StoreWriter
from tests.stores import CONFIG, other, planted_features, planted_record, write_store

HALF_PRECISION = 1e-3  # relative: float16 keeps 11 bits


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_is_read(tmp_path: Path, dtype: str) -> None:
    config, record = other(dtype=dtype), planted_record(1)
    features = planted_features(np.random.default_rng(0), record.num_frames, 3, 6)
    writer = StoreWriter(tmp_path, config)
    with writer.video(record.id) as file:
        for part in (slice(0, 2), slice(2, None)):  # as they come
            file.append({scale: array[part] for scale, array in features.items()})
        file.finish(record)
    store = Store(tmp_path)
    assert store.config == config
    assert store.ids() == [record.id]
    assert store.record(record.id) == record
    for scale, array in features.items():
        read = store.features(record.id, scale)
        assert read.dtype == dtype
        np.testing.assert_allclose(read, array, rtol=HALF_PRECISION, atol=HALF_PRECISION)
        np.testing.assert_array_equal(store.features(record.id, scale, 2, 5), read[2:5])


def test_a_video_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, CONFIG)
    with pytest.raises(KeyboardInterrupt), writer.video("one"):
        raise KeyboardInterrupt
    with pytest.raises(RuntimeError, match="before finish"), writer.video("two"):
        pass
    assert not list((tmp_path / "videos").iterdir())
    assert writer.plan("one", Source((), 0, 0), lambda stored: stored).scales == CONFIG.scales


def test_a_count_of_snippets_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    record = planted_record(1)
    features = planted_features(np.random.default_rng(0), 16 * 3, 0, 0)
    writer, message = StoreWriter(tmp_path, CONFIG), "3 snippets, but 139 frames make 9"
    with pytest.raises(ValueError, match=message), writer.video(record.id) as file:
        file.append(features)
        file.finish(record)


def test_scales_of_segments_must_agree_and_need_no_frames_to_fit(tmp_path: Path) -> None:
    record = replace(planted_record(1), rows="segments")
    features = planted_features(np.random.default_rng(0), 16 * 3, 0, 0)
    writer = StoreWriter(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="all scales need the same number of rows"), writer.video(record.id) as file:
        file.append({**features, 2: features[2][:2]})
        file.finish(record)
    with writer.video(record.id) as file:
        file.append(features)
        file.finish(record)
    store = Store(tmp_path)
    assert store.record(record.id) == record and store.num_rows(record.id) == 3
    assert [finding.problem for finding in verify(store)] == [""]
    view = open_segment_view(store, num_segments=3)
    np.testing.assert_array_equal(view.scales[4][0], store.features(record.id, 4))  # 3 of 3: each is itself


def test_features_that_overflow_half_precision_are_refused(tmp_path: Path) -> None:
    features = planted_features(np.random.default_rng(0), 16, 0, 0)
    features[2][0, 0, 0] = 1e6
    writer, message = StoreWriter(tmp_path, CONFIG), r"scale 2.*--dtype float32"
    with pytest.raises(UserError, match=message), writer.video("one") as file:
        file.append(features)


def test_another_configuration_is_refused_by_name(tmp_path: Path) -> None:
    write_store(tmp_path, 2)
    with pytest.raises(UserError, match=r"encoder: i3d_r50, not test.*another --out"):
        StoreWriter(tmp_path, other(encoder="i3d_r50"))
    StoreWriter(tmp_path, CONFIG)


def test_another_version_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path, 2)
    path = tmp_path / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": STORE_FORMAT + 1}))
    with pytest.raises(UserError, match=f"format {STORE_FORMAT + 1}; this version reads format {STORE_FORMAT}"):
        Store(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format_version": 1, "surprise": 2}'])
def test_a_damaged_store_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(UserError, match=CONFIG_FILE):
        Store(tmp_path)


def test_verify_names_the_video_with_a_flipped_byte(tmp_path: Path) -> None:
    store = write_store(tmp_path, 4)
    assert [finding.problem for finding in verify(store)] == ["", "", "", ""]
    damaged = store.ids()[2]
    path = get_video_path(tmp_path, damaged)
    with h5py.File(path) as file:
        offset = file["scale4"].id.get_chunk_info(3).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 7] ^= 1
    path.write_bytes(content)
    problems = {finding.video_id: finding.problem for finding in verify(store)}
    assert [name for name, problem in problems.items() if problem] == [damaged]
    outcome = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert outcome.exit_code == 1 and damaged in outcome.output and "1 damaged" in outcome.output


def test_a_truncated_file_and_one_of_another_store_are_named(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a", 4)
    write_store(tmp_path / "b", 4, other(encoder="another"))
    first, second = store.ids()[:2]
    path = get_video_path(store.root, first)
    path.write_bytes(path.read_bytes()[:-1000])
    get_video_path(store.root, second).write_bytes(get_video_path(tmp_path / "b", second).read_bytes())
    with pytest.raises(UserError, match=r"damaged.*delete it and extract again"):
        store.features(first, 1)
    with pytest.raises(UserError, match="another configuration"):
        store.features(second, 1)


def test_an_unfinished_file_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path, 2)
    path = get_video_path(tmp_path, store.ids()[0])
    with h5py.File(path, "r+") as file:
        del file.attrs["complete"]
    with pytest.raises(UserError, match="unfinished"):
        store.record(store.ids()[0])


def test_leftovers_of_a_killed_writer_are_no_videos_and_can_be_removed(tmp_path: Path) -> None:
    store = write_store(tmp_path, 2)
    leftover = tmp_path / "videos" / f"killed.h5{TEMPORARY_MARK}12345678"
    leftover.write_bytes(b"half")
    assert len(store.ids()) == 2
    outcome = CliRunner().invoke(main, ["clean", str(tmp_path)])
    assert outcome.exit_code == 0 and "1 half-written files removed" in outcome.output
    assert not leftover.exists() and len(store.ids()) == 2


def test_segments_are_means_computed_by_hand() -> None:
    features = np.arange(5, dtype=np.float32).reshape(5, 1, 1)
    assert pool_segments(features, 8)[:, 0, 0].tolist() == [0, 0, 1, 1, 2, 3, 3, 4]  # shorter than 8: snippets repeat
    assert pool_segments(features, 2)[:, 0, 0].tolist() == [0.5, 3.0]  # (0 + 1) / 2 and (2 + 3 + 4) / 3


def test_the_view_pools_every_video_and_follows_the_store(tmp_path: Path) -> None:
    store = write_store(tmp_path, 4)
    view = open_segment_view(store)
    for index, video_id in enumerate(view.ids):
        for scale, array in view.scales.items():
            expected = pool_segments(store.features(video_id, scale), 32)
            np.testing.assert_allclose(array[index], expected, rtol=HALF_PRECISION, atol=HALF_PRECISION)
    built = view.path.stat().st_mtime_ns
    assert open_segment_view(store).path.stat().st_mtime_ns == built
    write_store(tmp_path, 6)
    assert len(open_segment_view(store).ids) == 6


def test_the_one_store_is_found_and_several_are_listed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no feature store"):
        find_store(tmp_path)
    write_store(tmp_path / "one", 2)
    assert find_store(tmp_path) == tmp_path / "one"
    write_store(tmp_path / "two", 2)
    with pytest.raises(UserError, match=r"one.*two"):
        find_store(tmp_path)


def test_info_tells_what_is_there(tmp_path: Path) -> None:
    write_store(tmp_path, 2)
    outcome = CliRunner().invoke(main, ["info", str(tmp_path)])
    assert outcome.exit_code == 0
    assert "folder/video 01  train, abnormal, 139 frames, 48 anomalous" in outcome.output


def test_a_full_disk_is_told_from_other_failures() -> None:
    error = RuntimeError("closing failed too")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert pipeline._is_disk_full(error)
    assert not pipeline._is_disk_full(FileNotFoundError(errno.ENOENT, "no such file"))


def test_writing_stops_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, free = StoreWriter(tmp_path, CONFIG), iter([1 << 40, 1 << 20])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=next(free)))
    features = planted_features(np.random.default_rng(0), 16, 0, 0)
    with pytest.raises(OSError, match="No space left") as caught, writer.video("one") as file:
        file.append(features)
        file.append(features)
    assert caught.value.errno == errno.ENOSPC
    assert not list((tmp_path / "videos").iterdir())
