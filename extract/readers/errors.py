"""What can go wrong with one video."""

from pathlib import Path

from ssrl.errors import UserError


class UnreadableVideo(UserError):
    """Not one frame of this video can be had; the message names the file, the reason and what to do."""


class DecoderStopped(UnreadableVideo):
    """A decoder cannot go on. Drop the frames read so far: another backend may read the video from its start."""


def check_readable(path: Path) -> None:
    """Raise `UnreadableVideo` unless `path` is a file with content that may be opened."""
    if path.is_dir():
        raise UnreadableVideo(f"{path} is a folder, not a video file; folders of frames need the backend 'frames'")
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except FileNotFoundError as error:
        raise UnreadableVideo(f"there is no video {path}; check the path") from error
    except OSError as error:
        raise UnreadableVideo(f"{path} cannot be opened ({error.strerror}); check its permissions") from error
    if not first:
        raise UnreadableVideo(f"{path} is empty (0 bytes): its download or copy failed; get the file again")
