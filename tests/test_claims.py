"""Lock files: who holds one, who may take one over, and that a holder notices when it is taken."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssrl import claims
from ssrl.claims import ClaimLost, claim

ENDED = 999_999_999  # above any process number that Linux gives


def write_lock(path: Path, owner: str, age_seconds: float = 0.0) -> None:
    path.write_text(owner)
    os.utime(path, (time.time() - age_seconds,) * 2)


@pytest.mark.parametrize(
    ("owner", "age_seconds", "ours"),
    [
        ("elsewhere:1\n", 0, False),
        ("elsewhere:1\n", claims.ABANDONED_SECONDS + 1, True),
        ("", 0, False),  # made, and not yet signed
        (f"{socket.gethostname()}:{ENDED}\n", 0, True),
        (f"{socket.gethostname()}:{os.getpid()}\n", 0, True),  # an earlier process of our number
    ],
)
def test_an_abandoned_lock_is_taken_over(tmp_path: Path, owner: str, age_seconds: float, ours: bool) -> None:
    lock = tmp_path / "lock"
    write_lock(lock, owner, age_seconds)
    with claim(lock) as held:
        assert (held is not None) == ours
        assert lock.read_text() == (claims._owner() if ours else owner)
    assert list(tmp_path.iterdir()) == ([] if ours else [lock])


def test_a_fresh_lock_that_was_moved_by_mistake_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes an abandoned lock over between our look at it and our move."""
    lock = tmp_path / "lock"
    write_lock(lock, "elsewhere:1\n", 10_000)

    def is_abandoned(owner: str, touched: float) -> bool:
        lock.unlink()
        write_lock(lock, "third:2\n")
        return True

    monkeypatch.setattr(claims, "_is_abandoned", is_abandoned)
    with claim(lock) as held:
        assert held is None and lock.read_text() == "third:2\n"
    assert list(tmp_path.iterdir()) == [lock]


def test_a_lock_is_kept_fresh_and_its_loss_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "REFRESH_SECONDS", 0.02)
    lock = tmp_path / "lock"
    with claim(lock) as held:
        assert held is not None
        os.utime(lock, (0, 0))
        wait_until(lambda: lock.stat().st_mtime > 0)
        held.check()
        write_lock(lock, "elsewhere:1\n")
        wait_until(held._lost.is_set)
        with pytest.raises(ClaimLost):
            held.check()
    assert lock.read_text() == "elsewhere:1\n"


def wait_until(happened: Callable[[], bool], seconds: float = 5.0) -> None:
    ends = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < ends
        time.sleep(0.01)
