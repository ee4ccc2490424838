"""Nothing stale is kept in silence: corrected labels, replaced videos, removed rows, stores that grew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from ssrl.commands.extract import main as extract_main
from ssrl.commands.import_ import main as import_main
from ssrl.commands.score import main as score_main
from ssrl.commands.store import main as store_main
from ssrl.commands.train import main as train_main
from ssrl.datasets.video import Intervals
from ssrl.errors import UserError
from ssrl.evaluate.scoring import make_frame_auc
from ssrl.store.layout import get_video_path
from ssrl.store.reader import Store
from ssrl.store.segments import open_segment_view
from ssrl.store.sources import Source
from ssrl.store.writer import StoreWriter
from ssrl.workflows.evaluate import EvaluateRequest, evaluate_model
from tests.media import numbered_frames, write_frames, write_h264
from tests.stores import CONFIG, write_store

Rows = Sequence[tuple[str, int, str]]
ROWS: Rows = [("one.mp4", 0, "train"), ("two.mp4", 1, "test"), ("three", 0, "test")]


class User:
    """A folder of videos, their tables and their store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.out = root / "store"
        write_h264(root / "one.mp4", 17)
        write_h264(root / "two.mp4", 33)
        write_frames(root / "three", numbered_frames(16))
        self.write_table(ROWS)

    def write_table(self, rows: Rows, name: str = "videos.csv") -> None:
        lines = "".join(f"{video},{label},{split}\n" for video, label, split in rows)
        (self.root / name).write_text("video,label,split\n" + lines)

    def write_events(self, *rows: str) -> None:
        (self.root / "events.csv").write_text("\n".join(["video,first_frame,last_frame", *rows]) + "\n")

    def extract(self, *more: str, table: str = "videos.csv") -> Result:
        """A run that must succeed."""
        folders = ["--root", str(self.root), "--manifest", str(self.root / table), "--out", str(self.out)]
        outcome = CliRunner().invoke(extract_main, ["--dataset", "manifest", *folders, "--size", "96x210", *more])
        assert outcome.exit_code == 0, outcome.output
        return outcome

    def modified(self, video_id: str) -> int:
        return get_video_path(self.out, video_id).stat().st_mtime_ns

    def features(self, video_id: str) -> np.ndarray:
        return Store(self.out).features(video_id, 2)


@pytest.fixture
def user(tmp_path: Path) -> User:
    user = User(tmp_path)
    user.extract()
    return user


def test_nothing_is_written_where_nothing_changed(user: User) -> None:
    before = {video_id: user.modified(video_id) for video_id in ("one", "two", "three")}
    outcome = user.extract()
    assert "0 videos extracted" in outcome.output and "3 skipped, 0 with new annotations" in outcome.output
    assert before == {video_id: user.modified(video_id) for video_id in before}


@pytest.mark.parametrize(
    ("rows", "changed", "expected"),
    [
        ([("one.mp4", 1, "train"), *ROWS[1:]], "one", "label 0 → 1"),
        ([("one.mp4", 0, "test"), *ROWS[1:]], "one", "split 'train' → 'test'"),
    ],
)
def test_corrected_labels_and_splits_are_taken_without_decoding(
    user: User, rows: Rows, changed: str, expected: str
) -> None:
    open_segment_view(Store(user.out))
    features = user.features(changed)
    user.write_table(rows)
    outcome = user.extract()
    assert f"{changed}: {expected}" in outcome.output
    assert "0 videos extracted" in outcome.output and "2 skipped, 1 with new annotations" in outcome.output
    video = Store(user.out).record(changed).video
    assert (video.label, video.split) == (rows[0][1], rows[0][2])
    np.testing.assert_array_equal(user.features(changed), features)
    assert "3 skipped" in user.extract().output


