"""ssrl-watch: a live source + checkpoint → scores and events, as they come."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ssrl.commands.options import HELP, make_request, option
from ssrl.console import handle_errors, note
from ssrl.workflows.watch import WatchRequest, watch_source

PATH = click.Path(path_type=Path)


@click.command(context_settings=HELP)
@click.argument("source")
@option(WatchRequest, "checkpoint", "--ckpt", type=PATH, help="Checkpoint from ssrl-train.")
@option(
    WatchRequest,
    "sinks",
    "--sink",
    type=str,
    multiple=True,
    show_default=False,
    help="Whom to tell of events: a folder, http(s)://, mqtt(s)://, frigate+http(s)://, apprise:. May be repeated.",
)
@option(WatchRequest, "secrets", type=PATH, help="File of lines NAME=VALUE, for $NAME in addresses.")
@option(WatchRequest, "name", help="Name of the camera.  [default: its host, or the file's name]")
@option(WatchRequest, "weights", help="The encoder's weights file.  [default: the checkpoint's weights]")
@option(WatchRequest, "zones", type=PATH, help="JSON of parts of the frame to watch or to ignore.")
@option(WatchRequest, "false_alarms", help="Share of normal snippets that may raise an alarm: 0.001, 0.01 or 0.05.")
@option(WatchRequest, "patience", help="Quiet snippets that end an event.")
@option(WatchRequest, "min_snippets", help="Snippets that an event lasts at least.")
@option(WatchRequest, "window", help="Snippets that the network sees at once.")
@option(WatchRequest, "fps", help="Frames per second to take.  [default: all]")
@option(WatchRequest, "realtime", "--realtime/--no-realtime", show_default=True, help="Read a file as fast as shown.")
@option(WatchRequest, "follow", help="The file is still being written: end after so many seconds without growth.")
@option(WatchRequest, "timeout", help="Seconds without a picture after which the camera counts as lost.")
@option(WatchRequest, "clip_before", help="Seconds of a clip before its event.")
@option(WatchRequest, "clip_after", help="Seconds of a clip after its event.")
@option(WatchRequest, "device", help="Device to run the encoder and the network on.")
@handle_errors
def main(**options: Any) -> None:
    """Watch a camera: rtsp://, http(s)://, /dev/video0, or a file. One line of JSON per snippet goes to stdout.

    Example: ssrl-watch 'rtsp://$USER:$PASSWORD@gate/live' --secrets camera.env --ckpt best.pt --sink events/
    """
    from ssrl.watch.notices import to_line

    request = make_request(WatchRequest, **options)
    sys.argv[1:] = ["..."]  # an unforeseen error's report has the command line in it, and that may have a password
    with stopping_by_signal() as stop:

        def tell(line: dict[str, Any]) -> None:
            try:
                print(to_line(line), flush=True)
            except BrokenPipeError:  # whoever read the lines has ended
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                stop.set()

        result = watch_source(request, tell, stop)
    note(f"{result.num_snippets} snippets, {result.num_events} events, {result.dropped_frames} frames dropped")


@contextmanager
def stopping_by_signal() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event; the second time, they interrupt."""
    stop = threading.Event()

    def handle(signum: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
