"""Times come from the frames' timestamps: in the store, in tables, in plots and on pages."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.patches import StepPatch

from ssrl.commands.extract import main as extract_main
from ssrl.commands.score import main as score_main
from ssrl.commands.train import main as train_main
from ssrl.evaluate.plots import plot_scores
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.report.svg import Axis, draw_strip
from ssrl.evaluate.report.write import format_csv
from ssrl.evaluate.timeline import Timeline
from ssrl.extract import decoding
from ssrl.extract.decoding import Alive, Decoded, Decoder, DecoderLost, Filled, Lost, Request
from ssrl.extract.readers import open_reader
from ssrl.extract.readers.times import read_packet_times
from ssrl.geometry import Geometry
from ssrl.store.layout import VideoRecord, get_video_path
from ssrl.store.reader import Store
from tests.media import break_file, numbered_frames, write_frames, write_h264, write_mpeg4, write_video

HOLE = [*range(10), *range(260, 300)]  # in ticks of 1/25 s: ten seconds pass after the tenth frame
GEOMETRY = Geometry.with_paper_grids(96, 210)


def read_times(path: Path, backend: str = "auto") -> np.ndarray | None:
    with open_reader(path, backend) as reader:
        count = sum(1 for _ in reader.frames())
        assert reader.seconds is None or len(reader.seconds) == count
        return reader.seconds


# Readers


@pytest.mark.parametrize(
    ("name", "backend"),
    [("v.mp4", "pyav"), ("v.mkv", "pyav"), ("v.ts", "pyav"), ("v.mp4", "decord"), ("v.mkv", "decord")],
)
@pytest.mark.parametrize("times", [range(30), [0, 1, 3, 6, *range(7, 33)], HOLE])
def test_frames_have_the_times_of_the_file(tmp_path: Path, name: str, times: Sequence[int], backend: str) -> None:
    write_h264(tmp_path / name, len(times), times=list(times))
    expected = np.array(times) / 25
    seconds = read_times(tmp_path / name, backend)
    assert seconds is not None
    np.testing.assert_allclose(seconds, expected, atol=0.002)
    packets = read_packet_times(tmp_path / name)
    assert packets is not None and (len(packets) == len(expected) or name == "v.ts")
    np.testing.assert_allclose(packets[-1], expected[-1], atol=0.002)


def test_times_start_at_the_first_frame(tmp_path: Path) -> None:
    write_h264(tmp_path / "v.mkv", 20, times=list(range(1000, 1020)))
    np.testing.assert_allclose(read_times(tmp_path / "v.mkv"), np.arange(20) / 25, atol=0.002)  # type: ignore[arg-type]


def test_filled_holes_have_times_in_between(tmp_path: Path) -> None:
    path = write_h264(tmp_path / "v.mkv", 200, options={"bf": "0"})
    break_file(path, 0.4, 0.6, "zeros")
    seconds = read_times(path)
    assert seconds is not None and len(seconds) > 150
    np.testing.assert_allclose(np.diff(seconds), 0.04, atol=0.02)


def test_pictures_have_no_times(tmp_path: Path) -> None:
    assert read_times(write_frames(tmp_path / "v", numbered_frames(5))) is None
    assert read_packet_times(tmp_path / "absent.mp4") is None


@pytest.mark.parametrize("codec", ["libvpx-vp9", "mpeg4", "mjpeg"])
def test_packets_are_counted_where_they_are_frames(tmp_path: Path, codec: str) -> None:
    write_video(
        tmp_path / "v.mkv", numbered_frames(30), codec=codec, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p"
    )
    times = read_packet_times(tmp_path / "v.mkv")
    assert times is None if codec == "libvpx-vp9" else times is not None and len(times) == 30


# From the store to scores


@pytest.fixture(scope="module")
def paused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a video with a pause of ten seconds after 10 of 50 frames."""
    root = tmp_path_factory.mktemp("paused")
    write_h264(root / "v.mp4", 50, times=HOLE)
    write_frames(root / "pictures", numbered_frames(20))
    (root / "videos.csv").write_text("video,label,split\nv.mp4,1,train\npictures,0,train\n")
    folders = ["--root", str(root), "--manifest", str(root / "videos.csv"), "--out", str(root / "store")]
    outcome = CliRunner().invoke(extract_main, ["--dataset", "manifest", *folders, "--size", "96x210"])
    assert outcome.exit_code == 0, outcome.output
    return root


