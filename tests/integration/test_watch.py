"""ssrl-watch: files, cameras that end, hang and refuse, events and their clips."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ssrl.errors import UserError
from ssrl.watch import pictures
from ssrl.watch import source as source_module
from ssrl.watch.addresses import parse_address
from ssrl.watch.window import Window
from ssrl.workflows.score import ScoreRequest, score_videos
from ssrl.workflows.watch import WatchRequest
from tests.media import write_audio_only
from tests.streams import HttpCamera, RtspServer
from tests.watching import Watch, make_checkpoint, read_lines, write_scene

SCENE = "..###..."
FPS = 25
SNIPPET_SECONDS = 16 / FPS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("run") / "best.pt")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("video") / "gate.ts", SCENE)


@pytest.fixture
def camera(scene: Path) -> Iterator[HttpCamera]:
    made = HttpCamera(scene, len(SCENE) * SNIPPET_SECONDS)
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(source_module, "LONGEST_PAUSE", 0.2)


@pytest.mark.slow
def test_a_file_has_the_scores_that_it_has_offline(checkpoint: Path, tmp_path: Path) -> None:
    """To the rounding of the lines: a linear model sees no context. The last snippet is not full."""
    path = write_scene(tmp_path / "gate.mp4", SCENE)
    with av.open(str(path)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in list(source.demux(source.streams.video[0]))[: 16 * 7 + 5]:
            packet.stream = stream
            target.mux(packet)
    live = Watch(str(tmp_path / "cut.mp4"), checkpoint)
    result = live.finish()
    offline = score_videos(ScoreRequest([tmp_path / "cut.mp4"], checkpoint, tmp_path / "out", pictures=False))
    scores = [line["score"] for line in live.of("snippet")]
    np.testing.assert_allclose(scores, offline.videos[0].scores, atol=1e-3)
    assert [score > 0.5 for score in scores] == [kind == "#" for kind in SCENE]
    assert result.num_snippets == len(SCENE) and result.dropped_frames == 0
    assert [line["seconds"] for line in live.of("snippet")] == pytest.approx(
        [*(SNIPPET_SECONDS * np.arange(1, 8)), (16 * 7 + 5) / FPS], abs=0.002
    )


def test_an_event_is_told_with_its_region_clip_and_picture(checkpoint: Path, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "events"
    live = Watch(str(scene), checkpoint, sinks=[str(out)], name="gate", clip_before=0.5, clip_after=0.6)
    assert live.finish().num_events == 1
    opened, closed = live.of("event")
    assert (opened["state"], closed["state"]) == ("opened", "closed")
    assert closed["start_seconds"] == pytest.approx(2 * SNIPPET_SECONDS, abs=0.002)
    assert closed["end_seconds"] == pytest.approx(5 * SNIPPET_SECONDS, abs=0.002)
    states = [line["state"] for line in live.of("snippet")]
    assert states == ["quiet"] * 3 + ["open"] * 3 + ["quiet"] * 2  # told at the second snippet, over after two
    assert opened["region"] == [0, 0, 0.3333, 0.5]  # told at once, by patches
    told = read_lines((out / "events.jsonl").read_text())
    assert [{**line, "region": None} for line in told] == [{**line, "region": None} for line in (opened, closed)]
    left, top, right, bottom = told[0]["region"]  # of the traced heatmap
    reach = 0.15  # of the encoder's cells, beyond the field's edges at one half
    assert 0 <= left < right <= 0.5 + reach and 0 <= top < 0.5 + reach and top < bottom <= 0.5 + 2 * reach
    assert (out / f"{opened['event']}.jpg").stat().st_size > 1000
    frames, codec = read_clip(out / f"{opened['event']}.mp4")
    assert codec == "h264"
    expected = (3 * SNIPPET_SECONDS + 0.5 + 0.6) * FPS
    assert expected - 2 <= len(frames) <= expected + 8 + 2  # from a key frame on, every 8 frames
    is_busy = [frame[:48, :105].std() > 50 for frame in frames]
    assert sum(is_busy) == 48 and not is_busy[0] and not is_busy[-1]


def test_what_happens_in_an_ignored_zone_opens_no_event(
    checkpoint: Path, scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The field fills the frame's left upper quarter; the whole frame sees it too."""
    corner = [[0, 0], [0.65, 0], [0.65, 0.8], [0, 0.8]]
    zones = tmp_path / "zones.json"
    zones.write_text(json.dumps({"zones": [{"name": "road", "mode": "ignore", "points": corner}]}))
    live = Watch(str(scene), checkpoint, zones=zones)
    assert live.finish().num_events == 0 and all(line["score"] < 0.5 for line in live.of("snippet"))
    zones.write_text(json.dumps({"zones": [{"name": "road", "mode": "watch", "points": corner}]}))
    assert Watch(str(scene), checkpoint, zones=zones).finish().num_events == 1
    elsewhere = {"name": "road", "mode": "ignore", "points": corner, "videos": "yard*"}
    zones.write_text(json.dumps({"zones": [elsewhere]}))
    assert Watch(str(scene), checkpoint, zones=zones, name="gate").finish().num_events == 1
    assert "no zone for this camera" in caplog.text
    zones.write_text('{"zones": [{"name": "road", "mode": "ignore", "points": [[0, 0], [1, 0], [1, 1.5]]}]}')
    with pytest.raises(UserError, match=r"in 0\.\.1"):
        Watch(str(scene), checkpoint, zones=zones).finish()


