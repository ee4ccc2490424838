"""Names and places as people have them: long names, other encodings, stores that cannot be written to."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from ssrl.cache import list_entries
from ssrl.checkpoints import Checkpoint, load_checkpoint
from ssrl.commands.extract import main as extract_main
from ssrl.commands.score import main as score_main
from ssrl.commands.train import main as train_main
from ssrl.errors import UserError
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.scoring import score_video
from ssrl.extract import decoding
from ssrl.extract.decoding import Failed, Request
from ssrl.files import replacing
from ssrl.model.blend import Blend
from ssrl.model.recipes import linear_model
from ssrl.store import segments
from ssrl.store.layout import get_video_path
from ssrl.store.reader import Store
from ssrl.store.segments import open_segment_view
from ssrl.store.sources import Source
from ssrl.store.writer import StoreWriter
from ssrl.workflows import media
from ssrl.workflows.heat import HeatMaker
from ssrl.workflows.media import MediaKinds
from ssrl.workflows.overlays import Drawn
from ssrl.workflows.score import find_videos
from tests.media import write_h264
from tests.stores import CONFIG, D, write_store


def extract(root: Path, *more: str) -> Result:
    folders = ["--root", str(root), "--manifest", str(root / "videos.csv"), "--out", str(root / "store")]
    return CliRunner().invoke(extract_main, ["--dataset", "manifest", *folders, "--size", "96x210", *more])


def write_table(root: Path, *names: str) -> None:
    rows = [f"{name},{index % 2},train" for index, name in enumerate(names)]
    (root / "videos.csv").write_text("\n".join(["video,label,split", *rows, ""]), encoding="utf-8")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSRL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Names


@pytest.mark.parametrize("name", ["n" * 235, "é" * 117, "日" * 78, f"{'a' * 200}/{'b' * 235}"])
def test_long_names_are_extracted_trained_and_scored(tmp_path: Path, name: str) -> None:
    write_h264(tmp_path / f"{name}.mp4", 17)
    write_h264(tmp_path / "short.mp4", 17)
    write_table(tmp_path, f"{name}.mp4", "short.mp4")
    outcome = extract(tmp_path)
    assert outcome.exit_code == 0, outcome.output
    assert set(Store(tmp_path / "store").ids()) == {name, "short"}
    run = tmp_path / "run"
    options = ["--features", str(tmp_path / "store"), "--out", str(run), "--recipe", "linear", "--scales", "1,2"]
    assert CliRunner().invoke(train_main, options).exit_code == 0
    arguments = [str(tmp_path / f"{name}.mp4"), "--ckpt", str(run / "best.pt"), "--out", str(tmp_path / "scores")]
    outcome = CliRunner().invoke(score_main, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert len(list((tmp_path / "scores" / "heatmaps").iterdir())) == 1


@pytest.mark.parametrize("name", ["n" * 241, "é" * 121, f"a/{'b' * 241}/c"])
def test_names_that_are_too_long_are_refused_in_their_row(tmp_path: Path, name: str) -> None:
    write_table(tmp_path, "short.mp4", f"{name}.mp4")
    outcome = extract(tmp_path)
    assert outcome.exit_code == 1 and "videos.csv, line 3: a name of 24" in outcome.stderr
    assert "shorten" in outcome.stderr


@pytest.mark.parametrize("of_table", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_composed_and_decomposed_names_are_the_same(tmp_path: Path, of_table: str, on_disk: str) -> None:
    folder, name = "Überwachung", "café.mp4"
    path = f"{folder}/{name}"
    write_h264(tmp_path / unicodedata.normalize(on_disk, path), 17)  # type: ignore[arg-type]
    (tmp_path / "videos.csv").write_text(f"video,label,split\n{unicodedata.normalize(of_table, path)},1,test\n")  # type: ignore[arg-type]
    (tmp_path / "events.csv").write_text(
        f"video,first_frame,last_frame\n{unicodedata.normalize('NFD', path)},2,5\n", encoding="utf-8"
    )
    outcome = extract(tmp_path, "--frame-labels", str(tmp_path / "events.csv"))
    assert outcome.exit_code == 0, outcome.output
    assert Store(tmp_path / "store").ids() == [unicodedata.normalize("NFC", f"{folder}/café")]
    assert "1 skipped" in extract(tmp_path, "--frame-labels", str(tmp_path / "events.csv")).stdout


def test_names_that_are_not_utf8_are_scored(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for index in range(2):
        write_h264(tmp_path / f"{index}.mp4", 17)
    write_table(tmp_path, "0.mp4", "1.mp4")
    assert extract(tmp_path).exit_code == 0
    run = tmp_path / "run"
    options = ["--features", str(store), "--out", str(run), "--recipe", "linear", "--scales", "1,2"]
    assert CliRunner().invoke(train_main, options).exit_code == 0
    name = os.fsdecode(b"na\xe9.mp4")  # Latin-1
    new = tmp_path / "new"
    write_h264(tmp_path / "new.mp4", 20)
    new.mkdir()
    (tmp_path / "new.mp4").rename(new / name)
    arguments = [str(new), "--ckpt", str(run / "best.pt"), "--out", str(tmp_path / "scores")]
    for _ in range(2):
        outcome = CliRunner().invoke(score_main, arguments)
        assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "scores" / "scores" / "na%E9.csv").is_file()


# Places


def deny(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be written below a folder."""

    @contextmanager
    def refuse(path: Path) -> Iterator[Path]:
        if path.is_relative_to(folder):
            raise OSError(number, os.strerror(number), str(path))
        with replacing(path) as temporary:
            yield temporary

    monkeypatch.setattr(segments, "replacing", refuse)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_the_view_of_a_store_that_cannot_be_written_to_is_in_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = write_store(tmp_path / "store")
    expected = np.array(open_segment_view(store).scales[2])
    (store.root / "segments-32.h5").unlink()
    deny(store.root, number, monkeypatch)
    for _ in range(2):
        view = open_segment_view(store)
        assert view.path.is_relative_to(cache) and not (store.root / "segments-32.h5").exists()
        np.testing.assert_array_equal(view.scales[2], expected)
    written = view.path.stat().st_mtime_ns
    os.utime(view.path, ns=(0, written))
    open_segment_view(store)
    assert view.path.stat().st_mtime_ns == written and view.path.stat().st_atime > 0  # built once, and used
    assert [entry.path for entry in list_entries()] == [view.path]
    record = store.record(store.ids()[0])
    os.utime(get_video_path(store.root, record.id), ns=(0, 1))  # as if extracted anew
    assert open_segment_view(store).path.stat().st_mtime_ns > written