def test_the_store_keeps_times(paused: Path) -> None:
    store = Store(paused / "store")
    np.testing.assert_allclose(store.seconds("v"), np.array(HOLE) / 25, atol=0.002)  # type: ignore[arg-type]
    assert store.seconds("pictures") is None


def test_a_store_of_an_earlier_version_learns_times_without_decoding(paused: Path, tmp_path: Path) -> None:
    shutil.copytree(paused, tmp_path / "old")
    path = get_video_path(tmp_path / "old" / "store", "v")
    with h5py.File(path, "r+") as file:
        del file["seconds"]
    assert Store(tmp_path / "old" / "store").seconds("v") is None
    folders = [
        "--root",
        str(paused),
        "--manifest",
        str(paused / "videos.csv"),
        "--out",
        str(tmp_path / "old" / "store"),
    ]
    for told in (True, False):
        outcome = CliRunner().invoke(extract_main, ["--dataset", "manifest", *folders, "--size", "96x210"])
        assert outcome.exit_code == 0 and "0 videos extracted" in outcome.stdout
        assert ("v: times of its frames added" in outcome.stderr) == told
    seconds = Store(tmp_path / "old" / "store").seconds("v")
    np.testing.assert_allclose(seconds, np.array(HOLE) / 25, atol=0.002)  # type: ignore[arg-type]


