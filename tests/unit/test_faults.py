"""Errors are one line: whose fault it is, and what to do; the traceback of a fault of ours is in a file."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ssrl.cache import list_entries
from ssrl.console import handle_errors
from ssrl.errors import UserError
from ssrl.files import sync, write_text


def run(error: BaseException) -> Result:
    @click.command()
    @handle_errors
    def main() -> None:
        raise error

    return CliRunner().invoke(main, [])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSRL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError("gate.mp4 is empty"), "error: gate.mp4 is empty\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "m.json"),
            "m.json: Permission denied; fix its permissions",
        ),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "best.pt"), "best.pt: Is a directory; it is a folder"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "x: File name too long; shorten the name"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; check the path and its disk"),
    ],
)
def test_what_the_user_can_put_right_is_one_line(error: Exception, expected: str) -> None:
    outcome = run(error)
    assert outcome.exit_code == 1 and expected in outcome.stderr and outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "error", [TypeError("no"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), OSError("?")]
)
def test_a_fault_of_ours_is_called_that(error: Exception, cache: Path) -> None:
    outcome = run(error)
    assert outcome.exit_code == 1
    assert f"a fault of this program, not of your files: {type(error).__name__}" in outcome.stderr
    found = re.search(r"traceback is in (\S+),", outcome.stderr)
    assert found and Path(found[1]).parent == cache / "faults"
    assert "Traceback" in Path(found[1]).read_text()
    assert [entry.path for entry in list_entries()] == [Path(found[1])]


def test_wrong_use_and_interrupts_stay_what_they_are() -> None:
    assert run(click.UsageError("no such option")).exit_code == 2
    assert run(KeyboardInterrupt()).exit_code == 130


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_cannot_be_synced_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "content")
    assert (tmp_path / "a.txt").read_text() == "content"
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        sync(tmp_path / "a.txt")