def test_a_full_disk_is_not_a_store_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "store")
    deny(store.root, errno.ENOSPC, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        open_segment_view(store)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = write_store(tmp_path / "store")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(UserError, match=f"cannot be read .{os.strerror(number)}") as caught:
        store.record(store.ids()[0])
    assert "damaged" not in str(caught.value) and "delete" not in str(caught.value)
    writer = StoreWriter(store.root, CONFIG)
    with pytest.raises(UserError, match="cannot be read"):
        writer.plan(store.ids()[0], Source((), 0, 0), lambda stored: stored)


@pytest.mark.parametrize("damage", [slice(0, 100), slice(0, 3000), slice(0, 0)])
def test_a_damaged_file_is_called_damaged(tmp_path: Path, damage: slice) -> None:
    store = write_store(tmp_path / "store")
    path = get_video_path(store.root, store.ids()[0])
    path.write_bytes(path.read_bytes()[damage])
    with pytest.raises(UserError, match="is damaged"):
        store.record(store.ids()[0])


# Errors that nobody foresaw


@pytest.mark.parametrize(
    "error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), TypeError("no"), OSError("?")]
)
def test_an_unforeseen_error_of_a_reader_is_called_ours(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(decoding, "open_reader", fail)
    ours, theirs = Pipe()
    slots = np.zeros((3, 16, 96, 210, 3), np.uint8)
    said = decoding._decode(theirs, Request(tmp_path / "v.mp4"), slots, CONFIG.geometry)
    assert isinstance(said, Failed) and not ours.poll()
    assert f"a fault of this program, not of your files: {type(error).__name__}" in said.message
    assert "re-encode" not in said.message and len(list((cache / "faults").iterdir())) == 1


def test_heatmaps_that_fail_cost_their_video_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = write_store(tmp_path / "store")
    model = linear_model(D, (1, 2), store.config.grids)
    network = Blend(model).eval()
    first, second = (score_video(network, store, store.record(video_id)) for video_id in store.ids()[:2])

    def draw(video: VideoScores, *_: object) -> Drawn:
        if video is first:
            raise TypeError("no")
        path = tmp_path / "heatmaps" / f"{video.id}-000008.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
        return Drawn([path])

    monkeypatch.setattr(media, "draw_video", draw)
    heat, kinds = HeatMaker(network, store.config.geometry), MediaKinds(overlay=False, clips=False, timeline=False)
    made = media.write_media(tmp_path, store, [first, second], Checkpoint(model, network.state_dict()), heat, kinds)
    assert [len(made[video.id].media.pictures) for video in (first, second)] == [0, 1]
    assert f"no pictures of {first.id}: a fault of this program" in caplog.text


def test_ids_of_new_videos_are_portable(tmp_path: Path) -> None:
    for name in ("n" * 250, "new\nline", "a"):
        (tmp_path / f"{name}.mp4").touch()
    ids = [video.id for video in find_videos([tmp_path, tmp_path / "x" / ".." / "a.mp4"])]
    assert sorted(map(len, ids)) == [1, 10, 236] and "new%0Aline" in ids


def test_a_replaced_video_that_cannot_be_read_is_said_to_be_kept(tmp_path: Path) -> None:
    write_h264(tmp_path / "v.mp4", 17)
    write_table(tmp_path, "v.mp4")
    assert extract(tmp_path).exit_code == 0
    (tmp_path / "v.mp4").write_bytes(b"no video")
    outcome = extract(tmp_path)
    assert outcome.exit_code == 1 and "already has of it are kept and still used" in outcome.stdout


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "best.pt").mkdir()
    with pytest.raises(IsADirectoryError) as caught, replacing(tmp_path / "best.pt"):
        pass
    assert caught.value.filename == str(tmp_path / "best.pt")
    with pytest.raises(UserError, match="is a folder; give the checkpoint in it"):
        load_checkpoint(tmp_path)