def make_video(seconds: np.ndarray | None, fps: float | None = 25.0, count: int = 50) -> VideoScores:
    record = VideoRecord("v", count, 1, "test", "", fps, anomalies=((5, 20),))
    return VideoScores(record, np.linspace(0.1, 0.9, -(-count // 16)), seconds=seconds)


def test_tables_have_the_times_of_the_file() -> None:
    rows = [row.split(",") for row in format_csv(make_video(np.array(HOLE) / 25)).splitlines()]
    assert rows[0] == ["frame", "score", "label", "seconds"]
    assert (rows[10][3], rows[11][0], rows[11][3]) == ("0.360", "10", "10.400")
    rows = [row.split(",") for row in format_csv(make_video(None, None)).splitlines()]
    assert {row[3] for row in rows[1:]} == {""}


def test_a_timeline_by_hand() -> None:
    timeline = Timeline.of(50, 25.0, np.array(HOLE) / 25)
    assert timeline is not None and not timeline.is_steady and timeline.end == pytest.approx(12)
    (pause,) = timeline.pauses
    assert pause.frame == 10 and [pause.start, pause.stop] == pytest.approx([0.4, 10.4])
    parts = list(timeline.split(np.array([0, 16, 50])))
    assert [part[0] for part in parts] == [0, 0, 1]
    np.testing.assert_allclose([part[1:] for part in parts], [(0, 0.4), (10.4, 10.64), (10.64, 12)])
    steady = Timeline.of(4, 2.0, None)
    assert steady is not None and steady.is_steady and steady.pauses == () and steady.end == 2
    assert list(steady.split(np.array([0, 4]))) == [(0, 0.0, 2.0)]
    assert Timeline.of(4, None, None) is None
    assert Timeline.of(1, None, np.zeros(1)).end == pytest.approx(0.04)  # type: ignore[union-attr]


def test_a_pause_is_shown_as_a_pause() -> None:
    video = make_video(np.array(HOLE) / 25)
    assert Axis(video).width == 300 and Axis(video).pauses == [(10, 260)]
    strip = str(draw_strip(video))
    assert 'viewBox="0 0 300 1000"' in strip and '<rect class="pause" x="10" y="0" width="250"' in strip
    assert [tuple(map(int, match)) for match in re.findall(r'class="truth" x="(\d+)" y="0" width="(\d+)"', strip)] == [
        (5, 5),
        (260, 10),
    ]
    assert re.search(r'class="score" d="M0 1000V900H10V1000M260 1000V900H266V', strip)
    knots = Axis(video).knots.split()
    assert (knots[0], knots[-1]) == ("0:0", "300:50") and "9:9" in knots and "260:10" in knots
    figure = plot_scores(video)
    values, edges, _ = [patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch)][-1].get_data()
    assert np.isnan(values).tolist() == [False, True, False, False, False, False]
    assert edges[:4].tolist() == [0, 10, 260, 266]


def test_evenly_spaced_frames_are_their_places() -> None:
    video = make_video(np.arange(50) / 25 + 0.001 * (np.arange(50) % 2))
    assert Axis(video).knots == "" and Axis(video).width == 50
    assert str(draw_strip(video)) == str(draw_strip(make_video(None)))


def test_new_videos_are_scored_with_their_times(tmp_path: Path, paused: Path) -> None:
    run = tmp_path / "run"
    options = ["--features", str(paused / "store"), "--out", str(run), "--recipe", "linear", "--scales", "1,2"]
    assert CliRunner().invoke(train_main, options).exit_code == 0
    write_h264(tmp_path / "v.mp4", 50, times=HOLE)
    arguments = [str(tmp_path / "v.mp4"), "--ckpt", str(run / "best.pt"), "--out", str(tmp_path / "out")]
    outcome = CliRunner().invoke(score_main, arguments)
    assert outcome.exit_code == 0, outcome.output
    rows = (tmp_path / "out" / "scores" / "v.csv").read_text().splitlines()
    assert rows[11].endswith(",10.400")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "50 frames, 0:12" in page and "no recording" in page and '"knots":"0:0' in page


# Long videos


class SlowReader:
    """A reader whose frames come one by one, every 20 ms."""

    fps, declared_frames, substituted_frames, seconds = 25.0, None, 0, None

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> SlowReader:
        return self

    def __exit__(self, *_: object) -> None: ...

    def frames(self) -> Iterator[np.ndarray]:
        for _ in range(self.count):
            time.sleep(0.02)
            yield np.zeros((96, 210, 3), np.uint8)


def decode_here(request: Request) -> list[object]:
    """What a decoder's worker says about a video, in a thread of this process."""
    ours, theirs = Pipe()
    slots = np.zeros((3, 16, 96, 210, 3), np.uint8)
    ended: list[object] = []
    worker = threading.Thread(target=lambda: ended.append(decoding._decode(theirs, request, slots, GEOMETRY)))
    worker.start()
    said: list[object] = []
    while worker.is_alive() or ours.poll():
        if ours.poll(0.05):
            said.append(ours.recv())
            if isinstance(said[-1], Filled):
                ours.send(said[-1].slot)
    return said + ended


def test_a_decoder_lives_as_long_as_frames_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "open_reader", lambda *_: SlowReader(40))
    monkeypatch.setattr(decoding, "HEARTBEAT_SECONDS", 0.1)
    said = decode_here(Request(tmp_path, segments=True))
    first = next(i for i, each in enumerate(said) if isinstance(each, Filled))
    assert [type(each) for each in said[:first]].count(Alive) >= 5  # while it counts
    assert isinstance(said[-1], Decoded) and said[-1].num_frames == 40


def test_heartbeats_keep_a_decoder_from_being_given_up(tmp_path: Path) -> None:
    with Decoder(GEOMETRY, time_limit_seconds=0.3) as decoder:
        decoder.connection, worker = Pipe()
        for _ in range(3):
            decoder._heard = time.monotonic()
            threading.Timer(0.2, worker.send, [Alive()]).start()
            assert decoder.receive() is None
        with pytest.raises(DecoderLost, match=r"no frame for 0\.3 seconds.*--time-limit"):
            decoder.receive()


@pytest.mark.parametrize("count", [520, 700])
def test_a_wrong_count_is_noticed_and_the_right_one_told(tmp_path: Path, count: int) -> None:
    write_mpeg4(tmp_path / "v.mp4", 600)
    ended = decode_here(Request(tmp_path / "v.mp4", segments=True, num_frames=count))[-1]
    assert isinstance(ended, Lost) and ended.num_frames == 600
    right = decode_here(Request(tmp_path / "v.mp4", segments=True, num_frames=600))[-1]
    counted = decode_here(Request(tmp_path / "v.mp4", segments=True))[-1]
    assert right == counted and isinstance(right, Decoded) and (right.num_frames, right.rows) == (600, "segments")
