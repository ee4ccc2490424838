"""Compression: a camera's MPEG-4, JPEG frames, and AVI files.

In ShanghaiTech, normal training videos are MPEG-4 AVI files and abnormal ones JPEG frames, so the codec alone gives
away the label. Here, all videos are first compressed alike, as camera MPEG-4 and then JPEG. Abnormal videos are stored
as those JPEGs. Normal ones are decoded from them and stored as AVI with the finest quantizer; a slightly lower JPEG
quality and READING_LOSS compensate for the noise and rounding that this adds:

    all        frames -> MPEG-4 (quantizer 2 to 5, the same for both twins)
    abnormal          -> JPEG 85, stored
    normal            -> JPEG 80 -> MPEG-4 (quantizer 1), stored
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
TRANSIT_JPEG_QUALITY = 80  # of normal videos, before storage as AVI
READING_LOSS = 1  # gray values; FFmpeg's YUV-to-RGB conversion rounds down, a JPEG decoder to nearest
STORED_QUANTIZER = 1  # of the AVI files: the finest of MPEG-4
LONGEST_GROUP = 12  # frames between intra frames


def make_mpeg4_options(quantizer: int) -> dict[str, str]:
    return {"qmin": str(quantizer), "qmax": str(quantizer), "flags": "+bitexact", "idct": "simple"}


def configure(context: av.VideoCodecContext, height: int, width: int, quantizer: int) -> None:
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, FPS)
    context.framerate = Fraction(FPS)
    context.gop_size = LONGEST_GROUP
    context.thread_count = 1
    context.options = make_mpeg4_options(quantizer)


def compress_like_camera(frames: Iterable[np.ndarray], height: int, width: int, quantizer: int) -> Iterator[np.ndarray]:
    """Encode (H, W, 3) frames as a camera's MPEG-4 stream and decode them, one frame out per frame in."""
    encoder = av.CodecContext.create("mpeg4", "w")
    configure(encoder, height, width, quantizer)
    decoder = av.CodecContext.create("mpeg4", "r")
    decoder.thread_count = 1
    for index, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts = index
        for packet in encoder.encode(picture):
            yield from decode(decoder, packet)
    for packet in encoder.encode(None):
        yield from decode(decoder, packet)
    yield from decode(decoder, None)


def decode(decoder: av.VideoCodecContext, packet: av.Packet[av.VideoStream] | None) -> Iterator[np.ndarray]:
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
        stream = container.add_stream("mpeg4", rate=FPS, options=make_mpeg4_options(STORED_QUANTIZER))
        configure(stream.codec_context, height, width, STORED_QUANTIZER)
        for frame in frames:
            raised = np.minimum(frame, 255 - READING_LOSS) + np.uint8(READING_LOSS)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(raised, format="rgb24")))
        container.mux(stream.encode(None))
