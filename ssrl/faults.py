"""Errors as one line: whose fault it is, and what to do."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

from ssrl.cache import get_cache_folder
from ssrl.errors import UserError
from ssrl.files import write_text

REMEDIES = {
    errno.EACCES: "fix its permissions, or choose another path",
    errno.EPERM: "fix its permissions, or choose another path",
    errno.EROFS: "choose a path on a disk that can be written to",
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some space, then run the same command again",
    errno.ENAMETOOLONG: "shorten the name",
    errno.EISDIR: "it is a folder; name a file",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EEXIST: "it is in the way; choose another path",
}


def describe_error(error: Exception) -> str:
    """Describe what the user can put right, or a fault of ours, whose traceback goes to a file."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}; {get_remedy(error)}"
    return _describe_fault(error)


def raise_if_of_system(error: OSError, path: Path) -> None:
    """Raise a UserError if the system could not read a file, whatever it holds; damage has no error number."""
    if error.errno:
        raise UserError(f"{path} cannot be read ({os.strerror(error.errno)}); {get_remedy(error)}") from error


def get_remedy(error: OSError) -> str:
    return REMEDIES.get(error.errno or 0, "check the path and its disk")


def _describe_fault(error: Exception) -> str:
    text = "".join(traceback.format_exception(error))
    path = get_cache_folder() / "faults" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        write_text(path, f"ssrl {version('ssrl')}: {shlex.join(sys.argv)}\n\n{text}")
        place = f"its traceback is in {path}"
    except OSError:
        logging.getLogger(__name__).error(text)
        place = "its traceback is above"
    return f"a fault of this program, not of your files: {type(error).__name__}: {error}; {place}, please report it"
