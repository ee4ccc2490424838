"""Files: atomic writing, natural sort order, sizes."""

import errno
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from natsort import natsort_keygen

TEMPORARY_MARK = ".partial-"
MAX_NAME_BYTES = 255  # of a file, on common file systems
_natural_key = natsort_keygen()


def natural_key(name: str) -> tuple[Any, ...]:
    """A sort key that puts "2.jpg" before "10.jpg"; ties ("1", "01") are sorted by the whole name."""
    return _natural_key(name), name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success, sync it to disk and rename it to `path`.

    If the block raises, `path` is unchanged and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(_name_temporary(path))
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def check_output(path: Path, *, is_folder: bool = False) -> None:
    """Raise the OSError that writing a file at `path`, or files into a folder, would end in; before the work begins."""
    if path.is_dir() and not is_folder:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    place = path.absolute() if is_folder else path.absolute().parent
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(existing))
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), str(existing)) from error


def _name_temporary(path: Path) -> str:
    """A name with the same suffix before the mark, shortened where it would be too long."""
    end = f"{path.suffix}{TEMPORARY_MARK}{uuid.uuid4().hex[:8]}"
    room = MAX_NAME_BYTES - len(os.fsencode(end))
    return os.fsencode(path.stem)[:room].decode(errors="ignore") + end


def copy(path: Path, to: Path) -> None:
    """Copy a file. The copy is complete or absent."""
    with replacing(to) as temporary:
        shutil.copyfile(path, temporary)


def sync(path: Path) -> None:
    """Flush a file or folder to disk. Some file systems cannot do it for folders."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return  # Windows opens no folders
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def measure_size(path: Path) -> int:
    """Return the bytes of a file, or of the files in a folder; 0 if missing."""
    try:
        files = path.iterdir() if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
