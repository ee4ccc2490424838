"""What a decoding worker says to the main process."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssrl.extract import decoding
from ssrl.extract.decoding import Decoded, Decoder, DecoderLost, Failed, Filled, Lost, Request, _decode
from ssrl.geometry import Geometry
from tests import media
from tests.reading import needs_decord

GEOMETRY = Geometry(48, 80, 16, ((48, 80),))


def say(request: Request, num_snippets: int = 0) -> list[Any]:
    """All messages about one video, with a slot for each of its snippets."""
    ours, theirs = Pipe()
    for slot in range(num_snippets):
        ours.send(slot)  # gives it back
    end = _decode(theirs, request, np.empty((max(1, num_snippets), 16, 48, 80, 3), np.uint8), GEOMETRY)
    return [*(ours.recv() for _ in range(num_snippets)), end]


def test_each_snippet_then_the_end(tmp_path: Path) -> None:
    path = media.write_h264(tmp_path / "v.mp4", 17)
    assert say(Request(path), num_snippets=2) == [Filled(0), Filled(1), Decoded(17, 25.0, 0)]


def test_what_cannot_be_read_has_failed(tmp_path: Path) -> None:
    (said,) = say(Request(tmp_path / "absent.mp4"))
    assert isinstance(said, Failed) and "absent.mp4" in said.message


@needs_decord
def test_what_another_decoder_may_read_is_lost(tmp_path: Path) -> None:
    path = media.cut_head(media.write_mpeg4(tmp_path / "v.avi", 40), tmp_path / "cut.avi", packets=5)
    (said,) = say(Request(path, backend="decord"))
    assert isinstance(said, Lost) and "backend 'pyav'" in said.message


def test_the_start_of_a_decoder_does_not_count_as_silence(tmp_path: Path) -> None:
    path = media.write_h264(tmp_path / "v.mp4", 17)
    with Decoder(GEOMETRY, num_slots=2, time_limit_seconds=0.5) as decoder:  # it takes seconds to import its libraries
        decoder.begin(Request(path))
        received = []
        while not isinstance(said := decoder.receive(), Decoded):
            if said is not None:
                received.append(said)
                decoder.give_back(said)
    assert (received, said.num_frames) == ([0, 1], 17)


def test_a_decoder_that_never_starts_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "START_SECONDS", 0.05)
    with Decoder(GEOMETRY, time_limit_seconds=0.01) as decoder:
        decoder.begin(Request(tmp_path / "v.mp4"))
        with pytest.raises(DecoderLost, match="allow more with --time-limit"):
            decoder.receive()
