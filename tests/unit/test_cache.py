"""The cache stays within its limit, and nothing but ours is ever removed from its folder."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssrl import cache
from ssrl.cache import clear_cache, keep_within_limit, list_entries, mark_used, read_limit, shrink_cache
from ssrl.commands.store import main
from ssrl.errors import UserError

KEY, DAY, NOW = "0123456789abcdef", 86_400.0, time.time()
PATHS = {  # one of each
    "graph": f"openvino/{KEY}/12345.blob",
    "inductor": "inductor/torch-2.9.1+cpu/graph.py",
    "view": f"views/{KEY}/segments-32.h5",
    "speed": f"speed/{KEY}.json",
    "fault": "faults/20260102-030405-678.txt",
    "download": "weights/I3D.pyth",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SSRL_CACHE_LIMIT", raising=False)
    return tmp_path / "cache"


def put(path: Path, days_ago: float = 1.0, size: int = 1000) -> Path:
    """A file of so many bytes that was used so long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    then = NOW - days_ago * DAY
    os.utime(path, (then, then))
    if path.suffix == ".pyth":
        put(path.with_name(f"{path.name}.sha256"), days_ago, 0)
    os.utime(path.parent, (then, then))
    return path


@pytest.mark.parametrize("name", [name for name in PATHS if name != "download"])
def test_the_least_recently_used_goes_first_whatever_its_kind(folder: Path, name: str) -> None:
    oldest = put(folder / PATHS[name], days_ago=9)
    others = [put(folder / path, days_ago=2) for path in PATHS.values() if folder / path != oldest]
    assert [entry.size for entry in shrink_cache(5000)] == [1000]
    assert not oldest.exists() and all(path.exists() for path in others)


def test_downloads_go_last_with_their_hash(folder: Path) -> None:
    old, recent = put(folder / "weights/a.pyth", days_ago=9), put(folder / "weights/b.pyth", days_ago=8)
    graph = put(folder / PATHS["graph"])
    shrink_cache(2000)
    assert not graph.exists() and old.exists()
    shrink_cache(1999)
    assert sorted(path.name for path in old.parent.iterdir()) == ["b.pyth", "b.pyth.sha256"] and recent.exists()


def test_what_was_used_lately_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSRL_CACHE_LIMIT", "1e-9")
    fresh, marked = put(folder / f"openvino/{KEY}/1.blob", days_ago=0), put(folder / f"openvino/{KEY}/2.blob")
    compiled, old = put(folder / PATHS["inductor"]), put(folder / PATHS["view"])
    changed = marked.stat().st_mtime_ns
    mark_used(marked)
    mark_used(folder / "inductor" / "torch-2.9.1+cpu")
    mark_used(folder / "gone")
    keep_within_limit()
    assert fresh.exists() and marked.exists() and compiled.exists() and not old.exists()
    assert marked.stat().st_mtime_ns == changed


def test_what_this_process_used_stays_however_long_it_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSRL_CACHE_LIMIT", "1e-9")
    monkeypatch.setattr(cache, "STARTED", time.time() - 3 * DAY)
    before, since = put(folder / f"speed/{KEY}.json", days_ago=4), put(folder / PATHS["view"], days_ago=2)
    keep_within_limit()
    assert since.exists() and not before.exists()


def test_listing_a_folder_is_no_use_of_it(folder: Path) -> None:
    put(folder / PATHS["inductor"], days_ago=3)
    os.utime(folder / "inductor" / "torch-2.9.1+cpu", (time.time(), time.time() - 3 * DAY))
    [entry] = list_entries()
    assert time.time() - entry.last_used > 2 * DAY


def test_it_says_what_it_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SSRL_CACHE_LIMIT", "0.0000015")
    caplog.set_level(logging.INFO)
    put(folder / PATHS["speed"])
    keep_within_limit()
    assert caplog.text == ""
    put(folder / PATHS["view"])
    keep_within_limit()
    assert "1 least recently used entries" in caplog.text and "SSRL_CACHE_LIMIT" in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "notes.txt",
        "thesis.pyth",
        "openvino/README.md",
        "openvino/model.blob",
        "openvino/samples/12345.blob",
        "inductor/motor/plan.txt",
        "inductor/torch-2.9.1",
        f"views/{KEY}/summer.jpg",
        f"views/a/{KEY}/segments-32.h5",
        "speed/records.json",
        f"speed/{KEY}.json/mine.txt",
        "faults/tectonic.txt",
        "weights/barbell.txt",
        "weights/own.pt",
        "weights/deeper/own.pth",
        f"other/{KEY}.json",
    ],
)
def test_files_of_others_are_kept(folder: Path, path: str) -> None:
    """Someone may name a folder that holds other things."""
    foreign = put(folder / path)
    (folder / "weights").mkdir(exist_ok=True)
    unknown = folder / "weights" / "without-a-hash.pth"
    unknown.touch()
    assert list_entries() == [] and clear_cache() == [] and shrink_cache(0) == []
    assert foreign.exists() and unknown.exists()