def test_frame_labels_can_be_added_and_corrected(user: User) -> None:
    assert make_frame_auc(Store(user.out)) is None
    events = str(user.root / "events.csv")
    user.write_events("two.mp4,5,20")
    assert "two: anomalous frames unknown → 5-20" in user.extract("--frame-labels", events).output
    assert make_frame_auc(Store(user.out)) is not None
    user.write_events("two.mp4,5,20", "two.mp4,30,31")
    assert "two: anomalous frames 5-20 → 5-20, 30-31" in user.extract("--frame-labels", events).output
    assert Store(user.out).record("two").video.anomalies == ((4, 20), (29, 31))


@pytest.mark.parametrize(
    ("rows", "told", "kept"),
    [
        (["two.mp4,5,9", "two.mp4,30,40"], "frames 30 to 40 go beyond its 33 frames: cut there", ((4, 9), (29, 33))),
        (["two.mp4,5,9", "two.mp4,34,40"], "frames 34 to 40 go beyond its 33 frames: left out", ((4, 9),)),
        (["two.mp4,34,40"], "its anomalous frames are unknown", None),
    ],
)
def test_an_interval_beyond_the_end_costs_that_interval(
    user: User, rows: list[str], told: str, kept: Intervals | None
) -> None:
    user.write_events(*rows)  # of 33 frames
    labels = ("--frame-labels", str(user.root / "events.csv"))
    assert told in user.extract(*labels).stderr
    assert Store(user.out).record("two").video.anomalies == kept
    get_video_path(user.out, "two").unlink()
    output = user.extract(*labels).stderr
    assert output.count(told) == 1 and output.index(told) < output.index("two: 33 frames")  # before it is encoded
    assert Store(user.out).record("two").video.anomalies == kept


def test_a_replaced_video_is_extracted_again(user: User) -> None:
    before = user.features("one")
    write_h264(user.root / "one.mp4", 40)
    outcome = user.extract()
    assert "one: to be extracted again, since its source has changed" in outcome.output
    assert "1 videos extracted" in outcome.output
    assert Store(user.out).record("one").num_frames == 40 and len(user.features("one")) > len(before)


def test_a_replaced_video_that_cannot_be_read_is_marked(user: User) -> None:
    def show() -> str:
        return CliRunner().invoke(store_main, ["info", str(user.out)]).output

    assert "changed since" not in show()
    (user.root / "one.mp4").write_bytes(b"no video")
    folders = ["--root", str(user.root), "--manifest", str(user.root / "videos.csv"), "--out", str(user.out)]
    outcome = CliRunner().invoke(extract_main, ["--dataset", "manifest", *folders, "--size", "96x210"])
    assert outcome.exit_code == 1 and "kept and still used" in outcome.stdout
    marked = [line for line in show().splitlines() if "its file has changed since: run ssrl-extract again" in line]
    assert len(marked) == 1 and marked[0].startswith("  one  ")
    (user.root / "one.mp4").unlink()
    assert "changed since" not in show()


def test_a_replaced_frame_is_noticed(user: User) -> None:
    frames = sorted((user.root / "three").iterdir())
    frames[3].write_bytes(frames[4].read_bytes())
    assert "three: to be extracted again" in user.extract().output


def test_content_of_the_same_size_and_another_time_is_compared(user: User) -> None:
    path = user.root / "one.mp4"
    os.utime(path, ns=(1, 1))
    outcome = user.extract()
    assert "0 videos extracted" in outcome.output and "again" not in outcome.output
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "one: to be extracted again" in user.extract().output


def test_a_damaged_file_of_the_store_is_extracted_again(user: User) -> None:
    path = get_video_path(user.out, "one")
    path.write_bytes(path.read_bytes()[:100])
    assert "one: to be extracted again, since its file in the store is damaged" in user.extract().output
    assert len(user.features("one")) == 2