def test_an_event_is_told_without_the_picture_that_cannot_be_made(
    checkpoint: Path, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(pictures, "draw_overlay", fail)
    out = tmp_path / "events"
    assert Watch(str(scene), checkpoint, sinks=[str(out)]).finish().num_events == 1
    assert [line["state"] for line in read_lines((out / "events.jsonl").read_text())] == ["opened", "closed"]
    assert "its picture cannot be made" in caplog.text and not list(out.glob("*.jpg"))


def test_other_codings_become_h264(checkpoint: Path, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "gate.avi", SCENE, codec="mjpeg")
    live = Watch(str(path), checkpoint, sinks=[f"folder:{tmp_path / 'events'}"], clip_before=0.5, clip_after=0.5)
    live.finish()
    frames, codec = read_clip(tmp_path / "events" / f"{live.of('event')[0]['event']}.mp4")
    assert codec == "h264"
    assert sum(frame[:48, :105].std() > 50 for frame in frames) == 48


def read_clip(path: Path) -> tuple[list[np.ndarray], str]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], (
            container.streams.video[0].codec_context.name
        )


def interrupt(live: Watch, server: HttpCamera | RtspServer) -> None:
    """Five times, after an event: stop the server, and start it once that is noticed."""
    for number in range(1, 6):
        live.wait_for_lines(number, "event", "closed")
        server.stop()
        live.wait_for_lines(number, "connection", "lost")
        server.start()
        live.wait_for_lines(number, "connection", "restored")


@pytest.mark.slow
def test_a_camera_that_goes_away_five_times_loses_no_event(checkpoint: Path, camera: HttpCamera) -> None:
    live = Watch(camera.url, checkpoint, timeout=5.0)
    interrupt(live, camera)
    result = live.stop()
    assert result.num_events == 5 and result.dropped_frames == 0
    assert len({line["event"] for line in live.of("event", "opened")}) == 5
    seconds = [line["seconds"] for line in live.of("snippet")]
    assert seconds == sorted(seconds)  # goes on over outages


def test_an_event_ends_where_the_camera_is_lost(checkpoint: Path, camera: HttpCamera) -> None:
    live = Watch(camera.url, checkpoint)
    live.wait_for(lambda: live.of("event", "opened"))
    camera.stop()
    live.wait_for(lambda: live.of("connection", "lost"))
    live.stop()
    kinds = [(line["type"], line["state"]) for line in live.lines if line["type"] != "snippet"]
    assert kinds[:3] == [("event", "opened"), ("event", "closed"), ("connection", "lost")]


