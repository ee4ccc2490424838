"""Cameras for tests, which stop and start again: MPEG-TS over HTTP, and RTSP where GStreamer is installed."""

from __future__ import annotations

import subprocess
import threading
import time
from base64 import b64encode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.receivers import find_port

CHUNK = 188 * 7


class HttpCamera:
    """Serves one MPEG-TS file in `seconds`, each time from its start, without a length, as cameras do."""

    def __init__(self, path: Path, seconds: float, login: str = "") -> None:
        self.port = find_port()
        self.url = f"http://127.0.0.1:{self.port}/live.ts"
        self.login = login  # user:password
        self.num_requests = 0
        self.hangs = threading.Event()  # if set, no more bytes come
        self._content = path.read_bytes()
        self._seconds = seconds
        self._server: ThreadingHTTPServer | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        camera, self._stopped = self, threading.Event()
        stopped = self._stopped

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.num_requests += 1
                expected = f"Basic {b64encode(camera.login.encode()).decode()}"
                if camera.login and self.headers.get("Authorization") != expected:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                with suppress(OSError):  # the client has left
                    camera._stream(self.wfile.write, stopped)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Cut off whoever is connected, in the middle."""
        self._stopped.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _stream(self, write: object, stopped: threading.Event) -> None:
        assert callable(write)
        began = time.monotonic()
        for place in range(0, len(self._content), CHUNK):
            due = began + self._seconds * place / len(self._content)
            while (ahead := due - time.monotonic()) > 0 and not stopped.is_set():
                stopped.wait(ahead)
            while self.hangs.is_set() and not stopped.is_set():
                stopped.wait(0.05)
            if stopped.is_set():
                return
            write(self._content[place : place + CHUNK])


class RtspServer:
    """Plays an MPEG-TS file to each who connects, from its start, behind a password. Skips the test if the system's
    Python has no GStreamer (Debian: gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-good and -bad).
    """

    PYTHON = "/usr/bin/python3"
    CHECK = "import gi; gi.require_version('GstRtspServer', '1.0')"

    def __init__(self, path: Path, user: str, password: str) -> None:
        if not Path(self.PYTHON).exists() or subprocess.run([self.PYTHON, "-c", self.CHECK], stderr=-3).returncode:
            pytest.skip("no RTSP server: GStreamer's is not installed")
        self.port = find_port()
        pipeline = f"filesrc location={path} ! tsdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1"
        script = str(Path(__file__).with_name("rtsp_server.py"))
        self._command = [self.PYTHON, script, str(self.port), pipeline, user, password]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"
        self._process.stdout.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