def test_links_are_neither_followed_nor_removed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    files = [put(elsewhere / path) for path in PATHS.values()]
    folder.mkdir()
    (folder / "openvino").symlink_to(elsewhere / "openvino")  # the folder of a kind
    (folder / "views").mkdir()
    (folder / "views" / KEY).symlink_to(elsewhere / "views" / KEY)  # a folder within
    (folder / "speed").mkdir()
    (folder / "speed" / f"{KEY}.json").symlink_to(elsewhere / PATHS["speed"])  # a file
    (folder / "inductor").mkdir()
    (folder / "inductor" / "torch-2").symlink_to(elsewhere / "inductor")  # a folder that would go as a whole
    assert list_entries() == [] and shrink_cache(0) == []
    put(folder / "inductor" / "torch-1" / "graph.py")
    (folder / "inductor" / "torch-1" / "link").symlink_to(elsewhere)
    assert len(shrink_cache(0)) == 1
    assert all(path.exists() for path in files) and (folder / "openvino").is_symlink()


def test_a_killed_process_leaves_nothing_for_good(folder: Path) -> None:
    leftover = put(folder / f"views/{KEY}/segments-32.h5.partial-0a1b2c3d")
    growing = put(folder / f"views/{KEY}/segments-32.h5.partial-ffffffff", days_ago=0)
    assert [entry.path for entry in clear_cache()] == [leftover]
    assert growing.exists() and not leftover.exists()


def test_two_processes_may_remove_at_once(folder: Path) -> None:
    for index in range(300):
        put(folder / f"speed/{index:016x}.json")
        put(folder / f"inductor/torch-2.{index}/graph.py")
    failures: list[BaseException] = []

    def shrink() -> None:
        try:
            shrink_cache(0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=shrink) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and list_entries() == []


def test_a_file_may_vanish_while_it_is_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, kept = put(folder / f"openvino/{KEY}/1.blob"), put(folder / PATHS["speed"])
    walk = cache._walk

    def walk_and_lose(folder: Path, levels: int) -> list[Path]:
        paths = list(walk(folder, levels))
        gone.unlink(missing_ok=True)
        return paths

    monkeypatch.setattr(cache, "_walk", walk_and_lose)
    assert [entry.path for entry in list_entries()] == [kept]


def test_a_cache_that_is_not_there_is_empty(folder: Path) -> None:
    keep_within_limit()
    assert list_entries() == [] and not folder.exists()


@pytest.mark.parametrize(("text", "limit"), [(None, 10**10), ("", 10**10), ("2.5", 2_500_000_000), ("1e-3", 10**6)])
def test_the_limit_is_in_gigabytes(monkeypatch: pytest.MonkeyPatch, text: str | None, limit: int) -> None:
    if text is not None:
        monkeypatch.setenv("SSRL_CACHE_LIMIT", text)
    assert read_limit() == limit


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "10G", "much"])
def test_any_other_limit_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SSRL_CACHE_LIMIT", text)
    with pytest.raises(UserError, match=rf"SSRL_CACHE_LIMIT: '{text}' .* allowed is a positive number of GB"):
        keep_within_limit()


# ssrl-store cache


def run(*arguments: str) -> list[str]:
    outcome = CliRunner().invoke(main, ["cache", *arguments], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.stderr
    return outcome.stdout.splitlines()


def test_the_command_lists_by_kind(folder: Path) -> None:
    for name in ("graph", "inductor", "view", "download"):
        put(folder / PATHS[name], size=2_500_000)
    then = time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / PATHS["view"]).stat().st_mtime))
    assert run() == [
        f"compiled graphs   2 entries, 5.0 MB, last used {then}",
        f"training views    1 entry, 2.5 MB, last used {then}",
        "measurements      none",
        "fault logs        none",
        f"downloads         1 entry, 2.5 MB, last used {then}",
        f"{folder}: 10.0 MB, limit 10.0 GB (SSRL_CACHE_LIMIT)",
    ]


def test_the_command_clears_all_but_downloads(folder: Path) -> None:
    files = {name: put(folder / path, days_ago=0) for name, path in PATHS.items()}
    lines = run("--clear")
    removed = [line.split(": ")[1] for line in lines if line.startswith("removed: ")]
    assert removed == ["compiled graphs", "training views", "measurements", "fault logs"]
    assert {name for name, path in files.items() if path.exists()} == {"download"}
    assert lines[-1].startswith(f"{folder}: 1.0 kB")
    assert not any(line.startswith("removed") for line in run("--clear"))


def test_the_command_removes_down_to_a_limit(folder: Path) -> None:
    old, recent = put(folder / PATHS["graph"], days_ago=9), put(folder / PATHS["view"])
    assert run("--limit", "0.0000015")[0].startswith("removed: compiled graphs: 1 entry")
    assert not old.exists() and recent.exists()
    assert CliRunner().invoke(main, ["cache", "--limit", "nan"]).exit_code == 2
