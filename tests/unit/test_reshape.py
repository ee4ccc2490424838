"""The sets that are made of a store's videos carry their features and labels along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.reshape import main
from ssrl.store.reader import Store
from tests.stores import write_store

PLANTED = 3.0  # a planted patch has a mean of 6 in its first four features, others of 0


def reshape(tmp_path: Path, shape: str) -> Store:
    write_store(tmp_path / "store", videos=24)
    result = CliRunner().invoke(main, [str(tmp_path / "store"), str(tmp_path / "out"), shape])
    assert result.exit_code == 0, result.output
    return Store(tmp_path / "out")


def mark_snippets(store: Store, video_id: str) -> np.ndarray:
    """Which snippets the labels call anomalous."""
    record = store.record(video_id)
    marks = np.zeros(store.num_rows(video_id), dtype=bool)
    for start, stop in record.video.anomalies or ():
        marks[start // 16 : stop // 16] = True
    return marks


@pytest.mark.parametrize("shape", ["swapped", "long:3", "clips:3"])
def test_labels_stay_with_their_features(tmp_path: Path, shape: str) -> None:
    store = reshape(tmp_path, shape)
    for record in store.records():
        planted = store.features(record.id, 2)[:, 0, :4].mean(axis=1) > PLANTED
        np.testing.assert_array_equal(planted, mark_snippets(store, record.id))
        assert record.video.label == int(planted.any())
    assert {(record.video.split, record.video.label) for record in store.records()} == {
        (split, label) for split in ("train", "test") for label in (0, 1)
    }


def test_swapped_sets_test_on_what_was_trained_on(tmp_path: Path) -> None:
    swapped, store = reshape(tmp_path, "swapped"), Store(tmp_path / "store")
    assert swapped.ids() == store.ids()
    for record in store.records():
        other = swapped.record(record.id)
        assert {other.video.split, record.video.split} == {"train", "test"}
        assert other.num_frames == record.num_frames


def test_long_videos_hold_their_parts_whole_and_once(tmp_path: Path) -> None:
    """Of six abnormal and six normal videos per split: one abnormal and five normal ones, in threes."""
    joined = reshape(tmp_path, "long:3")
    for split in ("train", "test"):
        (abnormal,) = [record for record in joined.records(split) if record.video.label]
        (normal,) = [record for record in joined.records(split) if not record.video.label]
        assert mark_snippets(joined, abnormal.id).sum() == 3
        for record in (abnormal, normal):
            assert joined.num_rows(record.id) == record.num_frames // 16 == 3 * 9
    snippets = np.concatenate([joined.features(video_id, 1)[:, 0] for video_id in joined.ids()])
    assert len(np.unique(snippets, axis=0)) == len(snippets) == 4 * 27


def test_a_clip_is_anomalous_from_its_first_frame_to_its_last(tmp_path: Path) -> None:
    store = reshape(tmp_path, "clips:3")
    for record in store.records():
        assert store.num_rows(record.id) == 3
        assert record.video.anomalies == (((0, 48),) if record.video.label else ())


def test_an_unknown_shape_is_named(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    result = CliRunner().invoke(main, [str(tmp_path / "store"), str(tmp_path / "out"), "short"])
    assert result.exit_code == 2
    assert "allowed are swapped, long:N and clips:N" in result.output
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    source, out = str(tmp_path / "store"), str(tmp_path / "out")
    result = CliRunner().invoke(main, [source, source, "swapped"])
    assert result.exit_code == 2 and "exists; name a new folder" in result.output
    result = CliRunner().invoke(main, [source, out, "long:4"])
    assert result.exit_code == 2 and "takes 7 normal and 1 abnormal train video" in " ".join(result.output.split())