def test_a_file_over_http_is_read_once_and_whole(checkpoint: Path, scene: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(scene.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        live = Watch(f"http://127.0.0.1:{server.server_port}/{scene.name}", checkpoint)
        result = live.finish()
        server.shutdown()
    assert result.num_snippets == len(SCENE) and result.dropped_frames == 0 and not live.of("connection")


@pytest.mark.slow
def test_a_camera_that_hangs_counts_as_lost_and_comes_back(checkpoint: Path, camera: HttpCamera) -> None:
    live = Watch(camera.url, checkpoint, timeout=1.0)
    live.wait_for(lambda: live.of("snippet"))
    camera.hangs.set()
    live.wait_for(lambda: live.of("connection", "lost"))
    camera.hangs.clear()
    live.wait_for(lambda: live.of("connection", "restored"))
    began = time.monotonic()
    live.stop()
    assert time.monotonic() - began < 5
    assert (
        "no picture for 1 s" in live.of("connection", "lost")[0]["reason"]
        or "does not answer" in (live.of("connection", "lost")[0]["reason"])
    )


@pytest.mark.slow
def test_a_wrong_password_is_told_without_it_and_not_tried_over_and_over(
    checkpoint: Path, camera: HttpCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "hunter/22")
    camera.login = "cam:hunter/22"
    address = camera.url.replace("http://", "http://cam:$CAMERA_PASSWORD@")
    live = Watch(address, checkpoint)
    live.wait_for(lambda: live.of("snippet"))
    camera.login = "cam:changed"
    camera.stop()
    camera.start()
    live.wait_for(lambda: any("password" in line["reason"] for line in live.of("connection", "lost")))
    tries = camera.num_requests
    time.sleep(1.0)
    assert camera.num_requests == tries  # pauses are of 0.1 s otherwise
    live.stop()
    assert "hunter" not in str(live.lines)
    with pytest.raises(UserError, match="refuses the user name or password") as raised:
        Watch(address, checkpoint).finish()
    assert "hunter" not in str(raised.value) and "***@127.0.0.1" in str(raised.value)


@pytest.mark.slow
def test_a_file_that_grows_is_followed_to_its_end(checkpoint: Path, scene: Path, tmp_path: Path) -> None:
    content, path = scene.read_bytes(), tmp_path / "recording.ts"
    path.write_bytes(content[: len(content) // 2])
    live = Watch(str(path), checkpoint, follow=1.5)
    live.wait_for(lambda: len(live.of("snippet")) >= 2)
    before = len(live.of("snippet"))
    with path.open("ab") as file:
        for start in range(len(content) // 2, len(content), 20000):
            file.write(content[start : start + 20000])
            file.flush()
            time.sleep(0.05)
    result = live.finish()
    assert before < len(SCENE) and result.num_snippets == len(SCENE) and result.num_events == 1


def test_who_is_too_slow_drops_whole_snippets_and_stays_at_the_live_edge(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Snippets come every 0.16 s and take 0.4 s each."""
    path = write_scene(tmp_path / "fast.ts", "." * 20, fps=100)
    score = Window.score

    def score_slowly(window: Window, features: Any) -> float:
        time.sleep(0.4)
        return score(window, features)

    monkeypatch.setattr(Window, "score", score_slowly)
    live = Watch(str(path), checkpoint, realtime=True)
    result = live.finish()
    assert result.dropped_frames > 0 and result.dropped_frames % 16 == 0
    assert result.num_snippets * 16 + result.dropped_frames == 20 * 16
    delays = [line["delay"] for line in live.of("snippet")]
    assert max(delays) < 2 * 0.4 + 0.4  # the wait for the snippet before, its own, and slack
    assert "frames dropped" in caplog.text


def test_a_frame_rate_can_be_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "fast.ts", "." * 10, fps=50)
    live = Watch(str(path), checkpoint, fps=25)
    assert live.finish().num_snippets == 5
    assert live.of("snippet")[0]["seconds"] == pytest.approx(SNIPPET_SECONDS, abs=0.03)


@pytest.mark.slow
def test_sigterm_closes_the_open_event_and_exits_with_0(checkpoint: Path, tmp_path: Path) -> None:
    path, out = write_scene(tmp_path / "long.ts", "..#######"), tmp_path / "events"
    command = [sys.executable, "-m", "ssrl.commands.watch", str(path), "--ckpt", str(checkpoint), "--realtime"]
    process = subprocess.Popen(
        [*command, "--sink", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if '"opened"' in line:
            process.send_signal(signal.SIGTERM)
            break
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    lines = read_lines([*told, *rest.splitlines()])
    assert lines[-1]["type"] == "event" and lines[-1]["state"] == "closed"
    written = read_lines((out / "events.jsonl").read_text())
    assert [line["state"] for line in written] == ["opened", "closed"]
    assert (out / f"{lines[-1]['event']}.mp4").is_file()


@pytest.mark.slow
def test_whoever_stops_reading_ends_the_watch(checkpoint: Path, scene: Path) -> None:
    command = f"{sys.executable} -m ssrl.commands.watch {scene} --ckpt {checkpoint} --realtime"
    outcome = subprocess.run(["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"], capture_output=True)
    assert outcome.returncode == 0 and outcome.stdout.count(b"\n") == 1, outcome.stderr


def test_what_cannot_be_watched_is_told(checkpoint: Path, tmp_path: Path, scene: Path) -> None:
    write_audio_only(tmp_path / "sound.mp4")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    sources = {
        str(tmp_path / "absent.mp4"): "there is no file or device",
        str(tmp_path): "not a file or a video device",
        "ftp://host/a": "sources of the kind ftp:// are unknown",
        str(tmp_path / "sound.mp4"): "no video stream",
        str(tmp_path / "noise.mp4"): "not a video",
        "http://127.0.0.1:9/live?key=hunter22": "Connection refused",
        "rtsp://cam:hunter22@127.0.0.1:9/live": "Connection refused",
    }
    for source, reason in sources.items():
        with pytest.raises(UserError, match=reason) as raised:
            Watch(source, checkpoint).finish()
        assert "hunter22" not in str(raised.value)
    with pytest.raises(UserError, match=r"absent\.pt does not exist"):
        Watch(str(scene), tmp_path / "absent.pt").finish()
    with pytest.raises(UserError, match="window must be at least 1"):
        WatchRequest(str(scene), checkpoint, window=0)


def test_a_character_device_is_a_camera() -> None:
    assert parse_address("/dev/null").kind == "device"


@pytest.mark.slow
def test_an_rtsp_camera_that_restarts_five_times_loses_no_event(
    checkpoint: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "hunter/22")
    server = RtspServer(scene, "cam", "hunter/22")
    server.start()
    with pytest.raises(UserError, match="refuses the user name or password"):
        Watch(f"rtsp://cam:wrong@127.0.0.1:{server.port}/live", checkpoint).finish()
    live = Watch(f"rtsp://cam:$CAMERA_PASSWORD@127.0.0.1:{server.port}/live", checkpoint, timeout=5.0)
    try:
        interrupt(live, server)
        result = live.stop()
    finally:
        server.stop()
    assert result.num_events == 5 and result.dropped_frames == 0
    assert "hunter" not in str(live.lines)


def test_threads_end_with_the_watch(checkpoint: Path, camera: HttpCamera, tmp_path: Path) -> None:
    live = Watch(camera.url, checkpoint, sinks=[str(tmp_path / "events"), "http://127.0.0.1:9/hook"])
    live.wait_for(lambda: live.of("snippet"))
    live.stop()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("source", "sink"))]
