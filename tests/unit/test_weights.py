"""Downloaded weights, from a server on this machine."""

from __future__ import annotations

import gc
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ssrl.cache import list_entries
from ssrl.errors import UserError
from ssrl.extract.encoders.weights import fetch

CONTENT = b"weights" * 100_000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/none.pyth" else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path != "/none.pyth":
            self.wfile.write(CONTENT[: 1000 if self.path == "/short.pyth" else None])

    def log_message(self, *_: object) -> None:
        """Nothing to the terminal."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSRL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def address(server: ThreadingHTTPServer, name: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{name}"


def test_a_download_is_kept_and_checked(server: ThreadingHTTPServer, cache: Path) -> None:
    url = address(server, "weights.pyth")
    first = fetch("kinetics400", url)
    assert first.path == cache / "weights" / "weights.pyth" and first.path.read_bytes() == CONTENT
    assert [entry.path for entry in list_entries()] == [first.path]
    assert first.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert first.path.stat().st_mode & 0o444 == 0o444  # caches are shared
    server.shutdown()
    assert fetch("kinetics400", url) == first  # from the cache
    assert sorted(path.name for path in (cache / "weights").iterdir()) == ["weights.pyth", "weights.pyth.sha256"]


@pytest.mark.parametrize("changed", ["weights.pyth", "weights.pyth.sha256"])
def test_a_changed_file_is_refused(server: ThreadingHTTPServer, cache: Path, changed: str) -> None:
    url = address(server, "weights.pyth")
    fetch("kinetics400", url)
    (cache / "weights" / changed).write_bytes(b"tampered")
    with pytest.raises(UserError, match=r"not what was downloaded.*delete both files"):
        fetch("kinetics400", url)
    (cache / "weights" / "weights.pyth.sha256").unlink()
    with pytest.raises(UserError, match="not what was downloaded"):
        fetch("kinetics400", url)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # requests leaves a socket to the GC
@pytest.mark.parametrize(("name", "reason"), [("none.pyth", "404"), ("short.pyth", r"1000 bytes read")])
def test_a_download_that_fails_leaves_nothing(server: ThreadingHTTPServer, cache: Path, name: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"cannot download .*{name} .*{reason}.*--weights FILE.*micro3d"):
        fetch("kinetics400", address(server, name))
    gc.collect()  # here, where its warning is let through
    assert not list((cache / "weights").iterdir())


def test_without_a_server_the_message_is_short(cache: Path) -> None:
    with pytest.raises(UserError, match=r"weights.pyth \(\[Errno \d+\] Connection refused\); fetch it"):
        fetch("kinetics400", "http://127.0.0.1:9/weights.pyth")


def test_progress_goes_to_stderr_and_nothing_else_is_said(
    server: ThreadingHTTPServer, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch("kinetics400", address(server, "weights.pyth"))
    out, err = capfd.readouterr()
    assert out == "" and "100%" in err and "known_hash" not in err
