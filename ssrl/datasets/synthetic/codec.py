"""Compression: a camera's MPEG-4, JPEG frames, and AVI files.

In ShanghaiTech the normal training videos are MPEG-4 AVI files and the abnormal ones JPEG frames, so their codec alone
tells the label. Here every video of either label goes the same way first, camera MPEG-4 and then JPEG. Abnormal frames
are stored as those JPEGs. Normal ones are decoded from them and stored as an AVI with the finest quantiser there is;
the little noise and the rounding that it adds are made up for by a slightly lower JPEG quality and by READING_LOSS:

    all        frames -> MPEG-4 (quantiser 2 to 5, the same for both of a pair of twins)
    abnormal          -> JPEG 85, stored
    normal            -> JPEG 80 -> MPEG-4 (quantiser 1), stored
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ssrl.datasets.synthetic.motion import FPS

STORED_JPEG_QUALITY = 85
TRANSIT_JPEG_QUALITY = 80  # of normal videos, before they are stored as AVI
READING_LOSS = 1  # gray values; FFmpeg's usual conversion from YUV to RGB rounds down, a JPEG decoder to the nearest
STORED_QUANTISER = 1  # of the AVI files: the finest that MPEG-4 has
LONGEST_GROUP = 12  # frames from one intra frame to the next


def mpeg4_options(quantiser: int) -> dict[str, str]:
    return {"qmin": str(quantiser), "qmax": str(quantiser), "flags": "+bitexact", "idct": "simple"}


def configure(context: av.VideoCodecContext, height: int, width: int, quantiser: int) -> None:
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, FPS)
    context.framerate = Fraction(FPS)
    context.gop_size = LONGEST_GROUP
    context.thread_count = 1
    context.options = mpeg4_options(quantiser)


def through_camera(frames: Iterable[np.ndarray], height: int, width: int, quantiser: int) -> Iterator[np.ndarray]:
    """Encode and decode (H, W, 3) frames as a camera's MPEG-4 stream does; one frame out for each in."""
    encoder = av.CodecContext.create("mpeg4", "w")
    configure(encoder, height, width, quantiser)
    decoder = av.CodecContext.create("mpeg4", "r")
    decoder.thread_count = 1
    for index, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts = index
        for packet in encoder.encode(picture):
            yield from decoded(decoder, packet)
    for packet in encoder.encode(None):
        yield from decoded(decoder, packet)
    yield from decoded(decoder, None)


def decoded(decoder: av.VideoCodecContext, packet: av.Packet | None) -> Iterator[np.ndarray]:
    for picture in decoder.decode(packet):
        yield picture.to_ndarray(format="rgb24")


def to_jpeg(frame: np.ndarray, quality: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def from_jpeg(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


def write_avi(path: Path, frames: Iterable[np.ndarray], height: int, width: int) -> None:
    """Write (H, W, 3) frames as MPEG-4 part 2 in AVI."""
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=FPS, options=mpeg4_options(STORED_QUANTISER))
        configure(stream.codec_context, height, width, STORED_QUANTISER)
        for frame in frames:
            raised = np.minimum(frame, 255 - READING_LOSS) + np.uint8(READING_LOSS)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(raised, format="rgb24")))
        container.mux(stream.encode(None))
