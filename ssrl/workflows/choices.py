"""The named choices of requests."""

from typing import Literal

EncoderName = Literal["micro3d", "i3d_r50", "swin3d_t"]  # of `ssrl.extract.encoders.ENCODERS`
Runtime = Literal["auto", "openvino", "torch-compile", "torch"]
Precision = Literal["auto", "float32", "bfloat16"]
Decoder = Literal["auto", "pyav", "decord"]  # of video files, not of folders of frames
Protocol = Literal["true", "released"]  # true frame counts, or padded as in common ground-truth files
Where = Literal["contribution", "attention"]  # heatmaps: contribution to the score, or PSR's attention (Fig. 6)
