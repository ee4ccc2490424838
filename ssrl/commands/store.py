"""ssrl-store: inspect, verify and pool a patch-feature store; what the cache holds."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal

from ssrl.cache import KINDS, Entry, clear_cache, get_cache_folder, list_entries, parse_limit, read_limit, shrink_cache
from ssrl.commands.options import HELP
from ssrl.console import EXIT_FAILED, handle_errors, note, results
from ssrl.errors import UserError

STORE = click.argument("store", type=click.Path(path_type=Path))


@click.group(context_settings=HELP)
def main() -> None:
    """Inspect or verify a feature store, or build its training view. List, limit or clear the cache.

    Example: ssrl-store verify features/shanghaitech
    """


@main.command(context_settings=HELP)
@STORE
@handle_errors
def info(store: Path) -> None:
    """Show how the features were made, and list the videos."""
    from ssrl.datasets.video import name_label
    from ssrl.plain import to_plain
    from ssrl.store.reader import Store
    from ssrl.store.sources import has_changed

    opened = Store(store)
    for name, value in to_plain(opened.config).items():
        results.print(f"{name:18}{value}", markup=False)
    records = opened.records()
    results.print(f"{'videos':18}{len(records)}, {sum(record.num_frames for record in records)} frames")
    for record in records:
        damage = f", {record.substituted_frames} substituted" if record.substituted_frames else ""
        damage += f", {record.missing_frames} missing at the end" if record.missing_frames else ""
        damage += ", its file has changed since: run ssrl-extract again" if has_changed(record) else ""
        anomalies = record.video.anomalies
        labels = "" if anomalies is None else f", {sum(b - a for a, b in anomalies)} anomalous"
        length = f"{record.num_frames} frames" + ("" if record.num_frames_known else " (unknown, 16 per row)")
        rows = f", {opened.num_rows(record.id)} segments" if record.rows == "segments" else ""
        results.print(
            f"  {record.id}  {record.video.split}, {name_label(record.video.label)}, {length}{rows}{labels}{damage}",
            markup=False,
        )
    for video_id in opened.unnamed_ids():
        results.print(f"  {video_id}  left out, no table names it any more", markup=False)


@main.command(context_settings=HELP)
@STORE
@handle_errors
def verify(store: Path) -> None:
    """Check every byte: checksums, shapes, finite values. Damaged videos are listed, and the exit code is 1."""
    from ssrl.store.reader import Store
    from ssrl.store.verify import verify as verify_store

    count, bad = 0, 0
    for finding in verify_store(Store(store)):
        count += 1
        if finding.problem:
            bad += 1
            results.print(f"{finding.video_id}: {finding.problem}", markup=False)
    results.print(f"{store}: {count} videos, {bad} damaged")
    if bad:
        sys.exit(EXIT_FAILED)


@main.command(context_settings=HELP)
@STORE
@click.option("--segments", "num_segments", default=32, show_default=True, help="Segments per video.")
@handle_errors
def segments(store: Path, num_segments: int) -> None:
    """Build the training view now instead of in the first training run."""
    from ssrl.store.reader import Store
    from ssrl.store.segments import open_segment_view

    view = open_segment_view(Store(store), num_segments, on_video=note)
    results.print(f"{view.path}: {len(view.ids)} videos", markup=False)


@main.command(context_settings=HELP)
@STORE
@handle_errors
def prune(store: Path) -> None:
    """Delete videos that the tables which filled the store no longer name."""
    from ssrl.store.layout import read_config
    from ssrl.store.writer import StoreWriter

    deleted = StoreWriter(store, read_config(store)).prune()
    for video_id in deleted:
        results.print(f"  {video_id}", markup=False)
    results.print(f"{store}: {len(deleted)} videos deleted", markup=False)


@main.command(context_settings=HELP)
@STORE
@handle_errors
def clean(store: Path) -> None:
    """Remove half-written files of killed runs. No run may be writing to this store."""
    from ssrl.store.layout import read_config
    from ssrl.store.writer import StoreWriter

    count = StoreWriter(store, read_config(store)).remove_leftovers()
    results.print(f"{store}: {count} half-written files removed", markup=False)


def parse_gigabytes(context: Any, parameter: Any, value: str | None) -> int | None:
    try:
        return None if value is None else parse_limit(value)
    except UserError as error:
        raise click.BadParameter(str(error)) from error


@main.command(context_settings=HELP)
@click.option("--clear", is_flag=True, help="Remove all but downloads: graphs and views are made again when needed.")
@click.option(
    "--limit", "down_to", callback=parse_gigabytes, metavar="GB", help="Remove the least recently used beyond it."
)
@handle_errors
def cache(clear: bool, down_to: int | None) -> None:
    """List what the cache holds, after clearing it or limiting its size. Takes no store.

    The folder is $SSRL_CACHE. Its limit at all times is $SSRL_CACHE_LIMIT, in GB.
    """
    removed = clear_cache() if clear else []
    if down_to is not None:
        removed += shrink_cache(down_to)
    for title, of_kind in _group(removed).items():
        if of_kind:
            results.print(f"removed: {title}: {_describe(of_kind)}", markup=False)
    entries, limit = list_entries(), read_limit()
    for title, of_kind in _group(entries).items():
        results.print(f"{title:18}{_describe(of_kind)}", markup=False)
    total = decimal(sum(entry.size for entry in entries))
    results.print(f"{get_cache_folder()}: {total}, limit {decimal(limit)} (SSRL_CACHE_LIMIT)", markup=False)


def _group(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Every kind, by its title, with its entries."""
    titles = dict.fromkeys(kind.title for kind in KINDS)
    return {title: [entry for entry in entries if entry.kind.title == title] for title in titles}


def _describe(entries: Sequence[Entry]) -> str:
    if not entries:
        return "none"
    last_used = time.localtime(max(entry.last_used for entry in entries))
    count = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
    size = decimal(sum(entry.size for entry in entries))
    return f"{count}, {size}, last used {time.strftime('%Y-%m-%d %H:%M', last_used)}"
