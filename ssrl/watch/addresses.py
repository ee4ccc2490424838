"""What can be watched, and how FFmpeg opens it.

rtsp://host/live, rtsps://     camera, over TCP
http://host/stream, https://   camera; a file, where the server states its length
/dev/video0                    device
a file                         read as fast as possible; one that still grows is followed
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import av
from av.error import FFmpegError

from ssrl.errors import UserError

Kind = Literal["rtsp", "http", "device", "file", "growing file"]
_RTSP = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto,http,https,httpproxy"
_HTTP = "http,https,tcp,tls,crypto,httpproxy,data"
POLL_SECONDS = 0.05


class SourceError(Exception):
    """A source that cannot be opened or read any further; the message has no address in it."""

    def __init__(self, reason: str, *, refused: bool = False, lasting: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused  # the password is wrong
        self.lasting = lasting  # trying again brings nothing


@dataclass(frozen=True)
class Address:
    """A source, and how to open it."""

    url: str
    kind: Kind
    growth_seconds: float = 0.0  # a growing file is complete after so long without growth
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_camera(self) -> bool:
        """Whether it is to be connected again when it ends."""
        return self.kind in ("rtsp", "http", "device")

    @property
    def default_name(self) -> str:
        return urlsplit(self.url).hostname or "camera" if "://" in self.url else Path(self.url).stem


def parse_address(source: str, growth_seconds: float | None = None) -> Address:
    """Find out what `source` is. Raises a UserError for what does not exist or cannot be watched."""
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    if scheme in ("rtsp", "rtsps"):
        return Address(source, "rtsp", options={"rtsp_transport": "tcp", "protocol_whitelist": _RTSP})
    if scheme in ("http", "https"):
        return Address(source, "http", options={"protocol_whitelist": _HTTP})
    if scheme:
        raise UserError(f"sources of the kind {scheme}:// are unknown; known are rtsp, rtsps, http, https and paths")
    path = Path(source)
    if not path.exists():
        raise UserError(f"there is no file or device {source}; check the path")
    if stat.S_ISCHR(path.stat().st_mode):
        return Address(source, "device")
    if not path.is_file():
        raise UserError(f"{source} is not a file or a video device; score folders with ssrl-score")
    if growth_seconds is not None:
        return Address(source, "growing file", growth_seconds)
    return Address(source, "file", options={"protocol_whitelist": "file"})


@contextmanager
def opening(address: Address, timeout_seconds: float, stop: threading.Event) -> Iterator[Any]:
    """The source, opened for reading. Raises a SourceError if that fails."""
    with ExitStack() as stack:
        source: Any = address.url
        if address.kind == "growing file":
            source = GrowingFile(Path(address.url), address.growth_seconds, stop)
            stack.callback(source.close)
        try:
            container: Any = av.open(
                source,
                format="v4l2" if address.kind == "device" else None,
                container_options=dict(address.options),
                timeout=(timeout_seconds, timeout_seconds),
                metadata_errors="replace",
            )
        except (FFmpegError, OSError, ValueError) as error:
            raise explain(error) from error
        stack.callback(container.close)
        yield container


def explain(error: Exception) -> SourceError:
    """Say why reading failed, without FFmpeg's own message, which has the address in it."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        return SourceError("the camera refuses the user name or password", refused=True)
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceError("the camera knows no such stream; check the path in the address", lasting=True)
    if isinstance(error, (av.error.ExitError, TimeoutError)):
        return SourceError("the camera does not answer")
    if isinstance(error, av.error.InvalidDataError):
        return SourceError("what comes is not a video that FFmpeg can read", lasting=True)
    if isinstance(error, EOFError):
        return SourceError("the stream ended before a picture came")
    return SourceError(getattr(error, "strerror", None) or type(error).__name__)


class GrowingFile:
    """A file for FFmpeg that waits at its end for more; without `seek`, so that nothing is looked for at its end."""

    def __init__(self, path: Path, limit_seconds: float, stop: threading.Event) -> None:
        self._file = path.open("rb", buffering=0)
        self._limit_seconds = limit_seconds
        self._stop = stop

    def read(self, size: int) -> bytes:
        began = time.monotonic()
        while not self._stop.is_set():
            if content := os.read(self._file.fileno(), size):
                return content
            if time.monotonic() - began > self._limit_seconds:
                break
            self._stop.wait(POLL_SECONDS)
        return b""

    def close(self) -> None:
        self._file.close()