def test_a_source_that_is_replaced_while_it_is_decoded_is_noticed_later(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember = Source.remember

    def replace_after(source: Source) -> None:
        remember(source)
        write_h264(user.root / "one.mp4", 40)

    write_h264(user.root / "one.mp4", 30)
    with monkeypatch.context() as patch:
        patch.setattr(Source, "remember", replace_after)
        user.extract()
    os.utime(user.root / "one.mp4")
    assert "one: to be extracted again" in user.extract().output


def test_a_damaged_table_of_the_store_is_named(user: User) -> None:
    table = next((user.out / "tables").iterdir())
    table.write_text("{")
    with pytest.raises(UserError, match=r"tables/.*is damaged .*delete it"):
        Store(user.out).ids()


def test_a_moved_root_is_recorded(user: User, tmp_path: Path) -> None:
    moved = user.root.with_name(f"{user.root.name}-moved")
    user.root.rename(moved)
    user.root, user.out = moved, moved / "store"
    outcome = user.extract()
    assert "0 videos extracted" in outcome.output and "path" in outcome.output
    assert Store(user.out).record("one").video.path == (moved / "one.mp4").resolve()


def test_a_store_of_an_earlier_version_learns_its_sources(user: User) -> None:
    with h5py.File(get_video_path(user.out, "one"), "r+") as file:
        del file.attrs["source_sha256"], file.attrs["source_modified"]
    assert Store(user.out).record("one").source_sha256 == ""
    assert "0 videos extracted" in user.extract().output
    assert len(Store(user.out).record("one").source_sha256) == 64


def test_videos_whose_row_was_removed_are_named_left_out_and_pruned(user: User) -> None:
    user.write_table(ROWS[:2])
    outcome = user.extract()
    assert "no table names any more: 1, e.g. three" in outcome.stderr
    assert Store(user.out).ids() == ["one", "two"]
    assert open_segment_view(Store(user.out)).ids == ("one", "two")
    assert "three  left out" in CliRunner().invoke(store_main, ["info", str(user.out)]).output
    assert get_video_path(user.out, "three").is_file()
    assert "1 videos deleted" in CliRunner().invoke(store_main, ["prune", str(user.out)]).output
    assert not get_video_path(user.out, "three").exists()


def test_two_tables_may_fill_one_store(user: User) -> None:
    user.write_table([("one.mp4", 0, "train")])
    user.write_table(ROWS[1:], "more.csv")
    outcome = user.extract(table="more.csv")
    assert "no table names" not in outcome.output
    assert Store(user.out).ids() == ["one", "three", "two"]


def test_a_replaced_array_is_imported_again(tmp_path: Path) -> None:
    (tmp_path / "videos.csv").write_text("video,label,split\none,0,train\ntwo,1,test\n")
    for name in ("one", "two"):
        np.save(tmp_path / f"{name}.npy", np.ones((3, 8), np.float32))

    def run() -> Result:
        options = ["--layout", "npy", "--dataset", "manifest", "--manifest", str(tmp_path / "videos.csv")]
        folders = ["--root", str(tmp_path), "--out", str(tmp_path / "store")]
        outcome = CliRunner().invoke(import_main, ["features", *options, *folders])
        assert outcome.exit_code == 0, outcome.output
        return outcome

    run()
    np.save(tmp_path / "one.npy", np.full((4, 8), 2, np.float32))
    outcome = run()
    assert "changed: one: its source has changed" in outcome.output and "1 videos imported" in outcome.output
    assert Store(tmp_path / "store").features("one", 1).shape == (4, 1, 8)
    (tmp_path / "videos.csv").write_text("video,label,split\none,1,train\n")
    outcome = run()
    assert "changed: one: label 0 → 1" in outcome.output and "no table names any more: 1, e.g. two" in outcome.stderr
    assert Store(tmp_path / "store").ids() == ["one"]


def test_another_video_of_the_same_name_is_scored_anew(user: User) -> None:
    user.write_table([("one.mp4", 0, "train"), ("two.mp4", 1, "train"), ("three", 0, "test")])
    user.extract()
    run = user.root / "run"
    options = ["--features", str(user.out), "--out", str(run), "--recipe", "linear", "--scales", "1,2"]
    assert CliRunner().invoke(train_main, options).exit_code == 0
    scores = user.root / "scores"
    for folder, count in (("cat", 20), ("dog", 50)):
        (user.root / folder).mkdir()
        video = write_h264(user.root / folder / "000.mp4", count)
        arguments = [str(video), "--ckpt", str(run / "best.pt"), "--out", str(scores)]
        outcome = CliRunner().invoke(score_main, arguments)
        assert outcome.exit_code == 0, outcome.output
    assert Store(scores / "features").record("000").num_frames == 50
    assert "000: to be extracted again" in outcome.output
    both = [str(user.root / folder / "000.mp4") for folder in ("cat", "dog")]
    outcome = CliRunner().invoke(score_main, [*both, "--ckpt", str(run / "best.pt"), "--out", str(scores)])
    assert outcome.exit_code == 0, outcome.output
    store = Store(scores / "features")
    assert (store.record("cat/000").num_frames, store.record("dog/000").num_frames) == (20, 50)


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_not_resumed_on_other_videos(tmp_path: Path, finished: bool) -> None:
    write_store(tmp_path / "store", videos=8)
    steps = ["--steps", "3", "--recipe", "small"]
    options = ["--features", str(tmp_path / "store"), "--out", str(tmp_path / "run"), "--scales", "1,2", *steps]
    assert CliRunner().invoke(train_main, options).exit_code == 0
    if not finished:
        (tmp_path / "run" / "stage-2.pt").unlink()
    write_store(tmp_path / "store", videos=12)
    outcome = CliRunner().invoke(train_main, [*options, "--resume"])
    assert outcome.exit_code == 1
    assert "have changed since the run" in outcome.stderr and "--out" in outcome.stderr


def test_a_run_is_not_resumed_on_other_labels(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", videos=8)
    options = ["--features", str(store.root), "--out", str(tmp_path / "run"), "--scales", "1", "--recipe", "linear"]
    assert CliRunner().invoke(train_main, options).exit_code == 0
    assert CliRunner().invoke(train_main, [*options, "--resume"]).exit_code == 0
    record = store.records("test")[0]
    label = 1 - (record.video.label or 0)
    video = replace(record.video, label=label, anomalies=((0, 5),) if label else ())
    StoreWriter(store.root, CONFIG).update(replace(record, video=video))
    assert "have changed" in CliRunner().invoke(train_main, [*options, "--resume"]).stderr


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_checkpoint_of_the_user_is_not_replaced_by_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    write_store(tmp_path / "features" / "mine", videos=8)
    monkeypatch.chdir(tmp_path)
    best = tmp_path / "best.pt"
    best.write_bytes(b"imported") if kind == "file" else best.mkdir()
    outcome = CliRunner().invoke(train_main, ["--recipe", "linear", "--scales", "1"])
    assert outcome.exit_code == 0, outcome.output
    assert not best.is_symlink() and "is kept" in outcome.stderr
    assert best.is_dir() or best.read_bytes() == b"imported"


def test_one_test_video_without_frame_labels_does_not_hide_the_metric(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", videos=12)
    record = next(record for record in store.records("test") if record.video.label)
    StoreWriter(store.root, CONFIG).update(replace(record, video=replace(record.video, anomalies=None)))
    assert Store(store.root).record(record.id).video.anomalies is None
    options = ["--features", str(store.root), "--recipe", "linear", "--scales", "1,2", "--select", "test"]
    outcome = CliRunner().invoke(train_main, [*options, "--out", str(tmp_path / "run")])
    assert outcome.exit_code == 0 and "not defined" not in outcome.output, outcome.output
    evaluated = evaluate_model(EvaluateRequest(tmp_path / "run" / "best.pt")).evaluation
    assert evaluated.auc is not None and f"test AUC: selected {evaluated.auc:.2%}" in outcome.output
